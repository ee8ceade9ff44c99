"""Two columns of a table against each other, with names beside the marks."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsss.report.cells import read_cell
from wsss.report.drawing import FigureDrawing, Row, row_name
from wsss.report.placement import Point, write_names
from wsss.report.style import OURS, REPORTED, WIDTH, legend, with_unit

BETWEEN: dict[str, Any] = {  # the line between two marks
    "color": "#bbbbbb",
    "linewidth": 0.8,
    "zorder": 1,
}


def table_scatter(drawing: FigureDrawing) -> Figure:
    """Draw rings for reported values, dots for ours, and a line between the two of a row."""
    size = (WIDTH * 0.6, WIDTH * 0.5)
    figure, axis = plt.subplots(figsize=size)
    named: list[tuple[str, list[Point]]] = []
    marks: list[Point] = []
    for row in drawing["rows"]:
        reported, ours = _points(row)
        _draw(axis, reported, ours)
        own = [point for point in (ours, reported) if point]
        if own:
            name = row_name(row)
            named.append((name, own))
            marks += reversed(own)
    axis.set_xlabel(_axis_label(drawing, 0))
    axis.set_ylabel(_axis_label(drawing, 1))
    axis.margins(0.15)
    legend(axis)
    write_names(axis, named, marks)
    return figure


def _points(row: Row) -> tuple[Point | None, Point | None]:
    """Read the reported point of a row and ours."""
    x, y = map(read_cell, row["cells"])
    reported = _point(x.reported, y.reported)
    ours = _point(x.mean, y.mean)
    return reported, ours


def _point(x: float | None, y: float | None) -> Point | None:
    """Return the point of two coordinates; None if one is missing."""
    if x is None or y is None:
        return None
    return x, y


def _draw(axis: Axes, reported: Point | None, ours: Point | None) -> None:
    """Draw the marks of a row and the line between them."""
    if reported and ours:
        xs, ys = zip(reported, ours, strict=True)
        axis.plot(xs, ys, **BETWEEN)
    if reported:
        axis.plot(*reported, **REPORTED)
    if ours:
        axis.plot(*ours, **OURS)


def _axis_label(drawing: FigureDrawing, j: int) -> str:
    """Name a column, with its unit."""
    label = drawing["columns_shown"][j]["label"]
    cell = drawing["rows"][0]["cells"][j]
    return with_unit(label, cell)
