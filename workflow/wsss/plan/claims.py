"""Claims: what a paper says as an order between runs, and the files by which it is judged on a data set.

A claim is one comparison or several. Each has two sides, and what is counted is the first minus the second, so that a
positive difference speaks for the claim.
"""

from __future__ import annotations

from wsss.plan import papers
from wsss.plan.cells import with_metrics
from wsss.plan.layers import Keys, Raw
from wsss.plan.outlook import Outlook
from wsss.plan.plan import Plan

NAME = "claims"  # seam_claims are the claims of SEAM, claims those of all papers
ALL = ""  # in place of a paper
SO_FAR = "computed"  # value of the configuration's key ``claims``
COLUMN = {"key": "difference", "label": "difference"}
SHARED = ("stage", "metric", "class", "at", "images")  # keys of a claim that all its sides have
IN_ORDER = {"above", "at_least", "equal", "rising"}  # directions whose first side is the first, or the later, run


def about(plan: Plan, paper: str) -> Raw:
    """Return title and caption of the claims of a paper."""
    whose = "all papers" if paper == ALL else _short(plan, paper)
    return {
        "title": f"Claims of {whose}",
        "caption": (
            "What the papers claim as an order between runs, the reported difference, and the difference of ours over "
            "seeds, in points. Differences are counted so that a positive one speaks for the claim."
        ),
    }


def _short(plan: Plan, paper: str) -> str:
    """Return the name by which people know a paper: what its title begins with."""
    return str(plan.papers[paper]["title"]).partition(":")[0]


def members(plan: Plan, paper: str) -> list[tuple[str, str, Raw]]:
    """(paper, name, claim) of every claim of a paper, or of all."""
    chosen = plan.papers if paper == ALL else [paper]
    return [(owner, name, claim) for owner in chosen for name, claim in plan.papers[owner].get("claims", {}).items()]


# ---- comparisons


def sides(claim: Raw) -> list[tuple[Keys, str | Raw, Raw]]:
    """(place in the claim, what is written there, settings of a cell) of every side, in order."""
    written: list[tuple[Keys, str | Raw]] = [(("runs", i), side) for i, side in enumerate(claim.get("runs", []))]
    for i, pair in enumerate(claim.get("pairs", [])):
        written += [(("pairs", i, j), side) for j, side in enumerate(pair)]
    return [(keys, side, _cell(claim, side)) for keys, side in written]


def comparisons(claim: Raw) -> list[tuple[Raw, Raw]]:
    """Return the two sides of every comparison, as the settings of cells."""
    cells = [cell for *_, cell in sides(claim)]
    direction = claim["direction"]
    if "pairs" in claim:
        found = list(zip(cells[::2], cells[1::2], strict=True))
    elif direction in ("rising", "falling"):
        found = list(zip(cells[1:], cells[:-1], strict=True))
    else:
        found = [(cells[0], other) for other in cells[1:]]
    return found if direction in IN_ORDER else [(second, first) for first, second in found]


def reported(claim: Raw) -> list[float | None]:
    """Return the reported difference of every comparison; None where the text has none."""
    said, number = claim.get("reported"), len(comparisons(claim))
    if said is None:
        return [None] * number
    return list(said) if isinstance(said, list) else [said]


def _cell(claim: Raw, side: str | Raw) -> Raw:
    """Return a side as a cell: what it says itself is the stronger."""
    own = {"run": side} if isinstance(side, str) else side
    shared = {key: claim[key] for key in SHARED if key in claim}
    return papers.cell({**shared, **own}, {"key": ""})


def _label(cell: Raw) -> str:
    """Return a side in the words of the paper file: ``baseline``, or ``baseline crf`` for what is not a class map."""
    return str(cell["run"]) if cell["stage"] == "cam" else f"{cell['run']} {cell['stage']}"


# ---- on a data set


