"""Curves, bars and points of numbers: thresholds, classes, and one column of a table."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from wsss.errors import WsssError
from wsss.files import read_json
from wsss.report.cells import Cell, operating_point, read_cell
from wsss.report.drawing import FigureDrawing, Row, Series, row_name
from wsss.report.fonts import say_unwritable
from wsss.report.style import OURS, REPORTED, WIDTH, legend, with_unit
from wsss.report.words import metric

PERCENT = {"miou", "precision", "recall", "iou"}
AXIS = {
    "miou": "mIoU (%)",
    "precision": "precision (%)",
    "recall": "recall (%)",
    "iou": "IoU (%)",
    "under": "under-activation",
    "over": "over-activation",
}
LINES = [  # told apart without colour
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),  # a dash and two dots
]
MANY = 8  # classes; the names of more are slanted
SLANTED: dict[str, Any] = {"rotation": 45, "ha": "right"}  # look of names below an axis
LEVEL: dict[str, Any] = {"rotation": 0, "ha": "center"}
IN_A_ROW = 40  # classes; more would stand closer than a line of small text is high
SMALL = 7  # points
ABOVE: dict[str, Any] = {  # place of a legend
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
}
GROUP = 0.8  # of the distance between classes: the width of a class's bars together


# ---- thresholds


def threshold_curve(drawing: FigureDrawing) -> Figure:
    """Draw metrics against the background threshold, one line per series; the band is the range over seeds.

    ``metrics_shown`` are the columns of panels, the series' ``group`` their rows; ``log`` makes ordinates logarithmic.
    """
    names = drawing.get("metrics_shown", ["miou"])
    groups = _groups(drawing["series"])
    log = bool(drawing.get("log"))
    figure, axes = _panels(len(groups), len(names))
    for row, group in zip(axes, groups, strict=True):
        members = groups[group]
        for axis, name in zip(row, names, strict=True):
            _panel(axis, members, name, log)
        if group:
            row[0].set_title(group, loc="left", fontweight="bold")
    for axis in axes[-1]:
        axis.set_xlabel("background threshold")
    _legend_above(figure, axes[0][0])
    figure.tight_layout()
    return figure


def _legend_above(figure: Figure, axis: Axes) -> None:
    """Put the legend of one panel above all."""
    handles, labels = axis.get_legend_handles_labels()
    columns = min(5, len(labels))
    figure.legend(handles, labels, ncols=columns, **ABOVE)


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Make the panels of thresholds, ``rows×columns``; one column takes half of the width."""
    width = WIDTH if columns > 1 else WIDTH / 2
    height = 2.2 * rows + 0.3
    return plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        squeeze=False,
        sharex=True,
        sharey="col",
    )


def _groups(series: list[Series]) -> dict[str, list[Series]]:
    """Collect series by their group, in the order in which groups come up."""
    groups: dict[str, list[Series]] = {}
    for entry in series:
        group = entry.get("group", "")
        members = groups.setdefault(group, [])
        members.append(entry)
    return groups


def _panel(
    axis: Axes,
    members: list[Series],
    name: str,
    log: bool,
) -> None:
    """Draw one metric of some series.

    Args:
        axis: the panel.
        members: the series.
        name: the metric.
        log: make the ordinate of what is no percentage logarithmic.
    """
    styles = cycle(LINES)
    for series in members:
        _curve(axis, series, name, next(styles))
    axis.set_ylabel(AXIS[name])
    axis.margins(x=0)
    if log and name not in PERCENT:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())


def _curve(
    axis: Axes,
    series: Series,
    name: str,
    style: Any,
) -> None:
    """Draw one series: the mean over seeds, their range, and the best threshold of the mIoU.

    Args:
        axis: the panel.
        series: the series.
        name: the metric.
        style: the style of the line.
    """
    thresholds, values = _sweep(series["metrics"], name)
    mean = values.mean(0)
    low = values.min(0)
    high = values.max(0)
    look = {"linestyle": style, "label": series["label"]}
    (line,) = axis.plot(thresholds, mean, **look)
    color = line.get_color()
    axis.fill_between(
        thresholds,
        low,
        high,
        alpha=0.2,
        color=color,
        linewidth=0,
    )
    if name == "miou":
        best = int(np.nanargmax(mean))
        axis.plot(thresholds[best], mean[best], "o", color=color, markersize=4)


def _sweep(paths: list[str], name: str) -> tuple[list[float], np.ndarray]:
    """Read the thresholds and a metric at each, seeds × thresholds, in percent where it is a percentage.

    Raises:
        WsssError: the metrics are not those of scores.
    """
    sweeps = [read_json(path).get("sweep") for path in paths]
    first = sweeps[0]
    if None in sweeps:
        raise WsssError(f"{paths[0]}: has no threshold sweep; draw a stage whose result is CAM scores")
    curves = [sweep[name] for sweep in sweeps]
    values = np.array(curves, float)
    scale = 100 if name in PERCENT else 1
    return first["thresholds"], values * scale


