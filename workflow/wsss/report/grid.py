"""The cells of a table in the order in which they are printed, and what each column can show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from wsss.report.cells import Cell
from wsss.report.drawing import CellSpec, Row, TableDrawing

SHOWN = {  # kind of column -> what it shows
    "compared": ("reported", "ours", "difference", "verdict"),
    "ours": ("ours",),  # nobody reported a value of it
    "quoted": ("reported",),  # no cell of it can be computed
}


Decimals = dict[tuple[int, str], int]  # (column, images) -> decimals


class Place(NamedTuple):
    """A cell in the grid: whether a run computes it, and the decimals of its reported value and of ours."""

    cell: Cell
    computed: bool
    decimals: int
    own_decimals: int


class Label(NamedTuple):
    """The text before a row or over a column, and the words beside it by key."""

    label: str
    words: dict[str, str]


@dataclass(frozen=True)
class Grid:
    """The cells of a table as they are printed: columns as rows where the table is transposed.

    Args:
        rows: labels of the rows.
        columns: labels of the columns.
        attributes: (key, head) of the columns of words.
        places: the cells, row by row.
    """

    rows: list[Label]
    columns: list[Label]
    attributes: list[tuple[str, str]]
    places: list[list[Place]]

    def column(self, j: int) -> list[Cell]:
        """Return the cells of one column."""
        return [line[j].cell for line in self.places]

    def cells(self) -> list[Cell]:
        """Return all cells, row by row."""
        places = chain.from_iterable(self.places)
        return [place.cell for place in places]

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of each column, a key of ``SHOWN``."""
        columns = range(len(self.columns))
        return [self._kind(j) for j in columns]

    @property
    def worded(self) -> bool:
        """Tell whether verdicts are words. If more than one column has verdicts, there is room for marks alone."""
        return self.kinds.count("compared") == 1

    def _kind(self, j: int) -> str:
        """Return the kind of a column: can any of its cells be computed, and has any a reported value?"""
        if not any(line[j].computed for line in self.places):
            return "quoted"
        if all(cell.reported is None for cell in self.column(j)):
            return "ours"
        return "compared"


def grid_of(drawing: TableDrawing, cells: list[list[Cell]]) -> Grid:
    """Arrange the cells of a table, which have been read row by row, as they are printed."""
    rows = [_label(row) for row in drawing["rows"]]
    columns = [Label(column["label"], {}) for column in drawing["columns"]]
    places = _places(drawing, cells)
    if drawing.get("transpose"):
        return Grid(columns, rows, [], _transposed(places))
    heads = drawing.get("attributes", [])
    attributes = [(head["key"], head["label"]) for head in heads]
    return Grid(rows, columns, attributes, places)


def _transposed(places: list[list[Place]]) -> list[list[Place]]:
    """Turn rows into columns."""
    columns = zip(*places, strict=True)
    return [list(column) for column in columns]


def _label(row: Row) -> Label:
    """Return what stands before a row."""
    words = row.get("attributes", {})
    return Label(row["label"], words)


def _places(drawing: TableDrawing, cells: list[list[Cell]]) -> list[list[Place]]:
    """Place the cells of a table, row by row."""
    printed = _printed_decimals(drawing, cells)
    found = []
    for row, line in zip(drawing["rows"], cells, strict=True):
        places = []
        for j, cell in enumerate(line):
            spec = row["cells"][j]
            place = _place(printed, j, spec, cell)
            places.append(place)
        found.append(places)
    return found


def _place(
    printed: Decimals,
    j: int,
    spec: CellSpec,
    cell: Cell,
) -> Place:
    """Place a cell.

    Args:
        printed: decimals that the paper prints.
        j: the column in the paper.
        spec: the cell in the drawing.
        cell: the cell as it was read.
    """
    computed = bool(spec.get("metrics"))
    own = 3 if cell.scale == 1 else 2
    images = spec["images"]
    theirs = printed.get((j, images), own)
    return Place(cell, computed, theirs, own)


def _printed_decimals(drawing: TableDrawing, cells: list[list[Cell]]) -> Decimals:
    """Find the decimals that a paper prints, by column and images.

    They are those of the longest value there: a number does not know its last zeros.
    """
    printed: Decimals = {}
    for row, line in zip(drawing["rows"], cells, strict=True):
        for j, cell in enumerate(line):
            if cell.reported is None:
                continue
            key = (j, row["cells"][j]["images"])
            known = printed.get(key, 0)
            printed[key] = max(known, _decimals(cell.reported))
    return printed


def _decimals(value: float) -> int:
    """Count the decimals of a number."""
    _, _, decimals = repr(value).partition(".")
    return len(decimals)
