"""An audit in words: the numbers, what they were made by, what was found. For a person, and as JSON for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from wsss.errors import WsssError
from wsss.provenance.audit import Audit, unique
from wsss.provenance.chain import Link
from wsss.provenance.content import is_settings
from wsss.provenance.findings import Finding, clean, listed
from wsss.provenance.lineage import by_folder, metrics_of, name_of
from wsss.provenance.mend import unseen_by_snakemake
from wsss.provenance.place import Home
from wsss.provenance.today import LOCKED
from wsss.provenance.values import read_cells
from wsss.stages import STAGES

MOST = 8  # lines of the chain of one number, without its head
HEX = 12  # digits of a commit that are printed


def describe(found: Audit, full: bool = False) -> str:
    """Write the audit as text: numbers, circumstances, the tree below, digests, findings.

    Args:
        found: the audit.
        full: every record with its file, digest and circumstances, and every consequence of a finding.
    """
    link = found.chain.links.get(found.start)
    shown = link.first if link and found.target == found.start else found.target
    lines = [clean(found.chain.place.path(shown)), ""]
    if link:
        lines += [*_numbers(found, link), *_circumstances(found), "", *(_records(found) if full else _tree(found)), ""]
    lines += [f"content digest  {found.content}", f"root digest     {found.root}", "", _summary(found)]
    lines += [*found.left_out, *found.notes]
    return "\n".join([*lines, *(finding.line(full) for finding in found.findings), _verdict(found)])


def _numbers(found: Audit, link: Link) -> list[str]:
    """Write the cells of a table, one line each."""
    cells = read_cells(found.chain, link)
    if not cells:
        return []
    names = [f"{clean(name_of(cell))}, {clean(cell.get('column'))}" for cell in cells]
    width = min(44, max(map(len, names)))
    lines = [f"{'':<{width}}  {'reported':>9}  {'ours':>9}"]
    for name, cell in zip(names, cells, strict=True):
        numbers = "  ".join(f"{clean(cell.get(key)) or '-':>9}" for key in ("reported", "ours"))
        lines.append(f"{name:<{width}}  {numbers}  {clean(cell.get('verdict'))}")
    shown = [key for key in link.content["outputs"] if key.endswith("/table.csv")]
    if any(finding.place in shown for finding in found.findings):
        lines.append("These are not the numbers that were recorded: see the findings.")
    return [*lines, ""]


def _circumstances(found: Audit) -> list[str]:
    """List seeds, data sets, devices and commits of the jobs below."""
    links = list(found.chain.links.values())
    homes = [home for link in links if (home := Home.of(link.key))]
    commits = Counter(commit_of(link) for link in links)
    packages = {f"torch {link.content['packages']['torch']}" for link in links if "torch" in link.content["packages"]}
    rows = {
        "seed": {str(home.seed) for home in homes},
        "data set": {home.dataset for home in homes},
        "device": devices_of(links),
        "commit": commits,
        "packages": packages,
    }
    return [f"{name:<9} {listed(sorted(values), 4)}" for name, values in rows.items() if values]


def devices_of(links: Iterable[Link]) -> set[str]:
    """List what jobs ran on: devices, processors, GPUs."""
    found = set()
    for link in links:
        machine = link.content["machine"]
        found |= {str(machine.get("device")), str(machine.get("processor"))}
        if "gpu" in (machine.get("torch") or {}):
            found.add(str(machine["torch"]["gpu"]))
    return found


def commit_of(link: Link) -> str:
    """Return the abbreviated commit that a job ran, with a note if the sources had changes."""
    code = link.content["code"]
    if code["commit"] is None:
        return f"none (sources {code['package'][:HEX]})"
    return code["commit"][:HEX] + (" with changes" if code["dirty"] else "")


def _tree(found: Audit) -> list[str]:
    """Return the jobs below, one line per run: its stages in order, with the number of jobs of each."""
    runs: dict[str, Counter[str]] = {}
    for link in found.chain.from_below():
        home = Home.of(link.key)
        name = f"{home.dataset}/{home.paper}/{home.run}/seed{home.seed}" if home else link.key.rpartition("/")[0]
        runs.setdefault(clean(name), Counter())[clean(link.command)] += 1
    lines, order = [], [*STAGES]
    for name, jobs in reversed(runs.items()):
        stages = sorted(jobs.items(), key=lambda item: order.index(item[0]) if item[0] in STAGES else len(order))
        steps = [f"{stage} ({number} jobs)" if number > 1 else stage for stage, number in stages]
        lines.append(f"  {name}: {' > '.join(steps)}")
    return lines


def _records(found: Audit) -> list[str]:
    """Return every record: file, command, time, commit, device, identity."""
    lines = []
    for link in found.chain.links.values():
        content = link.content
        lines.append(f"  {clean(link.command):<12} {clean(link.first)}")
        about = [content["ended"], f"{content['seconds']:.0f} s", commit_of(link), content["machine"].get("device")]
        lines.append(f"  {'':<12} {content['identity']}  {'  '.join(map(clean, about))}")
    return lines


def _summary(found: Audit) -> str:
    seen = found.files + found.images
    counted = f"{len(found.chain.links)} records, {found.files} files, {found.images} images and masks compared"
    known = f", {seen - found.read} of them known from an earlier audit" if found.read < seen else ""
    numbers = found.recomputed
    again = f"; {numbers.cells} cells and {numbers.points} operating points calculated again" if numbers.points else ""
    return f"{counted}{known}{again}."


def _verdict(found: Audit) -> str:
    if not found.findings:
        return f"Everything{' that was looked at' if found.left_out else ''} matches its record."
    number = "1 finding." if len(found.findings) == 1 else f"{len(found.findings)} findings."
    if all(finding.today for finding in found.findings):
        return f"{number} The files are as they were made; {_made_again(found)}."
    return f"{number} `wsss audit TARGET --mend` sets aside what has to be made again."


def _made_again(found: Audit) -> str:
    """Say what Snakemake makes again, where code, settings or locked packages differ today."""
    if {name for finding in found.findings for name in (finding.place, *finding.also)} == {LOCKED}:
        return "other locked packages alone make nothing again, and each record lists the versions that ran"
    again = "`snakemake` makes again what rests on other code or other settings"
    if any(unseen_by_snakemake(found.chain, finding) for finding in found.findings):
        again += ", once `wsss audit TARGET --mend` has set aside the page, whose code it does not look at"
    return again


# ---- one number


def cell(found: Audit, name: str) -> str:
    """Write the chain of one number in fewer than ten lines.

    Args:
        found: the audit of a table.
        name: ``ROW,COLUMN`` as the table has them; ``ours`` stands for the only column. A row is named by its label
            alone, or with its words: ``CAM (ResNet38)``.

    Raises:
        WsssError: the table has no such cell, or several.
    """
    one, files = _chosen(found, name)
    head = f"{clean(name_of(one))}, {clean(one['column'])}: ours {clean(one['ours']) or '-'}"
    head += f", reported {clean(one['reported']) or '-'}, {clean(one['verdict'])}"
    if not files:
        return f"{head}\nNothing was computed for it."
    folders = by_folder(found.chain.below_one(found.chain.makers[files[0]]))
    steps = [_step(folder, links) for folder, links in folders.items()]
    shown = steps if len(steps) <= MOST else [*steps[: MOST - 2], f"  … {len(steps) - MOST + 1} more", steps[-1]]
    more = f", first of {len(files)} seeds" if len(files) > 1 else ""
    return "\n".join([f"{head}, {clean(one.get('points'))}{more}", *shown])


def concerning(found: Audit, name: str) -> list[Finding]:
    """Return the findings that concern one number: of the table's own files, and of all that its chain rests on."""
    table, (_, files) = found.chain.links[found.start], _chosen(found, name)
    below = [link for file in files for link in found.chain.below_one(found.chain.makers[file])]
    jobs = {name for link in below for name in (link.key, *link.content["outputs"], *link.content["inputs"])}
    own = {table.key, *table.content["outputs"], *filter(is_settings, table.content["inputs"])}
    of_own = [finding for finding in found.findings if {finding.place, *finding.records} & own]
    of_jobs = [finding for finding in found.findings if {finding.place, *finding.records, *finding.rests} & jobs]
    return unique([*of_own, *of_jobs])