# ---- classes


def class_bars(drawing: FigureDrawing) -> Figure:
    """Draw the IoU of each class, one group of bars per class; more than ``IN_A_ROW`` classes in several rows."""
    series = drawing["series"]
    classes = _classes(series)
    say_unwritable(classes)
    labels = [entry["label"] for entry in series]
    values = np.array([_ious(entry) for entry in series])  # series × classes
    rows = math.ceil(len(classes) / IN_A_ROW)
    in_a_row = math.ceil(len(classes) / rows)
    figure, axes = plt.subplots(
        rows,
        figsize=(WIDTH, 2.4 * rows),
        squeeze=False,
        sharey=True,
    )
    for row, axis in enumerate(axes[:, 0]):
        start = row * in_a_row
        part = slice(start, start + in_a_row)
        _bars(axis, classes[part], values[:, part], labels)
        if rows > 1:
            _set_apart(axis, in_a_row)
    axes[0, 0].legend(ncols=len(series), **ABOVE)
    if rows > 1:
        figure.tight_layout()
    return figure


def _classes(series: list[Series]) -> list[str]:
    """Read the names of the classes."""
    path = series[0]["metrics"][0]
    metrics = read_json(path)
    return list(metrics["classes"])


def _set_apart(axis: Axes, classes: int) -> None:
    """Make one of several rows as wide as a full row, and write its class names small and vertically."""
    axis.set_xlim(-0.5, classes - 0.5)
    axis.tick_params(axis="x", rotation=90, labelsize=SMALL)


def _bars(
    axis: Axes,
    classes: list[str],
    values: np.ndarray,
    labels: list[str],
) -> None:
    """Draw the values of some classes, one group of bars per class and one bar per series.

    Args:
        axis: the axis.
        classes: the names of the classes.
        values: series × classes.
        labels: the names of the series.
    """
    at = np.arange(len(classes))
    number = len(values)
    width = GROUP / number
    for i, label in enumerate(labels):
        offset = (i - (number - 1) / 2) * width  # of the bar from the middle of its class
        axis.bar(at + offset, values[i], width, label=label)
    look = SLANTED if len(classes) > MANY else LEVEL
    axis.set_xticks(range(len(classes)), classes, **look)
    axis.set_ylabel(AXIS["iou"])


def _ious(series: Series) -> np.ndarray:
    """Read the IoU of each class in percent, the mean over seeds."""
    values = []
    for path in series["metrics"]:
        metrics = read_json(path)
        point = operating_point(metrics, series["at"], path)
        values.append(point["iou"])
    mean = np.mean(values, axis=0)
    return np.asarray(100 * mean)


# ---- a column of a table


def table_dots(drawing: FigureDrawing) -> Figure:
    """Draw one column of a table: rings for reported values, dots for ours with the standard deviation over seeds."""
    names, cells = _with_values(drawing["rows"])
    number = len(cells)
    size = (WIDTH * 0.8, 0.2 * number + 0.7)
    figure, axis = plt.subplots(figsize=size)
    at = range(number)[::-1]  # the first row is the uppermost
    for y, cell in zip(at, cells, strict=True):
        _dots(axis, y, cell)
    axis.set_ylim(-0.7, number - 0.3)
    axis.margins(x=0.05)
    axis.set_yticks(at, names, fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(_axis_label(drawing))
    legend(axis)
    return figure


def _axis_label(drawing: FigureDrawing) -> str:
    """Name the column that is shown: its label, its metric, and its unit."""
    label = drawing["columns_shown"][0]["label"]
    cell = drawing["rows"][0]["cells"][0]
    if "%" in label:
        return label
    shown = metric(cell["metric"], cell.get("class", ""))
    return with_unit(f"{label}, {shown}", cell)


def _with_values(rows: list[Row]) -> tuple[list[str], list[Cell]]:
    """Read the first cells of rows; return the names of the rows that have a value there, and the cells."""
    names, cells = [], []
    for row in rows:
        cell = read_cell(row["cells"][0])
        if cell.reported is None and cell.mean is None:
            continue
        names.append(row_name(row))
        cells.append(cell)
    return names, cells


def _dots(axis: Axes, y: int, cell: Cell) -> None:
    """Draw the marks of one row, and its line."""
    axis.axhline(y, color="#eeeeee", linewidth=0.8, zorder=0)
    if cell.reported is not None:
        axis.plot(cell.reported, y, **REPORTED)
    if cell.mean is not None:
        axis.errorbar(cell.mean, y, xerr=cell.spread, capsize=2, **OURS)
