"""A table as texts: heads, labels, numbers and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wsss.report.cells import MARKS, Cell
from wsss.report.drawing import TableDrawing
from wsss.report.grid import SHOWN, Grid, Place, grid_of
from wsss.report.notes import Reasons, notes

NONE = "–"


class Value(NamedTuple):
    """A value of the view.

    Args:
        text: the value, or the mark or letter of a verdict.
        verdict: the verdict, or the reason why there is none, where the text stands for one.
        number: its place in table.csv, counted from 0, if it is a number of ours.
    """

    text: str
    verdict: str = ""
    number: int | None = None


class Line(NamedTuple):
    """A row of the view: its label, its words and its values."""

    label: str
    attributes: list[str]
    values: list[Value]


@dataclass(frozen=True)
class View:
    """A table as texts.

    Args:
        attributes: heads of the columns of words.
        heads: the text of each head and how many columns are below it.
        subheads: one per value column.
        lines: the rows.
        notes: sentences below, with those that explain marks and letters.
        plain_notes: sentences below where verdicts are words.
        reasons: the letter of each reason for a missing verdict.
    """

    attributes: list[str]
    heads: list[tuple[str, int]]
    subheads: list[str]
    lines: list[Line]
    notes: list[str]
    plain_notes: list[str]
    reasons: dict[str, str]


def view(drawing: TableDrawing, cells: list[list[Cell]]) -> View:
    """Lay out the drawing of a table (``plan.drawings.table``) whose cells have been read, row by row.

    A value column that cannot be computed shows reported values alone, one without any reported value ours alone.
    """
    grid, reasons = grid_of(drawing, cells), Reasons()
    lines = [_line(drawing, grid, i, reasons) for i in range(len(grid.rows))]  # the letters that notes explain
    widths = [len(SHOWN[kind]) for kind in grid.kinds]
    labels = [column.label for column in grid.columns]
    return View(
        attributes=[head for _, head in grid.attributes],
        heads=list(zip(labels, widths, strict=True)),
        subheads=_subheads(grid.kinds),
        lines=lines,
        notes=notes(drawing, grid, reasons, grid.worded),
        plain_notes=notes(drawing, grid, Reasons(), worded=True),
        reasons=reasons.letters,
    )


def _subheads(kinds: list[str]) -> list[str]:
    """Name what each value column shows; nothing where all show ours."""
    own = set(kinds) == {"ours"}
    found = []
    for kind in kinds:
        found += ["" if own else text for text in SHOWN[kind]]
    return found


def _line(drawing: TableDrawing, grid: Grid, i: int, reasons: Reasons) -> Line:
    """Write one row.

    Args:
        drawing: the drawing of the table.
        grid: its cells as they are printed.
        i: the row.
        reasons: letters for missing verdicts.
    """
    row, values = grid.rows[i], list[Value]()
    for j, (place, kind) in enumerate(zip(grid.places[i], grid.kinds, strict=True)):
        values += _values(place, kind, _number_of(drawing, i, j), reasons, grid.worded)
    return Line(row.label, [row.words.get(key, "") for key, _ in grid.attributes], values)


def _number_of(drawing: TableDrawing, i: int, j: int) -> int:
    """Return the place in table.csv of what is printed in row ``i`` and column ``j``."""
    row, column = (j, i) if drawing.get("transpose") else (i, j)
    return row * len(drawing["columns"]) + column


def _values(place: Place, kind: str, number: int, reasons: Reasons, worded: bool) -> list[Value]:
    """Write one cell: the values that its kind of column shows.

    Args:
        place: the cell.
        kind: the kind of its column.
        number: its place in table.csv.
        reasons: letters for missing verdicts.
        worded: write verdicts as words, not as marks.
    """
    cell = place.cell
    reported = Value(_number(cell.reported, cell.reported_spread, place.decimals))
    if kind == "quoted":
        return [reported]
    if not cell.values and kind == "ours":
        return [Value(f"{NONE} {reasons.letter(cell.verdict)}", cell.verdict)]
    ours = Value(_number(cell.mean, cell.spread, place.own_decimals), number=number if cell.values else None)
    if kind == "ours":
        return [ours]
    verdict = Value(_verdict(cell.verdict, reasons, worded), cell.verdict)
    return [reported, ours, Value(_difference(place)), verdict]


def _difference(place: Place) -> str:
    if place.cell.difference is None:
        return NONE
    return f"{place.cell.difference:+.{place.own_decimals}f}".replace("-", "−")


def _verdict(verdict: str, reasons: Reasons, worded: bool) -> str:
    """Write a verdict as a word or mark, or the letter of the reason why there is none."""
    if verdict not in MARKS:
        return reasons.letter(verdict)
    return verdict if worded else MARKS[verdict]


def _number(value: float | None, spread: float | None, decimals: int) -> str:
    """Write a number, with its standard deviation if it has one."""
    if value is None:
        return NONE
    text = f"{value:.{decimals}f}"
    return text if spread is None else f"{text} ± {spread:.{decimals}f}"
