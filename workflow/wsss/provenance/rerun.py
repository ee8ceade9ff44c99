"""Run jobs again from their records and compare what they make, byte by byte.

A job runs in a temporary folder, where the results are a link. Its command line is read by the commands' own parser and
put together anew, so a record can ask for nothing but a command of this project, and can name no place to write to.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from wsss.files import sha256
from wsss.provenance.audit import Audit
from wsss.provenance.chain import Chain, Link
from wsss.provenance.content import Broken, Content, key_in, parse
from wsss.provenance.findings import Finding, clean, listed
from wsss.provenance.machine import kind_of, machine, repeats
from wsss.provenance.place import is_key, record_path
from wsss.stages import STAGES

PACKAGE = Path(__file__).parent.parent
AGAIN = "again"  # folder of what is made
TOLERANCE = 0.001  # of a metric, as a fraction, on another kind of machine
DRAWN = ("table", "figure", "judge")


class Impossible(Exception):
    """A job that cannot be run again here. The message says why."""


@dataclass
class Again:
    """The outcome of running jobs again."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run_again(found: Audit, number: int, recount: bool = False, seed: int | None = None) -> Again:
    """Run a random sample of the jobs of a chain again.

    Args:
        found: the audit of the chain.
        number: the size of the sample.
        recount: run every measurement again as well, which counts the pixels of masks and scores anew.
        seed: of the draw. None: nobody can know the sample beforehand.
    """
    again, chain = Again(), found.chain
    known = [link for link in chain.from_below() if link.command in STAGES or link.command in DRAWN]
    draw: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
    chosen = draw.sample(known, min(number, len(known)))
    if recount:
        names = {link.key for link in chosen}
        chosen += [link for link in known if link.command == "measure" and link.key not in names]
    same, lacking = 0, Counter[str]()
    for link in chosen:
        try:
            findings = list(_compared(chain, link, again.notes))
        except ModuleNotFoundError as error:
            lacking[str(error)] += 1
            continue
        except Impossible as error:
            findings = [Finding("untraced", link.first, f"could not be made again: {error}")]
        again.findings += findings
        same += not findings
    ran = len(chosen) - lacking.total()
    again.notes.append(f"{ran} jobs run again from their records, {same} gave what was recorded.")
    again.left_out += [f"{number} jobs cannot be run again here: {error}" for error, number in lacking.items()]
    return again


def _compared(chain: Chain, link: Link, notes: list[str]) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="wsss-again-") as name:
        folder = Path(name)
        _lay_out(chain, link, folder)
        arguments, out = command_line(link.content)
        key = key_in(out, link.content["results"])
        if key is None:
            raise Impossible(f"it wrote to {out}, which is not in its results")
        made = folder / AGAIN / key
        made.parent.mkdir(parents=True, exist_ok=True)
        _run(link, [*arguments, "--out", str(made)], folder)
        differing = [file for file in link.content["outputs"] if not _is_same(link, file, key, made)]
        if not differing:
            return
        if (why := _may_differ(link, made)) and (close := _closeness(link, chain.place.path(key), made)):
            notes.append(f"{link.first}: {close}, on {why}")
            return
        text = f"'{link.command}' was run again from its record and made other bytes"
        rests = chain.resting_on([link.key])
        yield Finding("modified", listed(differing), text, rests, records=(link.key,))


def _lay_out(chain: Chain, link: Link, folder: Path) -> None:
    """Put links to the results, and to files that the job named relative to its folder, where it looks for them."""
    results, before = link.content["results"], str(link.content["machine"].get("folder") or "")
    if os.path.isabs(results):
        if os.path.realpath(results) != chain.place.real:
            raise Impossible(f"its results were in {results}; put them there")
    elif is_key(results):
        (folder / results).parent.mkdir(parents=True, exist_ok=True)
        (folder / results).symlink_to(chain.place.root)
    else:
        raise Impossible(f"its results were in '{results}', relative to a folder that is not known")
    for path in link.content["external"]:
        if before and path.startswith(before.rstrip("/") + "/"):
            near = folder / os.path.relpath(path, before)
            near.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(near):
                near.symlink_to(path)


def command_line(content: Content) -> tuple[list[str], str]:
    """Return the command line of a job without its output, and the output.

    Raises:
        Impossible: it is no command line of this project.
    """
    from wsss.arguments import COMMANDS, OUT
    from wsss.cli import parser

    try:
        with redirect_stderr(StringIO()):
            args: Any = parser().parse_args(content["argv"])
    except SystemExit:
        raise Impossible("its command line is none of this version") from None
    if args.command != content["command"]:
        raise Impossible(f"its command line is of '{clean(args.command)}'")
    found, out = [args.command], ""
    for argument in COMMANDS[args.command].arguments:
        value = getattr(args, argument.flag.lstrip("-").replace("-", "_"))
        if argument.role == OUT:
            out = value
        elif argument.switch:
            found += [argument.flag] if value else []
        elif value not in (None, (), []):
            found += [argument.flag, *(value if argument.many else [str(value)])]
    return found, out


def _run(link: Link, arguments: list[str], folder: Path) -> None:
    said = link.content["machine"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    environment |= {name: str(value) for name, value in (said.get("environment") or {}).items()}
    if threads := said.get("threads_asked"):
        environment["WSSS_THREADS"] = str(threads)
    command = [sys.executable, "-m", "wsss.cli", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        last = clean((result.stderr.strip() or "no reason given").splitlines()[-1])
        if last.startswith("ModuleNotFoundError: "):
            raise ModuleNotFoundError(last.removeprefix("ModuleNotFoundError: "))
        raise Impossible(last)


def _is_same(link: Link, file: str, out: str, made: Path) -> bool:
    path = _counterpart(file, out, made)
    if link.command == "index" and file.endswith("/dataset.json") and path.is_file():
        return _relative_root(path) or sha256(path) == link.content["outputs"][file]["sha256"]
    return path.is_file() and sha256(path) == link.content["outputs"][file]["sha256"]


def _relative_root(about: Path) -> bool:
    """Tell whether the folder of the images is named relative to that of the index, which is another one now."""
    return str(json.loads(about.read_text(encoding="utf-8"))["root"]).startswith("..")


def _counterpart(file: str, out: str, made: Path) -> Path:
    return made if file == out else made / file.removeprefix(f"{out}/")


def _may_differ(link: Link, made: Path) -> str | None:
    """Return the reason why a rerun may give other bytes than recorded; None if it must give the same."""
    here = machine(str(link.content["machine"].get("device")))
    record = record_path(made)
    try:
        here = parse(record.read_bytes())["machine"]
    except (OSError, Broken):
        here["device"] = link.content["machine"].get("device")
    if kind_of(here) != kind_of(link.content["machine"]):
        return "another kind of machine"
    return None if repeats(link.content["machine"]) else "a GPU without deterministic kernels"


def _closeness(link: Link, recorded: Path, made: Path) -> str | None:
    """Return a note if a new file may pass although its bytes differ; else None.

    Metrics are compared in value. What a stage with a network made passes without being compared.
    """
    if link.command != "measure":
        return "other bytes" if link.command in STAGES and STAGES[link.command].network else None
    then, now = (json.loads(path.read_bytes())["points"] for path in (recorded, made))
    largest = max(abs(now[name]["miou"] - point["miou"]) for name, point in then.items() if "miou" in point)
    return f"metrics within {100 * largest:.3f} points" if largest <= TOLERANCE else None
