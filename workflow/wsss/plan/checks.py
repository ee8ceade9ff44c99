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
        """Return the runs of a paper, configured or not; none if it has no file."""
        if owner in self.specs:
            return dict(self.specs[owner]["runs"])
        path = self.folder / f"{owner}.yaml"
        if not path.is_file():
            return {}
        return dict(read(path)["runs"])


@dataclass(frozen=True)
class Place:
    """A table, figure or claim of a paper file. Its errors name the file, the table, figure or claim, and the line."""

    paper: Paper
    kind: str
    name: str

    def wrong(self, message: str, *keys: str | int) -> WsssError:
        """Return the error for the entry at ``keys`` of this table, figure or claim."""
        file = self.paper.folder / f"{self.paper.name}.yaml"
        path = (self.kind, self.name, *keys)
        line = line_of(file, path)
        one = self.kind.removesuffix("s")
        return WsssError(f"{file.name}, {one} {self.name}: {message} (line {line})")

    def one_of(
        self,
        value: str,
        known: Iterable[str],
        kind: str,
        keys: Keys,
    ) -> None:
        """Refuse a name that is not known.

        Args:
            value: the name.
            known: the known names.
            kind: the word for one of them.
            keys: where the name stands in this table, figure or claim.
        """
        names = list(known)
        if value in names:
            return
        choices = ", ".join(names)
        message = f"unknown {kind} '{value}': choose one of {choices}"
        raise self.wrong(message, *keys)

    def run(self, run: str, keys: Keys) -> None:
        """Refuse a run that exists neither in a configured paper nor in the file of another."""
        owner, name = papers.owner_of(run, self.paper.name)
        known = self.paper.runs_of(owner)
        if name in known:
            return
        cure = f"there is no paper '{owner}'"
        if known:
            cure = f"choose one of {', '.join(known)}"
        raise self.wrong(f"unknown run '{run}': {cure}", *keys)


def check(name: str, specs: dict[str, Raw], folder: Path) -> None:
    """Check all tables, figures and claims of one paper.

    Raises:
        WsssError: the first finding, with file and line.
    """
    paper = Paper(name, specs, folder)
    _refuse_shared_names(paper)
    _refuse_name_of_claims(paper)
    checks = {
        "tables": _table,
        "figures": _figure,
        "claims": _claim,
    }
    for kind, check_one in checks.items():
        entries = paper.spec.get(kind, {})
        for entry, said in entries.items():
            place = Place(paper, kind, entry)
            check_one(said, place)


def _refuse_shared_names(paper: Paper) -> None:
    """Check that no table and figure share a name."""
    tables = paper.spec["tables"]
    for figure in paper.spec.get("figures", {}):
        if figure in tables:
            place = Place(paper, "figures", figure)
            raise place.wrong("a table has this name, too, so one word would mean both: rename one of them")


def _refuse_name_of_claims(paper: Paper) -> None:
    """Check that no table or figure has the name of the claims."""
    for kind in ("tables", "figures"):
        entries = paper.spec.get(kind, {})
        if claims.NAME in entries:
            place = Place(paper, kind, claims.NAME)
            raise place.wrong("this name is the word for the paper's claims: choose another")


# ---- tables


def _table(table: Raw, place: Place) -> None:
    """Check the rows of a table and its cells."""
    rows = len(table["rows"])
    columns = len(table["columns"])
    for i in range(rows):
        _row(table, i, place)
        for j in range(columns):
            at = (i, j)
            _cell(table, at, place)


def _row(table: Raw, i: int, place: Place) -> None:
    """Check the names that row ``i`` gives values for."""
    row = table["rows"][i]
    columns = _keys(table["columns"])
    attributes = _keys(table.get("attributes", []))
    for key in row.get("attributes", {}):
        where = ("rows", i, "attributes", key)
        place.one_of(key, attributes, "attribute", where)
    for kind in ("reported", "spread", "cells"):
        for key in row.get(kind, {}):
            where = ("rows", i, kind, key)
            place.one_of(key, columns, "column", where)


def _keys(heads: list[Raw]) -> list[str]:
    """Return the keys of columns."""
    return [head["key"] for head in heads]


def _cell(table: Raw, at: tuple[int, int], place: Place) -> None:
    """Check the cell at (row, column)."""
    i, j = at
    row = table["rows"][i]
    column = table["columns"][j]
    cell = papers.cell(row, column)
    said: dict[str, Keys] = {}
    for key in ("stage", "metric", "at", "run", "reported"):
        said[key] = _said_at(table, at, key)
    _measured(cell, place, said)
    if cell.get("run"):
        place.run(cell["run"], said["run"])
    elif "reported" in cell:
        _source(cell, place, said["reported"])