def drawing(plan: Plan, dataset: str, paper: str, so_far: bool = False) -> Raw:
    """Return the claims of a paper, or of all. A row is a comparison; its cells are the two sides.

    With ``so_far``, or where the configuration says so, these are the files that are there and up to date.
    """
    data, head = plan.dataset(dataset), about(plan, paper)
    claims, rows = [], []
    for owner, name, claim in members(plan, paper):
        word = f"{owner}/{name}"
        claims.append(
            {
                "claim": word,
                "paper": _short(plan, owner),
                **{key: claim[key] for key in ("says", "source", "direction")},
            }
        )
        rows += _rows(plan, dataset, owner, word, claim)
    _drop_repeated(rows, claims, dataset)
    if so_far or plan.config.get("claims") == SO_FAR:
        keep_what_is_there(plan, rows)
    return {
        "name": NAME,
        "paper": paper,
        "paper_title": "All papers" if paper == ALL else plan.papers[paper]["title"],
        "dataset": dataset,
        "dataset_note": data.get("note"),
        "seeds": data["seeds"],
        **head,
        "claims": claims,
        "columns": [COLUMN],
        "rows": rows,
    }


def _rows(plan: Plan, dataset: str, paper: str, word: str, claim: Raw) -> list[Raw]:
    """Return the comparisons of a claim, with files or with the reason why there are none."""
    found = []
    for (first, second), value in zip(comparisons(claim), reported(claim), strict=True):
        label = f"{_label(first)} - {_label(second)}"
        cells = [_side(with_metrics(plan, dataset, paper, cell)) for cell in (first, second)]
        row: Raw = {"claim": word, "label": label, "reported": value, "cells": cells}
        if why := next((cell["missing"] for cell in cells if "missing" in cell), None):
            row = _missing(row, why)
        elif _measured(cells[0]) == _measured(cells[1]):
            row = _missing(row, f"both sides are one run on data set {dataset}")
        found.append(row)
    return found


def _side(cell: Raw) -> Raw:
    """Drop the word on how a side compares with what is reported: differences are compared."""
    return {key: value for key, value in cell.items() if key != "not_comparable"}


def _measured(cell: Raw) -> tuple[object, ...]:
    """Return what a side is read from; equal for two names of one result."""
    return (*cell["metrics"], cell["metric"], cell.get("class"), cell["at"])


def _missing(row: Raw, why: str) -> Raw:
    """Return a comparison that is not made: it reads no files."""
    cells = [{key: value for key, value in cell.items() if key != "metrics"} for cell in row["cells"]]
    return {**row, "missing": why, "cells": cells}


def _drop_repeated(rows: list[Raw], claims: list[Raw], dataset: str) -> None:
    """Count a claim once where a data set's stand-ins make it the same as an earlier one."""
    seen: dict[object, str] = {}
    for claim in claims:
        at = [i for i, row in enumerate(rows) if row["claim"] == claim["claim"]]
        if any("missing" in rows[i] for i in at):
            continue
        key = (claim["direction"], *(_measured(cell) for i in at for cell in rows[i]["cells"]))
        first = seen.setdefault(key, claim["claim"])
        if first != claim["claim"]:
            for i in at:
                rows[i] = _missing(rows[i], f"on data set {dataset} the same runs as {first}")


# ---- what has been computed


def keep_what_is_there(plan: Plan, rows: list[Raw]) -> None:
    """Keep of each comparison the seeds for which both sides are there and up to date."""
    outlook = Outlook(plan)
    for i, row in enumerate(rows):
        if "missing" in row:
            continue
        first, second = row["cells"]
        pairs = list(zip(first["metrics"], second["metrics"], strict=True))
        there = [pair for pair in pairs if not outlook.missing(list(pair))]
        if not there:
            rows[i] = _missing(row, "not computed")
            continue
        for cell, paths in zip(row["cells"], zip(*there, strict=True), strict=True):
            cell["metrics"] = list(paths)
