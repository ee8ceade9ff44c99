"""Alternative texts of figures: what a figure shows, for readers who do not see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

NAMED = 8  # bars whose heights are all named
Series = dict[str, tuple[list[float], list[float]]]  # label -> abscissas and ordinates


def describe(figure: Figure) -> str:
    """Say what a figure shows: the heads and number of its pictures, or of each panel the axes and its series."""
    pictures = [axis for axis in figure.axes if axis.images]
    if pictures:
        return _pictures(pictures)
    texts = map(_panel, figure.axes)
    return " ".join(text for text in texts if text)


def _pictures(axes: Sequence[Axes]) -> str:
    """Name the columns of a grid of pictures. A grid of two blocks has each head twice."""
    heads: dict[str, None] = {}
    for axis in axes:
        if head := axis.get_title():
            heads[head.replace("\n", " ")] = None
    images = len(axes) // max(1, len(heads))
    plural = "s" if images > 1 else ""
    return f"{images} image{plural}, each as: {', '.join(heads)}."


def _panel(axis: Axes) -> str:
    """Describe one panel; nothing of one that is empty."""
    bars = [container for container in axis.containers if isinstance(container, BarContainer)]
    if bars:
        return _bar_chart(axis, bars)
    series = _series(axis)
    if not series:
        return ""
    if not axis.get_ylabel():  # rows of names beside their marks
        return _dot_chart(axis, series)
    return _curves(axis, series)


def _bar_chart(axis: Axes, bars: list[BarContainer]) -> str:
    """Describe a panel of bars."""
    names = [label.get_text() for label in axis.get_xticklabels()]
    texts = [_bars(one, names) for one in bars]
    return f"Bars of {axis.get_ylabel()}. {_sentence(texts)}"


def _dot_chart(axis: Axes, series: Series) -> str:
    """Describe a panel of marks in rows."""
    texts = [_range(label, xs) for label, (xs, _) in series.items()]
    return f"Dots of {axis.get_xlabel()}. {_sentence(texts)}"


def _curves(axis: Axes, series: Series) -> str:
    """Describe a panel of curves, or of marks in a plane."""
    title = axis.get_title(loc="left")
    start = f"{title}: {axis.get_ylabel()}" if title else axis.get_ylabel()
    texts = [_course(label, xs, ys) for label, (xs, ys) in series.items()]
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
    for label, line in [*_lines(axis), *_marks_with_spread(axis)]:
        if not label.startswith("_"):
            xs, ys = found.setdefault(label, ([], []))
            xs += _numbers(line.get_xdata())
            ys += _numbers(line.get_ydata())
    return found


def _numbers(data: ArrayLike) -> list[float]:
    """List the coordinates of a line's points."""
    flat: list[float] = np.ravel(np.asarray(data, float)).tolist()
    return flat


def _lines(axis: Axes) -> Iterator[tuple[str, Line2D]]:
    """Yield (label, line) of a panel's lines."""
    for line in axis.lines:
        yield str(line.get_label()), line


def _marks_with_spread(axis: Axes) -> Iterator[tuple[str, Line2D]]:
    """Yield (label, marks) of the marks that have a bar for their spread; the label is that of both together."""
    for container in axis.containers:
        if isinstance(container, ErrorbarContainer):
            marks = container.lines[0]
            if marks is not None:
                yield str(container.get_label()), marks


def _sentence(texts: list[str]) -> str:
    """Put texts one behind the other."""
    return "; ".join(texts) + "."


def _bars(bars: BarContainer, names: list[str]) -> str:
    """Describe the bars of one label: all of few, the ends of many."""
    heights = [float(bar.get_height()) for bar in bars]
    if len(heights) <= NAMED:
        pairs = zip(names, heights, strict=True)
        parts = [f"{name} {height:.1f}" for name, height in pairs]
        return f"{bars.get_label()}: {', '.join(parts)}"
    low = int(np.argmin(heights))
    high = int(np.argmax(heights))
    return f"{bars.get_label()}: from {heights[low]:.1f} ({names[low]}) to {heights[high]:.1f} ({names[high]})"


def _range(label: str, values: list[float]) -> str:
    """Describe marks without order."""
    return f"{label}: {len(values)} from {min(values):.1f} to {max(values):.1f}"


def _course(label: str, xs: list[float], ys: list[float]) -> str:
    """Describe a curve by its ends and its highest point, and marks without order by their range."""
    if sorted(xs) != xs or len(xs) < 3:
        return _range(label, ys)
    points = [f"{_short(y)} at {_short(x)}" for x, y in zip(xs, ys, strict=True)]
    top = int(np.nanargmax(ys))
    ends = f"{label}: {points[0]}, {points[-1]}"
    if top in (0, len(ys) - 1):
        return ends
    return f"{ends}, highest {points[top]}"


def _short(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
