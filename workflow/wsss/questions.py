"""The commands that people type: what there is, what it costs, where a number comes from.

Each command imports what it needs when it runs: ``wsss targets`` must not wait for torch.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from wsss import stages
from wsss.arguments import Argument, command, number
from wsss.errors import WsssError

if TYPE_CHECKING:
    from wsss.plan import Plan

CONFIGURATION = Argument("--configfile", "configuration file, read on top of the project's config.yaml", required=False)
DATASET = Argument("--dataset", "data set, if not the configured one", required=False)
RESULT = "a result: a file, a folder, or the name of a target of the configured data set"


# ---- what there is


@command("targets", CONFIGURATION, DATASET)
def _targets(args: Namespace) -> None:
    """List all claims, tables and figures that can be asked for, and their state."""
    from wsss.plan.cost import WIDTH
    from wsss.plan.state import listing

    rows = listing(*_plan(args))
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    for *words, how in rows:
        head = "  ".join(f"{word:<{width}}" for word, width in zip(words, wide, strict=True))
        print(f"{head}  {how}" if len(head) + 2 + len(how) <= WIDTH else f"{head.rstrip()}\n    {how}")


@command(
    "cost",
    Argument(
        "names",
        "names of tables, figures, claims or papers, such as seam_table2; none: what is made by default",
        many=True,
        required=False,
    ),
    CONFIGURATION,
    DATASET,
)
def _cost(args: Namespace) -> None:
    """Say what has to be computed before targets can be written: trainings, images, and time where it is known."""
    from wsss.plan import cost, targets
    from wsss.plan.work import Work

    plan, dataset = _plan(args)
    names = targets.chosen(plan, dataset, args.names) or targets.default(plan, dataset)
    work = Work(plan, dataset, names)
    print(cost.describe(work) or "Nothing has to be computed.", flush=True)
    if obstacle := work.obstacle():
        raise WsssError(obstacle)


def _plan(args: Namespace) -> tuple[Plan, str]:
    """Return the checked plan, and the data set that is asked for."""
    from wsss.plan.configuration import load_plan

    plan = load_plan(args.configfile)
    dataset = args.dataset or plan.config["dataset"]
    plan.check(dataset)
    return plan, dataset


# ---- provenance


def _switch(flag: str, text: str) -> Argument:
    return Argument(flag, text, required=False, switch=True)


def _optional(flag: str, text: str) -> Argument:
    return Argument(flag, text, required=False)


@command(
    "audit",
    Argument("target", "a result: a table, a figure or claims by name, or a file of any stage"),
    _optional("--cell", "ROW,COLUMN: say where this number of a table comes from"),
    _switch("--cold", "read every file again, whatever an earlier audit has found"),
    _switch("--recount", "count the pixels of masks and scores again"),
    Argument("--rerun", "number of jobs to run again and to compare", default="0", required=False),
    _optional("--expect", "digest that the target must have, as a table shows it and an audit prints it"),
    _optional("--images", "folder of the images, if it is not where the index says"),
    _optional("--signers", "file of allowed signers (as ssh-keygen takes it), by which the signature is checked"),
    _switch("--mend", "set aside what does not match, so that the next run makes it again"),
    _switch("--full", "print every record, and every result that a finding affects"),
    _switch("--json", "print JSON"),
    CONFIGURATION,
    DATASET,
)
def _audit(args: Namespace) -> None:
    """Check everything a result rests on, and name what does not match."""
    from wsss.provenance.commands import run_audit

    code = run_audit(
        args.target,
        configfile=args.configfile,
        dataset=args.dataset,
        cold=args.cold,
        full=args.full,
        as_data=args.json,
        number=args.cell,
        expect=args.expect,
        images=args.images,
        signers=args.signers,
        recount=args.recount,
        rerun=number(args.rerun, "--rerun", least=0, of="jobs"),
        set_aside=args.mend,
    )
    sys.exit(code)


@command("sign", Argument("target", RESULT), Argument("--key", "private key, as ssh-keygen makes it"))
def _sign(args: Namespace) -> None:
    """Audit a result, with every file read again, and sign its digests."""
    from wsss.provenance.commands import run_sign

    sys.exit(run_sign(args.target, args.key))


@command(
    "adopt",
    Argument("targets", "results to verify; none: all that are there", many=True, required=False),
    CONFIGURATION,
    DATASET,
)
def _adopt(args: Namespace) -> None:
    """Verify results that were copied from elsewhere, so that they are not computed again."""
    from wsss.provenance.commands import run_adopt

    sys.exit(run_adopt(args.targets, args.configfile, args.dataset))


@command("diff", Argument("one", RESULT), Argument("other", "the result to compare it with"))
def _diff(args: Namespace) -> None:
    """Say why two results differ: settings, code, inputs or environment."""
    from wsss.provenance.commands import run_diff

    sys.exit(run_diff(args.one, args.other))


@command(
    "inspect",
    Argument("maps", "folder of a run's class maps, such as results/shapes/seam/seam/seed0/cam"),
    Argument("--part", "images to look at: measured, rest or val; they need masks", default="measured", required=False),
)
def _inspect(args: Namespace) -> None:
    """Say how well each class was learned, by classifier and class maps, and what a disc in the middle would have."""
    from wsss.measure.inspection import describe, inspect

    print(describe(inspect(args.maps, args.part)))


@command(
    "crate",
    Argument("target", RESULT),
    Argument("--out", "folder to write"),
    _switch("--with-files", "put in the files themselves, too, not only their description"),
)
def _crate(args: Namespace) -> None:
    """Write a result and everything it rests on as a research object crate (RO-Crate 1.1)."""
    from wsss.provenance.commands import run_crate

    sys.exit(run_crate(args.target, args.out, args.with_files))


# ---- documents


@command(
    "evidence",
    Argument("claims", "data sets whose claims have been judged, or folders of judged claims", many=True),
    Argument("--out", "document to write the tables into", default="docs/evidence.md", required=False),
    CONFIGURATION,
)
def _evidence(args: Namespace) -> None:
    """Write the tables of docs/evidence.md: which claims hold on which data, from the records of what was computed."""
    from wsss.plan.configuration import load_plan
    from wsss.provenance.evidence import write_evidence

    results = load_plan(args.configfile).results
    folders = [Path(name) if "/" in name else results / name / "claims" / "claims" for name in args.claims]
    write_evidence(folders, args.out)


@command("stages")
def _stages(args: Namespace) -> None:
    """List the stages of a run: what each reads and makes, and the function behind it."""
    print(stages.as_markdown())


@command("schema")
def _schema(args: Namespace) -> None:
    """Print the JSON schema of a run's settings. Editors use it to complete and check them."""
    from wsss.settings.schema import json_schema

    print(json.dumps(json_schema(), indent=1))


@command("recipes")
def _recipes(args: Namespace) -> None:
    """Print the recipes: what each row of the tables follows, and where release, paper and project differ."""
    from wsss.plan.configuration import load_plan
    from wsss.plan.recipes import page

    print(page(list(load_plan(None).papers)))