def _chosen(found: Audit, name: str) -> tuple[dict[str, str], list[str]]:
    """Return a cell of a table by its name, and the metrics files that it was read from.

    Raises:
        WsssError: the table has no such cell, or several.
    """
    link = found.chain.links.get(found.start)
    cells = read_cells(found.chain, link) if link else []
    if link is None or not cells:
        raise WsssError(f"{found.target}: holds no table that can be read; name the folder of a table")
    chosen = [number for number, one in enumerate(cells) if _fits(one, name)]
    if len(chosen) != 1:
        of = [cells[number] for number in chosen] or cells
        choice = "; ".join(f"{name_of(one)},{one.get('column')}" for one in of)
        trouble = "is the name of several cells" if chosen else "is no cell of this table"
        raise WsssError(f"'{clean(name)}' {trouble}: choose one of {clean(choice)}")
    files = [key for key in metrics_of(link, chosen[0], cells[chosen[0]]) if key in found.chain.makers]
    return cells[chosen[0]], files


def _fits(one: dict[str, str], name: str) -> bool:
    """Tell whether a cell has this name: its row and its column, which may have commas themselves."""
    rows = (one.get("row") or "", name_of(one))
    columns = (one.get("column") or "", "ours", "")
    return any(_bare(f"{row},{column}") == _bare(name) for row in rows for column in columns)


def _bare(name: str) -> str:
    """Write a name in small letters, without spaces around its commas."""
    return ",".join(part.strip() for part in name.lower().split(","))


def _step(folder: str, links: list[Link]) -> str:
    first, content = links[0], links[0].content
    file = first.first.rpartition("/")[2] if len(links) == 1 else f"{len(links)} files"
    about = [
        f"content {content['identity'][:HEX]}",
        f"commit {commit_of(first)}",
        str(content["machine"].get("device")),
    ]
    return f"  {clean(first.command):<10} {clean(folder)}/{clean(file)}  {'  '.join(map(clean, about))}"


# ---- for programs


def as_json(found: Audit) -> dict[str, Any]:
    """Return the audit as nested mappings: digests, cells, records, findings."""
    link = found.chain.links.get(found.start)
    return {
        "target": found.target,
        "root_folder": str(found.chain.place.root),
        "record": found.start,
        "content_digest": found.content,
        "root_digest": found.root,
        "clean": not found.findings,
        "files": found.files,
        "images": found.images,
        "cells": read_cells(found.chain, link) if link else [],
        "records": {key: _about(each) for key, each in found.chain.links.items()},
        "findings": [_finding(each) for each in found.findings],
        "left_out": found.left_out,
        "notes": found.notes,
    }


def _about(link: Link) -> dict[str, Any]:
    content = link.content
    kept = ("command", "identity", "seed", "started", "ended", "seconds", "parents")
    device = content["machine"].get("device")
    return {**{key: content[key] for key in kept}, "commit": content["code"]["commit"], "device": device}


def _finding(finding: Any) -> dict[str, Any]:
    about = {"kind": finding.kind, "file": finding.place, "text": finding.text, "rests_on_it": finding.rests}
    return {**about, "also": list(finding.also)}
