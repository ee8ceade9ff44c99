"""Alternative texts of figures: what a figure shows, for readers who do not see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

NAMED = 8  # bars whose heights are all named
Series = dict[str, tuple[list[float], list[float]]]  # label -> abscissas and ordinates


def describe(figure: Figure) -> str:
    """Say what a figure shows: the heads and number of its pictures, or of each panel the axes and its series."""
    pictures = [axis for axis in figure.axes if axis.images]
    if pictures:
        return _pictures(pictures)
    return " ".join(text for text in map(_panel, figure.axes) if text)


def _pictures(axes: Sequence[Axes]) -> str:
    """Name the columns of a grid of pictures. A grid of two blocks has each head twice."""
    heads = [axis.get_title().replace("\n", " ") for axis in axes if axis.get_title()]
    columns = list(dict.fromkeys(heads))
    images = len(axes) // max(1, len(columns))
    return f"{images} image{'s' if images > 1 else ''}, each as: {', '.join(columns)}."


def _panel(axis: Axes) -> str:
    """Describe one panel."""
    if bars := [container for container in axis.containers if isinstance(container, BarContainer)]:
        names = [label.get_text() for label in axis.get_xticklabels()]
        return f"Bars of {axis.get_ylabel()}. {_sentence([_bars(one, names) for one in bars])}"
    if not (series := _series(axis)):
        return ""
    title = axis.get_title(loc="left")
    if not axis.get_ylabel():  # rows of names beside their marks
        return f"Dots of {axis.get_xlabel()}. {_sentence([_range(label, xs) for label, (xs, _) in series.items()])}"
    start = f"{title}: {axis.get_ylabel()}" if title else axis.get_ylabel()
    texts = [_course(label, xs, ys) for label, (xs, ys) in series.items()]
    return f"{start} over {_abscissa(axis)}. {_sentence(texts)}"


def _abscissa(axis: Axes) -> str:
    """Name what a panel's abscissa is; of panels that share one, the last says so."""
    shared = [other.get_xlabel() for other in axis.get_shared_x_axes().get_siblings(axis)]
    return axis.get_xlabel() or next((label for label in shared if label), "")


def _series(axis: Axes) -> Series:
    """Collect the points of a panel's labelled lines and marks; those of one label are one series."""
    found: Series = {}
    for label, line in [*_lines(axis), *_marks_with_spread(axis)]:
        if not label.startswith("_"):
            xs, ys = found.setdefault(label, ([], []))
            xs += np.ravel(np.asarray(line.get_xdata(), float)).tolist()
            ys += np.ravel(np.asarray(line.get_ydata(), float)).tolist()
    return found


def _lines(axis: Axes) -> list[tuple[str, Line2D]]:
    return [(str(line.get_label()), line) for line in axis.lines]


def _marks_with_spread(axis: Axes) -> list[tuple[str, Line2D]]:
    """Return the marks that have a bar for their spread; their label is that of mark and bar together."""
    both = [one for one in axis.containers if isinstance(one, ErrorbarContainer)]
    return [(str(one.get_label()), one.lines[0]) for one in both if one.lines[0] is not None]


def _sentence(texts: list[str]) -> str:
    return "; ".join(texts) + "."


def _bars(bars: BarContainer, names: list[str]) -> str:
    """Describe the bars of one label: all of few, the ends of many."""
    heights = [float(bar.get_height()) for bar in bars]
    if len(heights) <= NAMED:
        parts = [f"{name} {height:.1f}" for name, height in zip(names, heights, strict=True)]
        return f"{bars.get_label()}: {', '.join(parts)}"
    low, high = int(np.argmin(heights)), int(np.argmax(heights))
    return f"{bars.get_label()}: from {heights[low]:.1f} ({names[low]}) to {heights[high]:.1f} ({names[high]})"


def _range(label: str, values: list[float]) -> str:
    """Describe marks without order."""
    return f"{label}: {len(values)} from {min(values):.1f} to {max(values):.1f}"


def _course(label: str, xs: list[float], ys: list[float]) -> str:
    """Describe a curve by its ends and its highest point, and marks without order by their range."""
    if sorted(xs) != xs or len(xs) < 3:
        return _range(label, ys)
    top = int(np.nanargmax(ys))
    ends = f"{label}: {_short(ys[0])} at {_short(xs[0])}, {_short(ys[-1])} at {_short(xs[-1])}"
    return ends if top in (0, len(ys) - 1) else f"{ends}, highest {_short(ys[top])} at {_short(xs[top])}"


def _short(value: float) -> str:
    """Write a number with three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
