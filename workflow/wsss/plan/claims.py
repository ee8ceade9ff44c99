"""Claims: what a paper says as an order between runs, and the files by which it is judged on a data set.

A claim is one comparison or several. Each has two sides, and what is counted is the first minus the second, so that a
positive difference speaks for the claim; for ``equal`` it has to be near zero.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsss.plan import papers
from wsss.plan.cells import with_metrics
from wsss.plan.layers import Keys, Raw
from wsss.plan.outlook import Outlook
from wsss.plan.plan import Plan

NAME = "claims"  # seam_claims are the claims of SEAM, claims those of all papers
ALL = ""  # in place of a paper
SO_FAR = "computed"  # value of the configuration's key ``claims``
CAPTION = (
    "What the papers claim as an order between runs, the reported difference, and the difference of ours over "
    "seeds, in points. Differences are counted so that a positive one speaks for the claim."
)
COLUMN = {"key": "difference", "label": "difference"}
SHARED = ("stage", "metric", "class", "at", "images")  # keys of a claim that all its sides have
# Their differences are first minus other, or later minus earlier. Those of all other directions are the reverse.
IN_ORDER = {"above", "at_least", "equal", "rising"}


def about(plan: Plan, paper: str) -> Raw:
    """Return title and caption of the claims of a paper."""
    whose = "all papers" if paper == ALL else _short(plan, paper)
    return {
        "title": f"Claims of {whose}",
        "caption": CAPTION,
    }


def _short(plan: Plan, paper: str) -> str:
    """Return the name by which people know a paper: what its title begins with."""
    title = str(plan.papers[paper]["title"])
    return title.partition(":")[0]


def members(plan: Plan, paper: str) -> list[tuple[str, str, Raw]]:
    """List (paper, name, claim) of every claim of a paper, or of all."""
    owners = list(plan.papers) if paper == ALL else [paper]
    found = []
    for owner in owners:
        own = plan.papers[owner].get("claims", {})
        for name, claim in own.items():
            found.append((owner, name, claim))
    return found


# ---- comparisons


def sides(claim: Raw) -> list[tuple[Keys, str | Raw, Raw]]:
    """List (place in the claim, what is written there, settings of a cell) of every side, in order."""
    found = []
    for keys, side in _written(claim):
        cell = _cell(claim, side)
        found.append((keys, side, cell))
    return found


def _written(claim: Raw) -> Iterator[tuple[Keys, str | Raw]]:
    """Yield (place in the claim, what is written there) of every side."""
    for i, side in enumerate(claim.get("runs", [])):
        yield ("runs", i), side
    for i, pair in enumerate(claim.get("pairs", [])):
        for j, side in enumerate(pair):
            yield ("pairs", i, j), side


def comparisons(claim: Raw) -> list[tuple[Raw, Raw]]:
    """Return the two sides of every comparison, as the settings of cells."""
    pairs = _pairs(claim)
    if claim["direction"] in IN_ORDER:
        return pairs
    return [(second, first) for first, second in pairs]


def _pairs(claim: Raw) -> list[tuple[Raw, Raw]]:
    """Pair the sides of a claim: as it says, each with the one before, or the first with each of the others."""
    cells = [cell for *_, cell in sides(claim)]
    if "pairs" in claim:
        first, second = cells[::2], cells[1::2]
        return list(zip(first, second, strict=True))
    if claim["direction"] in ("rising", "falling"):
        later, earlier = cells[1:], cells[:-1]
        return list(zip(later, earlier, strict=True))
    return [(cells[0], other) for other in cells[1:]]


def reported(claim: Raw) -> list[float | None]:
    """Return the reported difference of every comparison; None where the text has none."""
    said = claim.get("reported")
    if said is None:
        number = len(comparisons(claim))
        return [None] * number
    if isinstance(said, list):
        return list(said)
    return [said]


def _cell(claim: Raw, side: str | Raw) -> Raw:
    """Return a side as a cell: what it says itself is the stronger."""
    shared = {key: claim[key] for key in SHARED if key in claim}
    own = {"run": side} if isinstance(side, str) else side
    column = {"key": ""}
    return papers.cell(shared | own, column)


def _label(cell: Raw) -> str:
    """Return a side in the words of the paper file: ``baseline``, or ``baseline crf`` for what is not a class map."""
    if cell["stage"] == "cam":
        return str(cell["run"])
    return f"{cell['run']} {cell['stage']}"


# ---- on a data set


def drawing(
    plan: Plan,
    dataset: str,
    paper: str,
    so_far: bool = False,
) -> Raw:
    """Resolve the claims of a paper, or of all. A row is a comparison; its cells are the two sides.

    Args:
        plan: the plan.
        dataset: the data set on which they are judged.
        paper: the paper, or ``ALL``.
        so_far: take only the files that are there and up to date. The configuration may ask for this, too.
    """
    claims, rows = [], []
    for owner, name, claim in members(plan, paper):
        head = _head(plan, owner, name, claim)
        claims.append(head)
        rows += _rows(plan, dataset, owner, name, claim)
    _drop_repeated(rows, claims, dataset)
    if so_far or plan.config.get("claims") == SO_FAR:
        keep_what_is_there(plan, rows)
    data = plan.dataset(dataset)
    title = "All papers" if paper == ALL else plan.papers[paper]["title"]
    return {
        "name": NAME,
        "paper": paper,
        "paper_title": title,
        "dataset": dataset,
        "dataset_note": data.get("note"),
        "seeds": data["seeds"],
        **about(plan, paper),
        "claims": claims,
        "columns": [COLUMN],
        "rows": rows,
    }


def _head(
    plan: Plan,
    paper: str,
    name: str,
    claim: Raw,
) -> Raw:
    """Return what is printed of a claim before its comparisons.

    Args:
        plan: the plan.
        paper: the paper that makes the claim.
        name: the name of the claim.
        claim: its entry in the paper file.
    """
    return {
        "claim": f"{paper}/{name}",
        "paper": _short(plan, paper),
        "says": claim["says"],
        "source": claim["source"],
        "direction": claim["direction"],
    }


def _rows(
    plan: Plan,
    dataset: str,
    paper: str,
    name: str,
    claim: Raw,
) -> list[Raw]:
    """Return the comparisons of a claim, with files or with the reason why there are none.

    Args:
        plan: the plan.
        dataset: the data set.
        paper: the paper that makes the claim.
        name: the name of the claim.
        claim: its entry in the paper file.
    """
    found = []
    for pair, value in zip(comparisons(claim), reported(claim), strict=True):
        cells = [_side(plan, dataset, paper, cell) for cell in pair]
        labels = map(_label, pair)
        row: Raw = {
            "claim": f"{paper}/{name}",
            "label": " - ".join(labels),
            "reported": value,
            "cells": cells,
        }
        if why := _obstacle(cells, dataset):
            row = _missing(row, why)
        found.append(row)
    return found


def _obstacle(cells: list[Raw], dataset: str) -> str | None:
    """Say why two sides cannot be compared."""
    for cell in cells:
        if "missing" in cell:
            return str(cell["missing"])
    first, second = map(_measured, cells)
    if first == second:
        return f"both sides are one run on data set {dataset}"
    return None


def _side(
    plan: Plan,
    dataset: str,
    paper: str,
    cell: Raw,
) -> Raw:
    """Return a side with its files, but without ``not_comparable``.

    That is about values, and claims compare differences.

    Args:
        plan: the plan.
        dataset: the data set.
        paper: the paper that makes the claim.
        cell: the side, as the settings of a cell.
    """
    found = with_metrics(plan, dataset, paper, cell)
    return _without(found, "not_comparable")


def _without(cell: Raw, key: str) -> Raw:
    """Copy a cell without one of its keys."""
    found = dict(cell)
    found.pop(key, None)
    return found


def _measured(cell: Raw) -> tuple[object, ...]:
    """Return what a side is read from; equal for two names of one result."""
    point = (cell["metric"], cell.get("class"), cell["at"])
    return (*cell["metrics"], *point)


def _missing(row: Raw, why: str) -> Raw:
    """Return a comparison that is not made: it reads no files."""
    found = dict(row)
    found["missing"] = why
    found["cells"] = [_without(cell, "metrics") for cell in row["cells"]]
    return found


def _drop_repeated(rows: list[Raw], claims: list[Raw], dataset: str) -> None:
    """Count a claim once where a data set's stand-ins make it the same as an earlier one."""
    seen: dict[object, str] = {}
    for claim in claims:
        word = claim["claim"]
        own = [row for row in rows if row["claim"] == word]
        if any("missing" in row for row in own):
            continue
        judged_by = (claim["direction"], *_all_measured(own))
        first = seen.setdefault(judged_by, word)
        if first != word:
            why = f"on data set {dataset} the same runs as {first}"
            _drop(rows, word, why)


