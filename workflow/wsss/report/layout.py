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
        notes: sentences below the table in Markdown and LaTeX, with those that explain marks and letters.
        plain_notes: sentences below the table in HTML, where verdicts are words.
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

    A value column that cannot be computed shows reported values alone. One without any reported value shows ours alone.
    """
    grid = grid_of(drawing, cells)
    reasons = Reasons()
    writer = _Writer(drawing, grid, reasons)
    rows = range(len(grid.rows))
    lines = [writer.line(i) for i in rows]  # before the notes, which explain their letters
    return View(
        attributes=[head for _, head in grid.attributes],
        heads=_heads(grid),
        subheads=_subheads(grid.kinds),
        lines=lines,
        notes=notes(drawing, grid, reasons, grid.worded),
        plain_notes=notes(drawing, grid, Reasons(), worded=True),
        reasons=reasons.letters,
    )


def _heads(grid: Grid) -> list[tuple[str, int]]:
    """List (label, columns below it) of each column of the table."""
    found = []
    for column, kind in zip(grid.columns, grid.kinds, strict=True):
        below = len(SHOWN[kind])
        found.append((column.label, below))
    return found


@dataclass(frozen=True)
class _Writer:
    """The writing of a table's rows.

    Args:
        drawing: the drawing of the table.
        grid: its cells as they are printed.
        reasons: letters for missing verdicts.
    """

    drawing: TableDrawing
    grid: Grid
    reasons: Reasons

    def line(self, i: int) -> Line:
        """Write row ``i``."""
        row = self.grid.rows[i]
        words = [row.words.get(key, "") for key, _ in self.grid.attributes]
        values: list[Value] = []
        for j, kind in enumerate(self.grid.kinds):
            values += self._values(i, j, kind)
        return Line(row.label, words, values)

    def _values(self, i: int, j: int, kind: str) -> list[Value]:
        """Write the cell in row ``i`` and column ``j``: the values that its kind of column shows."""
        place = self.grid.places[i][j]
        if kind == "quoted":
            return [_reported(place)]
        ours = self._ours(place, i, j)
        if kind == "ours":
            return [ours if place.cell.values else self._reason(place.cell)]
        difference = Value(_difference(place))
        verdict = place.cell.verdict
        judged = Value(self._verdict(verdict), verdict)
        return [_reported(place), ours, difference, judged]

    def _ours(self, place: Place, i: int, j: int) -> Value:
        """Write our number, in row ``i`` and column ``j``."""
        cell = place.cell
        text = _number(cell.mean, cell.spread, place.own_decimals)
        number = self._number_of(i, j) if cell.values else None
        return Value(text, number=number)

    def _reason(self, cell: Cell) -> Value:
        """Write the letter of the reason why there is no number of ours."""
        letter = self.reasons.letter(cell.verdict)
        return Value(f"{NONE} {letter}", cell.verdict)

    def _number_of(self, i: int, j: int) -> int:
        """Return the place in table.csv of what is printed in row ``i`` and column ``j``."""
        columns = len(self.drawing["columns"])
        if self.drawing.get("transpose"):
            return j * columns + i
        return i * columns + j

    def _verdict(self, verdict: str) -> str:
        """Write a verdict as a word or mark, or the letter of the reason why there is none."""
        if verdict not in MARKS:
            return self.reasons.letter(verdict)
        if self.grid.worded:
            return verdict
        return MARKS[verdict]


def _reported(place: Place) -> Value:
    """Write the reported number."""
    cell = place.cell
    text = _number(cell.reported, cell.reported_spread, place.decimals)
    return Value(text)


def _subheads(kinds: list[str]) -> list[str]:
    """Name what each value column shows; nothing where all show ours."""
    if set(kinds) == {"ours"}:
        return [""] * len(kinds)
    found: list[str] = []
    for kind in kinds:
        found += SHOWN[kind]
    return found


def _difference(place: Place) -> str:
    """Write ours minus the reported value, with its sign."""
    if place.cell.difference is None:
        return NONE
    text = f"{place.cell.difference:+.{place.own_decimals}f}"
    return text.replace("-", "−")


def _number(value: float | None, spread: float | None, decimals: int) -> str:
    """Write a number, with its standard deviation if it has one."""
    if value is None:
        return NONE
    text = f"{value:.{decimals}f}"
    if spread is None:
        return text
    return f"{text} ± {spread:.{decimals}f}"
