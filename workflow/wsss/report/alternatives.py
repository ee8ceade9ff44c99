"""Alternative texts of figures: what a figure shows, for readers who do not see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

NAMED = 8  # bars whose heights are all named
Series = dict[str, tuple[list[float], list[float]]]  # label -> abscissas and ordinates


def describe(figure: Figure) -> str:
    """Say what a figure shows: the heads and number of its pictures or, panel by panel, axes and series."""
    pictures = [axis for axis in figure.axes if axis.images]
    if pictures:
        return _pictures(pictures)
    texts = map(_panel, figure.axes)
    return " ".join(filter(None, texts))


def _pictures(axes: Sequence[Axes]) -> str:
    """Name the columns of a grid of pictures. A grid of two blocks has each head twice."""
    heads: dict[str, None] = {}
    for axis in axes:
        if head := axis.get_title():
            heads[head.replace("\n", " ")] = None
    columns = ", ".join(heads)
    images = len(axes) // max(1, len(heads))
    plural = "s" if images > 1 else ""
    return f"{images} image{plural}, each as: {columns}."


def _panel(axis: Axes) -> str:
    """Describe one panel; return nothing for an empty one."""
    bars = [one for one in axis.containers if isinstance(one, BarContainer)]
    if bars:
        return _bar_chart(axis, bars)
    series = _series(axis)
    if not series:
        return ""
    in_rows = not axis.get_ylabel()  # names beside their marks
    if in_rows:
        return _dot_chart(axis, series)
    return _curves(axis, series)


def _bar_chart(axis: Axes, bars: list[BarContainer]) -> str:
    """Describe a panel of bars."""
    names = [label.get_text() for label in axis.get_xticklabels()]
    texts = [_bars(one, names) for one in bars]
    shown = axis.get_ylabel()
    return f"Bars of {shown}. {_sentence(texts)}"


def _dot_chart(axis: Axes, series: Series) -> str:
    """Describe a panel of marks in rows."""
    texts = []
    for label, (xs, _) in series.items():
        texts.append(_range(label, xs))
    shown = axis.get_xlabel()
    return f"Dots of {shown}. {_sentence(texts)}"


def _curves(axis: Axes, series: Series) -> str:
    """Describe a panel of curves, or of marks in a plane."""
    start = axis.get_ylabel()
    title = axis.get_title(loc="left")
    if title:
        start = f"{title}: {start}"
    texts = []
    for label, (xs, ys) in series.items():
        texts.append(_course(label, xs, ys))
    return f"{start} over {_abscissa(axis)}. {_sentence(texts)}"


def _abscissa(axis: Axes) -> str:
    """Name what a panel's abscissa is; of panels that share one, the last says so."""
    siblings = axis.get_shared_x_axes().get_siblings(axis)
    for one in (axis, *siblings):
        if label := one.get_xlabel():
            return str(label)
    return ""


def _series(axis: Axes) -> Series:
    """Collect the points of a panel's labelled lines and marks; those of one label are one series."""
    found: Series = {}
    for label, line in chain(_lines(axis), _marks_with_spread(axis)):
        if label.startswith("_"):
            continue
        xs, ys = found.setdefault(label, ([], []))
        xs += _numbers(line.get_xdata())
        ys += _numbers(line.get_ydata())
    return found


def _numbers(data: ArrayLike) -> list[float]:
    """List the coordinates of a line's points."""
    values = np.asarray(data, float)
    flat: list[float] = values.ravel().tolist()
    return flat


def _lines(axis: Axes) -> Iterator[tuple[str, Line2D]]:
    """Yield (label, line) of a panel's lines."""
    for line in axis.lines:
        yield str(line.get_label()), line


def _marks_with_spread(axis: Axes) -> Iterator[tuple[str, Line2D]]:
    """Yield (label, marks) of the marks that have a bar for their spread; the label is that of both together."""
    for container in axis.containers:
        if not isinstance(container, ErrorbarContainer):
            continue
        marks = container.lines[0]
        if marks is not None:
            yield str(container.get_label()), marks


def _sentence(texts: list[str]) -> str:
    """Put texts one after the other."""
    return "; ".join(texts) + "."


def _bars(bars: BarContainer, names: list[str]) -> str:
    """Describe the bars of one label: all of few, the ends of many."""
    label = bars.get_label()
    heights = [float(bar.get_height()) for bar in bars]
    if len(heights) > NAMED:
        return f"{label}: {_ends(names, heights)}"
    parts = []
    for name, height in zip(names, heights, strict=True):
        parts.append(f"{name} {height:.1f}")
    return f"{label}: {', '.join(parts)}"


def _ends(names: list[str], heights: list[float]) -> str:
    """Name the lowest and the highest of many bars."""
    low = int(np.argmin(heights))
    high = int(np.argmax(heights))
    return f"from {heights[low]:.1f} ({names[low]}) to {heights[high]:.1f} ({names[high]})"


def _range(label: str, values: list[float]) -> str:
    """Describe marks without order."""
    return f"{label}: {len(values)} from {min(values):.1f} to {max(values):.1f}"


def _course(label: str, xs: list[float], ys: list[float]) -> str:
    """Describe a curve by its ends and its highest point, and marks without order by their range."""
    xs, ys = _with_values(xs, ys)
    if not ys:
        return f"{label}: no value"
    ordered = sorted(xs) == xs
    if not ordered or len(xs) < 3:
        return _range(label, ys)
    points = list(map(_point, xs, ys))
    last = len(points) - 1
    top = int(np.argmax(ys))
    ends = f"{label}: {points[0]}, {points[last]}"
    if top in (0, last):
        return ends
    return f"{ends}, highest {points[top]}"


def _with_values(xs: list[float], ys: list[float]) -> tuple[list[float], list[float]]:
    """Return the points of a curve that have a value."""
    kept = [at for at, y in enumerate(ys) if not math.isnan(y)]
    return [xs[at] for at in kept], [ys[at] for at in kept]


def _point(x: float, y: float) -> str:
    """Write a point of a curve."""
    return f"{_short(y)} at {_short(x)}"


def _short(value: float) -> str:
    """Write a number with three significant digits."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