def _drop(rows: list[Raw], claim: str, why: str) -> None:
    """Replace the comparisons of a claim by ones that are not made."""
    for i, row in enumerate(rows):
        if row["claim"] == claim:
            rows[i] = _missing(row, why)


def _all_measured(rows: list[Raw]) -> Iterator[tuple[object, ...]]:
    """Yield what each side of comparisons is read from."""
    for row in rows:
        yield from map(_measured, row["cells"])


# ---- what has been computed


def keep_what_is_there(plan: Plan, rows: list[Raw]) -> None:
    """Keep of each comparison the seeds for which both sides are there and up to date."""
    outlook = Outlook(plan)
    for i, row in enumerate(rows):
        if "missing" not in row:
            rows[i] = _so_far(outlook, row)


def _so_far(outlook: Outlook, row: Raw) -> Raw:
    """Return a comparison with the seeds for which both sides are there; say so where there are none."""
    first, second = row["cells"]
    of_first, of_second = [], []
    for a, b in zip(first["metrics"], second["metrics"], strict=True):
        if not outlook.missing([a, b]):
            of_first.append(a)
            of_second.append(b)
    if not of_first:
        return _missing(row, "not computed")
    cells = [
        {**first, "metrics": of_first},
        {**second, "metrics": of_second},
    ]
    return {**row, "cells": cells}
