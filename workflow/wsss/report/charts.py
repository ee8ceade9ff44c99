"""Curves, bars and points of numbers: thresholds, classes, and columns of tables."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox

from wsss.errors import WsssError
from wsss.files import read_json
from wsss.report.cells import operating_point, read_cell
from wsss.report.layout import row_name
from wsss.report.style import WIDTH

PERCENT = {"miou", "precision", "recall", "iou"}
AXIS = {
    "miou": "mIoU (%)",
    "precision": "precision (%)",
    "recall": "recall (%)",
    "iou": "IoU (%)",
    "under": "under-activation",
    "over": "over-activation",
}
REPORTED = {"marker": "o", "linestyle": "", "color": "#777777", "mfc": "white", "markersize": 5, "label": "reported"}
OURS = {"marker": "o", "linestyle": "", "color": "#0072B2", "markersize": 5, "label": "ours"}
LEADER = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}  # from name to mark
BESIDE = 9  # points: a name that stands nearer to its mark needs no leader
HALO = [withStroke(linewidth=2, foreground="white")]  # around names, where a line passes below
MARK = 8  # pixels from a mark's centre that no name should cover
AROUND = [  # where a name may stand beside its mark: offset in points, alignment; best first
    (x * far, y * far, horizontal, vertical)
    for far in (5, 9, 15, 24)
    for x, horizontal, y, vertical in (
        (1, "left", 0, "center"),
        (-1, "right", 0, "center"),
        (0, "center", 1, "bottom"),
        (0, "center", -1, "top"),
        (0.7, "left", 0.7, "bottom"),
        (0.7, "left", -0.7, "top"),
        (-0.7, "right", 0.7, "bottom"),
        (-0.7, "right", -0.7, "top"),
    )
]
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]  # told apart without colour


def threshold_curve(plan: dict) -> Figure:
    """Metrics against the background threshold, one line per series; the band is the range over seeds.

    ``metrics_shown`` are the columns of panels, the series' ``group`` their rows; ``log`` makes ordinates logarithmic.
    """
    names = plan.get("metrics_shown", ["miou"])
    groups = list(dict.fromkeys(series.get("group", "") for series in plan["series"]))
    size = (WIDTH if len(names) > 1 else WIDTH / 2, 2.2 * len(groups) + 0.3)
    figure, axes = plt.subplots(len(groups), len(names), figsize=size, squeeze=False, sharex=True, sharey="col")
    for row, group in zip(axes, groups, strict=True):
        members = [series for series in plan["series"] if series.get("group", "") == group]
        for name, axis in zip(names, row, strict=True):
            for series, style in zip(members, LINES * len(members), strict=False):
                _curve(axis, series, name, style)
            axis.set_ylabel(AXIS[name])
            axis.margins(x=0)
            if plan.get("log") and name not in PERCENT:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter(NullFormatter())
        if group:
            row[0].set_title(group, loc="left", fontweight="bold")
    for axis in axes[-1]:
        axis.set_xlabel("background threshold")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=min(5, len(labels)), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    return figure


def _curve(axis, series: dict, name: str, style) -> None:
    sweeps = [read_json(path).get("sweep") for path in series["metrics"]]
    if None in sweeps:
        raise WsssError(f"{series['metrics'][0]}: has no threshold sweep; draw a stage whose result is CAM scores")
    thresholds = sweeps[0]["thresholds"]
    values = np.array([sweep[name] for sweep in sweeps], float) * (100 if name in PERCENT else 1)  # seeds, thresholds
    (line,) = axis.plot(thresholds, values.mean(0), linestyle=style, label=series["label"])
    axis.fill_between(thresholds, values.min(0), values.max(0), alpha=0.2, color=line.get_color(), linewidth=0)
    if name == "miou":
        best = int(np.nanargmax(values.mean(0)))
        axis.plot(thresholds[best], values.mean(0)[best], "o", color=line.get_color(), markersize=4)


def class_bars(plan: dict) -> Figure:
    """Per-class IoU, one group of bars per class."""
    series = plan["series"]
    points = [[operating_point(read_json(p), s["at"], p)["iou"] for p in s["metrics"]] for s in series]
    classes = read_json(series[0]["metrics"][0])["classes"]
    figure, axis = plt.subplots(figsize=(WIDTH, 2.4))
    width = 0.8 / len(series)
    for i, (entry, values) in enumerate(zip(series, points, strict=True)):
        at = np.arange(len(classes)) + (i - (len(series) - 1) / 2) * width
        axis.bar(at, 100 * np.mean(values, axis=0), width, label=entry["label"])
    many = len(classes) > 8
    axis.set_xticks(range(len(classes)), classes, rotation=45 if many else 0, ha="right" if many else "center")
    axis.set_ylabel(AXIS["iou"])
    axis.legend(ncols=len(series), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def table_dots(plan: dict) -> Figure:
    """One column of a table: rings for reported values, dots for ours with the standard deviation over seeds."""
    entries = [(row_name(row), read_cell(row["cells"][0])) for row in plan["rows"]]
    entries = [(name, cell) for name, cell in entries if cell.reported is not None or cell.mean is not None]
    figure, axis = plt.subplots(figsize=(WIDTH * 0.8, 0.2 * len(entries) + 0.7))
    at = np.arange(len(entries))[::-1]
    for y, (_, cell) in zip(at, entries, strict=True):
        axis.axhline(y, color="#eeeeee", linewidth=0.8, zorder=0)
        if cell.reported is not None:
            axis.plot(cell.reported, y, **REPORTED)
        if cell.mean is not None:
            axis.errorbar(cell.mean, y, xerr=cell.spread, capsize=2, **OURS)
    axis.set_ylim(-0.7, len(entries) - 0.3)
    axis.margins(x=0.05)
    axis.set_yticks(at, [name for name, _ in entries], fontsize=8)
    axis.tick_params(axis="y", length=0)
    label = plan["columns_shown"][0]["label"]
    axis.set_xlabel(label if "%" in label else f"{label}, mIoU (%)")
    _legend(axis)
    return figure


def table_scatter(plan: dict) -> Figure:
    """Two columns of a table against each other: rings for reported values, dots for ours, a line between the two."""
    figure, axis = plt.subplots(figsize=(WIDTH * 0.6, WIDTH * 0.5))
    points, named = [], []
    for row in plan["rows"]:
        x, y = (read_cell(cell) for cell in row["cells"])
        reported, ours = _both(x.reported, y.reported), _both(x.mean, y.mean)
        if reported and ours:
            axis.plot(*zip(reported, ours, strict=True), color="#bbbbbb", linewidth=0.8, zorder=1)
        if reported:
            axis.plot(*reported, **REPORTED)
        if ours:
            axis.plot(*ours, **OURS)
        points += filter(None, (reported, ours))
        if ours or reported:
            named.append((row_name(row), list(filter(None, (ours, reported)))))
    for j, write in enumerate((axis.set_xlabel, axis.set_ylabel)):
        label = plan["columns_shown"][j]["label"]
        percent = plan["rows"][0]["cells"][j].get("scale", 100) == 100 and "%" not in label
        write(f"{label} (%)" if percent else label)
    axis.margins(0.15)
    _legend(axis)
    _label(axis, named, points)
    return figure


def _label(axis, named: list[tuple[str, list]], points: list[tuple[float, float]]) -> None:
    """Write each name beside one of its points, where it covers least of all points and of the names before it."""
    axis.figure.canvas.draw()  # text has no size before
    pixels = axis.transData.transform(points) if points else []
    taken = [Bbox.from_bounds(x - MARK, y - MARK, 2 * MARK, 2 * MARK) for x, y in pixels]
    for name, own in named:
        text = axis.annotate(name, own[0], (0, 0), textcoords="offset points", fontsize=7, arrowprops=LEADER)
        text.set(path_effects=HALO, zorder=1.5)  # over lines, under marks
        choices = []
        for order, (point, place) in enumerate((point, place) for point in own for place in AROUND):
            _move(text, point, place)
            box = Text.get_window_extent(text).padded(1)  # without its line
            outside = box.width * box.height - _common(box, axis.bbox.padded(-MARK))
            choices.append((sum(_common(box, other) for other in taken) + 5 * outside, order, point, place, box))
        _, _, point, place, box = min(choices, key=lambda choice: choice[:2])
        _move(text, point, place)
        text.arrow_patch.set_visible(np.hypot(*place[:2]) > BESIDE)
        taken.append(box)


def _move(text, point: tuple[float, float], place: tuple[float, float, str, str]) -> None:
    x, y, horizontal, vertical = place
    text.xy = point
    text.set(position=(x, y), ha=horizontal, va=vertical)
    text.update_positions(text.figure.canvas.get_renderer())


def _common(a: Bbox, b: Bbox) -> float:
    """The area that two boxes share."""
    shared = Bbox.intersection(a, b)
    return shared.width * shared.height if shared else 0.0


def _both(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _legend(axis) -> None:
    """A legend above the axis that names each kind of mark once."""
    named = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if named:
        axis.legend(named.values(), named.keys(), ncols=len(named), loc="lower right", bbox_to_anchor=(1.0, 1.0))
