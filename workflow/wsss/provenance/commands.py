"""The commands ``audit``, ``adopt``, ``sign``, ``diff`` and ``crate``. They need neither PyTorch nor Snakemake."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss.errors import WsssError
from wsss.provenance import anchor
from wsss.provenance.audit import Audit, audit
from wsss.provenance.describe import as_json, cell, concerning, describe
from wsss.provenance.mend import mend

if TYPE_CHECKING:
    from wsss.plan import Plan

CLEAN, FINDINGS = 0, 1  # exit codes; 2 is that of every WsssError: it could not be audited


def run_audit(
    target: str,
    *,
    configfile: str | None = None,
    dataset: str | None = None,
    cold: bool = False,
    full: bool = False,
    as_data: bool = False,
    number: str | None = None,
    expect: str | None = None,
    images: str | None = None,
    signers: str | None = None,
    recount: bool = False,
    rerun: int = 0,
    set_aside: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Audit a target, print what was seen and return the exit code.

    Args:
        target: a file, a folder, or the word for a table, a figure or claims.
        configfile, dataset: where a word is looked up, if not in the project's own configuration. If a word or a
            ``configfile`` is given, the settings of the target are compared with those of today.
        cold: read every file, whatever an earlier audit has found.
        full: print every record, and every result that a finding affects.
        as_data: print JSON.
        number: print the chain of one cell, ``ROW,COLUMN``.
        expect: the digest that the target must have.
        images: the folder of the images, if it is not where the index says.
        signers: a file of allowed signers, by which the signature is checked.
        recount: count the pixels of masks and scores again.
        rerun: number of jobs to run again.
        set_aside: set aside what does not match.
        say: prints.

    Raises:
        WsssError: it cannot be audited.
    """
    folder, settings = target, None
    if configfile or not _is_path(target):
        plan, name = _plan(target, configfile, dataset)
        folder, settings = _folder(plan, name, target), cache(partial(expected, plan))
    found = audit(folder, cold=cold, expect=expect, images_folder=images, settings=settings)
    if signers:
        who, findings = anchor.verify(found, signers)
        found.findings += findings
        found.notes += [f"Signed by {who}."] if who else []
    if recount or rerun:
        from wsss.provenance.rerun import run_again

        again = run_again(found, rerun, recount)
        found.findings += again.findings
        found.notes += again.notes
        found.left_out += again.left_out
    if as_data:
        say(json.dumps(as_json(found), indent=1, sort_keys=True))
    elif number:
        say("\n".join([cell(found, number), *(finding.line(full) for finding in concerning(found, number))]))
    else:
        say(describe(found, full))
    if set_aside:
        say(str(mend(found)))
    return FINDINGS if found.findings else CLEAN


def find(target: str, configfile: str | None = None, dataset: str | None = None) -> str:
    """Return the folder of a table, a figure or claims by their word; a path stays as it is."""
    return target if _is_path(target) else _folder(*_plan(target, configfile, dataset), target)


def _is_path(target: str) -> bool:
    return Path(target).exists() or "/" in target


def _folder(plan: Plan, dataset: str, target: str) -> str:
    """Return the folder that a target is in.

    Raises:
        WsssError: it is neither a path nor a word of the plan.
    """
    if _is_path(target):
        return target
    from wsss.plan import targets

    folders = targets.folders(plan, dataset)
    if target not in folders:
        raise WsssError(f"{target}: no such file, table, figure or claims; `wsss targets` lists them")
    return folders[target]


def _plan(target: str, configfile: str | None, dataset: str | None, cure: str = "give its folder") -> tuple[Plan, str]:
    try:
        from wsss.plan.configuration import load_plan
    except ImportError as error:
        raise WsssError(
            f"{target}: {error.name} is not installed, and the configuration cannot be read without it; {cure}"
        ) from None
    plan = load_plan(configfile)
    return plan, dataset or plan.config["dataset"]


def run_sign(target: str, key: str, say: Callable[[str], None] = print) -> int:
    """Audit a target in full and sign it."""
    found = audit(find(target), cold=True)
    say(f"{anchor.sign(found, key)}\n{anchor.statement(found)}".rstrip())
    return CLEAN


def run_adopt(
    targets: list[str], configfile: str | None = None, dataset: str | None = None, say: Callable[[str], None] = print
) -> int:
    """Verify copied results and take them over; without targets, all that are there.

    Raises:
        WsssError: a target does not match its records. Nothing is taken over.
    """
    from wsss.provenance.adopt import adopt

    plan, name = _plan("adoption", configfile, dataset, cure="install all of the project")
    audits = []
    for folder in [find(target, configfile, dataset) for target in targets] or _made(plan, name):
        found = audit(folder, cold=True, code=False)
        if found.findings:
            say(describe(found))
            raise WsssError(f"{folder}: is not taken over, since it does not match its records")
        audits.append(found)
    say(str(adopt(audits, cache(partial(expected, plan)))))
    return CLEAN


def _made(plan: Plan, dataset: str) -> list[str]:
    """List what has a record: tables, figures, claims, and the page that shows them."""
    from wsss.plan import targets

    folders = targets.folders(plan, dataset).values()
    page = plan.results / dataset / "report"
    made = [folder for folder in folders if Path(folder, "record.json").is_file()]
    return [*made, str(page)] if (page / "index.record.json").is_file() else made


def expected(plan: Plan, key: str) -> Any:
    """Return the settings of today that belong in a config.yaml; None for one that the plan does not know."""
    from wsss.plan import configuration, drawings
    from wsss.plan.runs import Run
    from wsss.plan.target import Target
    from wsss.provenance.place import DRAWINGS, Home

    parts = key.split("/")
    try:
        if home := Home.of(key):
            run = Run(home.dataset, home.paper, home.run)
            return plan.stage_config(run, home.seed, home.stage)
        if len(parts) == 3 and parts[1] == "data":
            return plan.data_config(parts[0])
        if len(parts) == 4 and parts[1:3] == ["data", "test"]:
            return plan.test_config(parts[0])
        if len(parts) == 3 and parts[1] == "report":
            return configuration.of_results(plan.config)
        if len(parts) == 4 and parts[1] in DRAWINGS:
            target = Target.of(parts[1], parts[2])
            return drawings.drawing(plan, parts[0], target)
    except WsssError:  # a run, a paper or a data set that is no longer configured
        return None
    return None


def run_diff(one: str, other: str, say: Callable[[str], None] = print) -> int:
    """Say why two results differ."""
    from wsss.provenance.difference import compare

    found = compare(_audited(one), _audited(other))
    say(str(found))
    return CLEAN if found.none else FINDINGS


def _audited(target: str) -> Audit:
    return audit(find(target), code=False)


def run_crate(target: str, out: str, files: bool = False, say: Callable[[str], None] = print) -> int:
    """Write a research object crate of a target and everything it rests on."""
    from wsss.provenance.crate import write_crate

    say(str(write_crate(audit(find(target), code=False), Path(out), files)))
    return CLEAN
