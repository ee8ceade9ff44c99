"""An audit in words: the numbers, what they were made by, what was found. For a person, and as JSON for a program."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wsss.errors import WsssError
from wsss.provenance.audit import Audit
from wsss.provenance.chain import Link
from wsss.provenance.content import key_in
from wsss.provenance.findings import clean, listed
from wsss.provenance.place import Home
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
    lines = [clean(found.chain.place.path(found.target)), ""]
    link = found.chain.links.get(found.start)
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
    names = [f"{clean(cell.get('row'))}, {clean(cell.get('column'))}" for cell in cells]
    width = min(44, max(map(len, names)))
    lines = [f"{'':<{width}}  {'reported':>9}  {'ours':>9}"]
    for name, cell in zip(names, cells, strict=True):
        numbers = "  ".join(f"{clean(cell.get(key)) or '-':>9}" for key in ("reported", "ours"))
        lines.append(f"{name:<{width}}  {numbers}  {clean(cell.get('verdict'))}")
    if any(finding.place in link.content["outputs"] for finding in found.findings):
        lines.append("These are not the numbers that were recorded: see the findings.")
    return [*lines, ""]


def _circumstances(found: Audit) -> list[str]:
    """List seeds, data sets, devices and commits of the jobs below."""
    links = list(found.chain.links.values())
    homes = [home for link in links if (home := Home.of(link.key))]
    commits = Counter(_commit(link) for link in links)
    packages = {f"torch {link.content['packages']['torch']}" for link in links if "torch" in link.content["packages"]}
    processors = {str(link.content["machine"].get("processor")) for link in links}
    devices = {str(link.content["machine"].get("device")) for link in links}
    gpus = {str(torch["gpu"]) for link in links if (torch := link.content["machine"].get("torch")) and "gpu" in torch}
    rows = {
        "seed": {str(home.seed) for home in homes},
        "data set": {home.dataset for home in homes},
        "device": devices | gpus | processors,
        "commit": commits,
        "packages": packages,
    }
    return [f"{name:<9} {listed(sorted(values), 4)}" for name, values in rows.items() if values]


def _commit(link: Link) -> str:
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
        about = [content["ended"], f"{content['seconds']:.0f} s", _commit(link), content["machine"].get("device")]
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
    if found.findings:
        number = "1 finding" if len(found.findings) == 1 else f"{len(found.findings)} findings"
        return f"{number}. `wsss audit TARGET --mend` sets aside what has to be made again."
    return f"Everything{' that was looked at' if found.left_out else ''} matches its record."


# ---- one number


def cell(found: Audit, name: str) -> str:
    """Write the chain of one number in fewer than ten lines.

    Args:
        found: the audit of a table.
        name: ``ROW,COLUMN`` as the table has them; ``ours`` stands for the only column.

    Raises:
        WsssError: the table has no such cell, or nothing was computed for it.
    """
    link = found.chain.links.get(found.start)
    cells = read_cells(found.chain, link) if link else []
    if link is None or not cells:
        raise WsssError(f"{found.target}: holds no table that can be read; name the folder of a table")
    row, _, column = name.rpartition(",")
    chosen = [one for one in cells if _fits(one, row.strip(), column.strip())]
    if not chosen:
        choice = "; ".join(f"{one.get('row')},{one.get('column')}" for one in cells)
        raise WsssError(f"no cell '{name}': choose one of {clean(choice)}")
    one = chosen[0]
    head = f"{clean(one['row'])}, {clean(one['column'])}: ours {clean(one['ours']) or '-'}"
    lines = [f"{head}, reported {clean(one['reported']) or '-'}, {clean(one['verdict'])}"]
    files = [key for key in _metrics_of(link, one) if key in found.chain.makers]
    if not files:
        return "\n".join([*lines, "Nothing was computed for it."])
    steps = _steps(found, found.chain.makers[files[0]])
    shown = steps if len(steps) <= MOST else [*steps[: MOST - 2], f"  … {len(steps) - MOST + 1} more", steps[-1]]
    more = f", first of {len(files)} seeds" if len(files) > 1 else ""
    return "\n".join([f"{lines[0]}, {clean(one.get('points'))}{more}", *shown])


def _fits(one: dict[str, str], row: str, column: str) -> bool:
    words = (one.get("column") or "").lower()
    return (one.get("row") or "").lower() == row.lower() and column.lower() in (words, "ours", "")


def _metrics_of(link: Link, one: dict[str, str]) -> list[str]:
    """Return the metrics files of a cell, by the drawing, which the table's own text must agree with."""
    config = link.content["config"] or {}
    for row in config.get("rows", []):
        for column, spec in zip(config.get("columns", []), row["cells"], strict=False):
            if (row["label"], column["label"]) == (one.get("row"), one.get("column")):
                texts = spec.get("metrics", [])
                return [key for text in texts if (key := key_in(text, link.content["results"]))]
    return []


def _steps(found: Audit, record: str) -> list[str]:
    """Return one line per folder of results below a metrics file, from the metrics down to the images."""
    wanted, waiting = {record}, [record]
    while waiting:
        link = found.chain.links.get(waiting.pop())
        for key in link.content["inputs"] if link else ():
            maker = found.chain.makers.get(key)
            if maker and maker not in wanted:
                wanted.add(maker)
                waiting.append(maker)
    folders: dict[str, list[Link]] = {}
    for link in reversed(found.chain.from_below()):
        if link.key in wanted:
            folders.setdefault(link.key.rpartition("/")[0], []).append(link)
    return [_step(folder, links) for folder, links in folders.items()]


def _step(folder: str, links: list[Link]) -> str:
    first, content = links[0], links[0].content
    file = first.first.rpartition("/")[2] if len(links) == 1 else f"{len(links)} files"
    about = [content["identity"][:HEX], _commit(first), str(content["machine"].get("device"))]
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
    return {"kind": finding.kind, "file": finding.place, "text": finding.text, "rests_on_it": finding.rests}
