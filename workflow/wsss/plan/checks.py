"""Checks of paper files that a schema cannot make: names that must exist, and origins of reported values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsss.errors import WsssError
from wsss.plan import claims, papers
from wsss.plan.layers import Keys, Raw, line_of
from wsss.plan.written import read
from wsss.stages import DRAWN, MEASURED

METRICS = ("miou", "precision", "recall", "under", "over", "iou", "precision_fg", "recall_fg", "map")
POINTS = {  # operating points of a stage's result, and words for them
    "cam": (r"best|highest|fixed", "best, highest or fixed"),
    "crf": (r"best|alpha=[0-9.]+", "best or alpha=<exponent>"),
    "pamr": (r"best|alpha=[0-9.]+", "best or alpha=<exponent>"),
    "irn_instances": (r"iou=0\.5", "iou=0.5"),
}
OF_MASKS = ("argmax", "argmax")
NEEDS = {  # kind of figure -> what it must say
    "grid": ("columns",),
    "threshold_curve": ("series",),
    "class_bars": ("series",),
    "table_dots": ("table", "column"),
    "table_scatter": ("table", "x", "y"),
}


@dataclass(frozen=True)
class Paper:
    """A paper file among others.

    Args:
        name: the paper.
        specs: the configured paper files, by name.
        folder: the folder that they are in.
    """

    name: str
    specs: dict[str, Raw]
    folder: Path

    @property
    def spec(self) -> Raw:
        """The contents of this paper's file."""
        return self.specs[self.name]

    def runs_of(self, owner: str) -> Raw:
        """Return the runs of a paper that is configured, or only has a file; none of one that has neither."""
        if owner in self.specs:
            return dict(self.specs[owner]["runs"])
        path = self.folder / f"{owner}.yaml"
        return dict(read(path)["runs"]) if path.is_file() else {}


@dataclass(frozen=True)
class Place:
    """A table, figure or claim of a paper file. Its errors name the file, the table, figure or claim, and the line."""

    paper: Paper
    kind: str
    name: str

    def wrong(self, message: str, *keys: str | int) -> WsssError:
        """Return the error for the entry at ``keys`` of this table, figure or claim."""
        file = self.paper.folder / f"{self.paper.name}.yaml"
        line = line_of(file, (self.kind, self.name, *keys))
        one = self.kind.removesuffix("s")
        return WsssError(f"{file.name}, {one} {self.name}: {message} (line {line})")

    def one_of(self, value: str, known: Iterable[str], kind: str, keys: Keys) -> None:
        """Refuse a name that is not known.

        Args:
            value: the name.
            known: the names that are.
            kind: the word for one of them.
            keys: where the name stands in this table, figure or claim.
        """
        names = list(known)
        if value not in names:
            raise self.wrong(f"unknown {kind} '{value}': choose one of {', '.join(names)}", *keys)

    def run(self, run: str, keys: Keys) -> None:
        """Refuse a run that exists neither in a configured paper nor in the file of another."""
        owner, name = papers.owner_of(run, self.paper.name)
        known = self.paper.runs_of(owner)
        if name not in known:
            cure = f"choose one of {', '.join(known)}" if known else f"there is no paper '{owner}'"
            raise self.wrong(f"unknown run '{run}': {cure}", *keys)


def check(name: str, specs: dict[str, Raw], folder: Path) -> None:
    """Check all tables, figures and claims of one paper.

    Raises:
        WsssError: the first finding, with file and line.
    """
    paper = Paper(name, specs, folder)
    _names(paper)
    for kind, check_one in (("tables", _table), ("figures", _figure), ("claims", _claim)):
        for entry, said in paper.spec.get(kind, {}).items():
            check_one(said, Place(paper, kind, entry))


def _names(paper: Paper) -> None:
    """Check that each table and each figure has a word of its own."""
    tables = paper.spec["tables"]
    figures = paper.spec.get("figures", {})
    for figure in figures:
        if figure in tables:
            place = Place(paper, "figures", figure)
            raise place.wrong("a table has this name, too, so one word would mean both: rename one of them")
    for kind, entries in (("tables", tables), ("figures", figures)):
        if claims.NAME in entries:
            place = Place(paper, kind, claims.NAME)
            raise place.wrong("this name is the word for the paper's claims: choose another")


# ---- tables


def _table(table: Raw, place: Place) -> None:
    """Check the rows of a table and its cells."""
    for i in range(len(table["rows"])):
        _row(table, i, place)
        for j in range(len(table["columns"])):
            _cell(table, (i, j), place)


def _row(table: Raw, i: int, place: Place) -> None:
    """Check the names that row ``i`` gives values for."""
    row = table["rows"][i]
    columns = [column["key"] for column in table["columns"]]
    attributes = [attribute["key"] for attribute in table.get("attributes", [])]
    for key in row.get("attributes", {}):
        place.one_of(key, attributes, "attribute", ("rows", i, "attributes", key))
    for kind in ("reported", "spread", "cells"):
        for key in row.get(kind, {}):
            place.one_of(key, columns, "column", ("rows", i, kind, key))