def _source(cell: Raw, place: Place, keys: Keys) -> None:
    """Check that a reported value without a run says where it comes from, or why nothing is computed."""
    if cell.get("literature") or cell.get("missing"):
        return
    message = "a reported value without a run needs literature (its source) or missing (why)"
    raise place.wrong(message, *keys)


def _said_at(table: Raw, at: tuple[int, int], key: str) -> tuple[str | int, ...]:
    """Return the place of a cell's setting: in the cell itself, in its row, or in its column."""
    i, j = at
    row = table["rows"][i]
    column = table["columns"][j]
    name = column["key"]
    own = row.get("cells", {}).get(name, {})
    if key in own:
        return ("rows", i, "cells", name, key)
    if key in row or key not in column:
        return ("rows", i, key)
    return ("columns", j, key)


def _measured(cell: Raw, place: Place, said: dict[str, Keys]) -> None:
    """Check what a cell says was measured; ``said`` is where it says so."""
    stage = cell["stage"]
    metric = cell["metric"]
    place.one_of(stage, MEASURED, "stage", said["stage"])
    place.one_of(metric, METRICS, "metric", said["metric"])
    of_objects = stage == "irn_instances"
    if of_objects != (metric == "map"):
        message = f"stage {stage} has no metric '{metric}': irn_instances has only map, and no other stage has it"
        raise place.wrong(message, *said["metric"])
    if metric == "iou" and "class" not in cell:
        raise place.wrong("metric iou needs a class: add 'class'", *said["metric"])
    pattern, words = POINTS.get(stage, OF_MASKS)
    point = cell["at"]
    if not re.fullmatch(pattern, point):
        message = f"stage {stage} has no operating point '{point}': give {words}"
        raise place.wrong(message, *said["at"])


# ---- claims


def _claim(claim: Raw, place: Place) -> None:
    """Check what the sides of a claim are, and that each comparison can have a reported difference."""
    _form(claim, place)
    for keys, written, cell in claims.sides(claim):
        _side(written, cell, keys, place)
    number = len(claims.comparisons(claim))
    values = claims.reported(claim)
    if len(values) != number:
        message = f"has {number} comparisons, so reported needs {number} numbers (null where none)"
        raise place.wrong(message, "reported")


def _form(claim: Raw, place: Place) -> None:
    """Check that a claim is about runs in an order, or about pairs of runs."""
    of_runs = "runs" in claim
    of_pairs = "pairs" in claim
    if of_runs == of_pairs:
        raise place.wrong("needs either runs or pairs, and not both")
    direction = claim["direction"]
    if of_pairs and direction in ("rising", "falling"):
        message = f"direction {direction} is an order of runs, not of pairs: choose another"
        raise place.wrong(message, "direction")


def _side(
    written: str | Raw,
    cell: Raw,
    keys: Keys,
    place: Place,
) -> None:
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
        in_side = key in own
        said[key] = (*keys, key) if in_side else (key,)
    _measured(cell, place, said)
    where = (*keys, "run") if own else keys
    place.run(cell["run"], where)


# ---- figures


def _figure(figure: Raw, place: Place) -> None:
    """Check that a figure says what its kind needs, and what it shows."""
    kind = figure["kind"]
    for key in NEEDS[kind]:
        if key not in figure:
            raise place.wrong(f"kind {kind} needs '{key}'")
    for part in ("series", "columns"):
        for i in range(len(figure.get(part, []))):
            at = (part, i)
            _shown(figure, at, place)
    if "table" in figure:
        _of_table(figure, place)


def _shown(figure: Raw, at: tuple[str, int], place: Place) -> None:
    """Check the curve or the column of pictures at (``series`` or ``columns``, number)."""
    part, i = at
    entry = figure[part][i]
    stage = entry.get("stage", "cam")
    of_stage = (*at, "stage")
    place.one_of(stage, DRAWN, "stage", of_stage)
    if "run" in entry:
        place.run(entry["run"], (*at, "run"))
    elif entry.get("kind") not in ("image", "truth"):
        message = f"column '{entry['label']}' needs a run, or the kind image or truth"
        raise place.wrong(message, *at)
    if figure["kind"] == "threshold_curve" and stage != "cam":
        message = f"stage {stage} has no thresholds: leave 'stage' out, since only cam has them"
        raise place.wrong(message, *of_stage)
    if part == "series":
        said: dict[str, Keys] = {}
        for key in ("stage", "metric", "at"):
            said[key] = (*at, key)
        _measured(papers.curve(entry), place, said)


def _of_table(figure: Raw, place: Place) -> None:
    """Check a figure that is drawn from a table's columns."""
    name = figure["table"]
    tables = place.paper.spec["tables"]
    place.one_of(name, tables, "table", ("table",))
    columns = _keys(tables[name]["columns"])
    for axis in ("column", "x", "y"):
        if axis in figure:
            place.one_of(figure[axis], columns, "column", (axis,))
