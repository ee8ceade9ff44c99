"""A forest plot of claims: the reported difference beside ours with its interval, and the verdict by mark and word."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wsss.report.judging import FAILS, HOLDS, MARGIN, MARKS, NOT_RUN, UNDECIDED, JudgedClaim
from wsss.report.style import COLOURS, REPORTED, WIDTH

# told apart by shape, by word, and by colour
LOOKS: dict[str, dict[str, Any]] = {
    HOLDS: {"color": COLOURS[0], "marker": "o"},
    FAILS: {"color": COLOURS[1], "marker": "s"},
    UNDECIDED: {"color": COLOURS[4], "marker": "D", "mfc": "white"},
    NOT_RUN: {"color": "#555555", "marker": ""},
}
ROW, LINE, WRAP = 0.135, 0.085, 82  # inches of a claim and of a further line of its sentence; characters of a line
TEXT, SMALL = 6.0, 5.5  # points
LEFT, RIGHT = 3.7, 0.95  # inches of the sentences and of the verdicts
ZONE: dict[str, Any] = {"color": "#dddddd", "linewidth": 5, "solid_capstyle": "butt"}
LEAST = 5.0  # points that the axis reaches to either side at least


def forest(claims: list[JudgedClaim]) -> Figure:
    """Draw one row per claim: of several comparisons the one that decides, and ticks for the others."""
    rows = _rows(claims)
    height = sum(inches for *_, inches in rows)
    figure = plt.figure(figsize=(WIDTH, height + 0.75))
    axis = figure.add_axes((LEFT / WIDTH, 0.4 / (height + 0.75), 1 - (LEFT + RIGHT) / WIDTH, height / (height + 0.75)))
    limits = _limits(claims)
    y, centres = 0.0, []
    for head, claim, inches in rows:
        centres.append((y + inches / 2, head, claim))
        y += inches
    for at, head, claim in centres:
        if claim is None:
            _write(axis, head, (0, at), 4 - LEFT * 72, weight="bold")
        else:
            _draw(axis, at, claim, limits)
    axis.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    axis.set_xlim(*limits)
    axis.set_ylim(height, 0)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="x", labelsize=SMALL + 1)
    axis.set_xlabel("difference in points; to the right of 0 it is as claimed", fontsize=SMALL + 1)
    _legend(axis)
    return figure


def _rows(claims: list[JudgedClaim]) -> list[tuple[str, JudgedClaim | None, float]]:
    """(head, claim, inches): a head before the claims of each paper, where there are several papers."""
    papers = [(paper, list(members)) for paper, members in groupby(claims, lambda claim: claim.paper)]
    found: list[tuple[str, JudgedClaim | None, float]] = []
    for paper, members in papers:
        if len(papers) > 1:
            found.append((paper, None, ROW * 1.3))
        found += [("", claim, ROW + LINE * (len(_wrapped(claim)) - 1)) for claim in members]
    return found


def _wrapped(claim: JudgedClaim) -> list[str]:
    return textwrap.wrap(claim.says, WRAP)


def _limits(claims: list[JudgedClaim]) -> tuple[float, float]:
    """Return the ends of the axis: all differences are inside, and so is most of every interval."""
    values = [0.0]
    for claim in claims:
        for one in claim.comparisons:
            values += [value for value in (one.reported, one.mean) if value is not None]
    low, high = min(*values, -LEAST), max(*values, LEAST)
    room = 0.08 * (high - low)
    return low - room, high + room


def _draw(axis: Axes, y: float, claim: JudgedClaim, limits: tuple[float, float]) -> None:
    """Draw one claim: its sentence, the decisive comparison, ticks for the others, the verdict.

    Args:
        axis: the axis.
        y: its row.
        claim: the claim.
        limits: the ends of the axis.
    """
    look, one = LOOKS[claim.verdict], claim.weakest
    axis.axhline(y, color="#eeeeee", linewidth=0.6, zorder=0)
    _zone(axis, y, claim.direction, limits[1])
    if one.reported is not None:
        axis.plot(one.reported, y, **{**REPORTED, "markersize": 4.5})
    _others(axis, y, claim)
    if one.interval is not None:
        _interval(axis, y, one.interval, limits, look["color"])
    if one.mean is not None:
        axis.plot(one.mean, y, linestyle="", markersize=4, zorder=3, **look)
    _write(axis, "\n".join(_wrapped(claim)), (0, y), 8 - LEFT * 72, linespacing=0.95)
    _write(axis, _verdict(claim), (1, y), 4, color=look["color"])


def _zone(axis: Axes, y: float, direction: str, end: float) -> None:
    """Draw where the difference may lie, if that does not begin at 0.

    Args:
        axis: the axis.
        y: the row of the claim.
        direction: the direction of the claim.
        end: the right end of the axis.
    """
    if direction in ("equal", "at_least"):
        most = MARGIN if direction == "equal" else end
        axis.plot([-MARGIN, most], [y, y], **ZONE, zorder=0)


def _others(axis: Axes, y: float, claim: JudgedClaim) -> None:
    """Draw a tick for each comparison that does not decide."""
    for other in claim.comparisons:
        if other is not claim.weakest and other.mean is not None:
            axis.plot(other.mean, y, marker="|", color=LOOKS[other.verdict]["color"], markersize=5, linestyle="")


def _verdict(claim: JudgedClaim) -> str:
    """Write the verdict by mark and word, and how many comparisons have it where it is not that of all."""
    text = f"{MARKS[claim.verdict]} {claim.verdict}"
    if len(claim.comparisons) == 1 or claim.verdict not in (FAILS, UNDECIDED):
        return text
    alike = [one for one in claim.comparisons if one.verdict == claim.verdict]
    return f"{text} ({len(alike)} of {len(claim.comparisons)})"


def _write(axis: Axes, text: str, at: tuple[float, float], offset: float, **look: Any) -> None:
    """Write a text beside the axis.

    Args:
        axis: the axis.
        text: the text.
        at: a fraction of the axis's width, and a row.
        offset: points to the right of that.
        look: what else matplotlib is told.
    """
    place: dict[str, Any] = {"xytext": (offset, 0), "textcoords": "offset points"}
    axis.annotate(text, at, xycoords=("axes fraction", "data"), va="center", fontsize=TEXT, **place, **look)


def _interval(axis: Axes, y: float, interval: tuple[float, float], limits: tuple[float, float], color: str) -> None:
    """Draw an interval, with an arrow where it goes on beyond the axis.

    Args:
        axis: the axis.
        y: the row of the claim.
        interval: the interval.
        limits: the ends of the axis.
        color: the colour of the verdict.
    """
    ends = np.clip(interval, *limits)
    axis.plot(ends, [y, y], color=color, linewidth=1.2, zorder=2)
    for end, wanted, mark in zip(ends, interval, ("<", ">"), strict=True):
        if end != wanted:
            axis.plot(end, y, marker=mark, color=color, markersize=3, linestyle="", clip_on=False, zorder=2)


def _legend(axis: Axes) -> None:
    """Name the marks above the axis."""
    marks = [Line2D([], [], **{**REPORTED, "markersize": 4.5})]
    line: dict[str, Any] = {"linestyle": "-", "linewidth": 1.2, "markersize": 4}
    marks += [Line2D([], [], label=verdict, **line, **LOOKS[verdict]) for verdict in (HOLDS, FAILS, UNDECIDED)]
    tick: dict[str, Any] = {"linestyle": "", "marker": "|", "color": "#555555", "markersize": 5}
    marks.append(Line2D([], [], label="other comparisons of the claim", **tick))
    marks.append(Line2D([], [], label="within a point of 0, or above", **ZONE))
    right = 1 + RIGHT / (WIDTH - LEFT - RIGHT)
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (right, 1.0), "ncols": len(marks)}
    axis.legend(handles=marks, fontsize=SMALL, handlelength=1.6, columnspacing=1.0, handletextpad=0.4, **place)