def _cell(table: Raw, at: tuple[int, int], place: Place) -> None:
    """Check the cell at (row, column)."""
    i, j = at
    cell = papers.cell(table["rows"][i], table["columns"][j])
    said: dict[str, Keys] = {}
    for key in ("stage", "metric", "at", "run", "reported"):
        said[key] = _said_at(table, at, key)
    _measured(cell, place, said)
    if cell.get("run"):
        place.run(cell["run"], said["run"])
        return
    source = cell.get("literature") or cell.get("missing")
    if "reported" in cell and not source:
        message = "a reported value without a run needs literature (its source) or missing (why)"
        raise place.wrong(message, *said["reported"])


def _said_at(table: Raw, at: tuple[int, int], key: str) -> tuple[str | int, ...]:
    """Return the place of a cell's setting: in the cell itself, in its row, or in its column."""
    i, j = at
    row, column = table["rows"][i], table["columns"][j]
    own = row.get("cells", {}).get(column["key"], {})
    if key in own:
        return ("rows", i, "cells", column["key"], key)
    if key in column and key not in row:
        return ("columns", j, key)
    return ("rows", i, key)


def _measured(cell: Raw, place: Place, said: dict[str, Keys]) -> None:
    """Check what a cell says was measured; ``said`` is where it says so."""
    stage, metric = cell["stage"], cell["metric"]
    place.one_of(stage, MEASURED, "stage", said["stage"])
    place.one_of(metric, METRICS, "metric", said["metric"])
    if (metric == "map") != (stage == "irn_instances"):
        message = f"stage {stage} has no metric '{metric}': irn_instances has map alone, and no other stage has it"
        raise place.wrong(message, *said["metric"])
    if metric == "iou" and "class" not in cell:
        raise place.wrong("metric iou needs a class: add 'class'", *said["metric"])
    pattern, words = POINTS.get(stage, OF_MASKS)
    if not re.fullmatch(pattern, cell["at"]):
        raise place.wrong(f"stage {stage} has no operating point '{cell['at']}': give {words}", *said["at"])


# ---- claims


def _claim(claim: Raw, place: Place) -> None:
    """Check what the sides of a claim are, and that each comparison can have a reported difference."""
    if ("runs" in claim) == ("pairs" in claim):
        raise place.wrong("needs either runs or pairs, and not both")
    if "pairs" in claim and claim["direction"] in ("rising", "falling"):
        raise place.wrong(
            f"direction {claim['direction']} is an order of runs, not of pairs: choose another", "direction"
        )
    for keys, written, cell in claims.sides(claim):
        _side(written, cell, keys, place)
    number = len(claims.comparisons(claim))
    if len(claims.reported(claim)) != number:
        raise place.wrong(f"has {number} comparisons, so reported needs {number} numbers (null where none)", "reported")


def _side(written: str | Raw, cell: Raw, keys: Keys, place: Place) -> None:
    """Check one side of a claim.

    Args:
        written: what the paper file says of it: a run, or settings of a cell.
        cell: all settings of the cell.
        keys: where it stands in the claim.
        place: the claim.
    """
    own = written if isinstance(written, dict) else {}
    said: dict[str, Keys] = {}
    for key in ("stage", "metric", "at"):
        said[key] = (*keys, key) if key in own else (key,)
    _measured(cell, place, said)
    place.run(cell["run"], (*keys, "run") if own else keys)


# ---- figures


def _figure(figure: Raw, place: Place) -> None:
    """Check that a figure says what its kind needs, and what it shows."""
    for key in NEEDS[figure["kind"]]:
        if key not in figure:
            raise place.wrong(f"kind {figure['kind']} needs '{key}'")
    for kind in ("series", "columns"):
        for i in range(len(figure.get(kind, []))):
            _shown(figure, (kind, i), place)
    if "table" in figure:
        _of_table(figure, place)


def _shown(figure: Raw, at: tuple[str, int], place: Place) -> None:
    """Check the curve or the column of pictures at (``series`` or ``columns``, number)."""
    entry = figure[at[0]][at[1]]
    stage = entry.get("stage", "cam")
    place.one_of(stage, DRAWN, "stage", (*at, "stage"))
    if "run" in entry:
        place.run(entry["run"], (*at, "run"))
    elif entry.get("kind") not in ("image", "truth"):
        raise place.wrong(f"column '{entry['label']}' needs a run, or the kind image or truth", *at)
    if figure["kind"] == "threshold_curve" and stage != "cam":
        raise place.wrong(f"stage {stage} has no thresholds: leave 'stage' out, since only cam has them", *at, "stage")


def _of_table(figure: Raw, place: Place) -> None:
    """Check a figure that is drawn from a table's columns."""
    tables = place.paper.spec["tables"]
    place.one_of(figure["table"], tables, "table", ("table",))
    table = tables[figure["table"]]
    columns = [column["key"] for column in table["columns"]]
    for key in ("column", "x", "y"):
        if key in figure:
            place.one_of(figure[key], columns, "column", (key,))
