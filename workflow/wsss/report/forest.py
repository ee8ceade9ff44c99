"""A forest plot of claims: the reported difference beside ours with its interval, and the verdict by mark and word."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wsss.report.claim_lines import signed
from wsss.report.judging import (
    FAILS,
    HOLDS,
    MARGIN,
    MARKS,
    NOT_RUN,
    UNDECIDED,
    Judged,
    JudgedClaim,
)
from wsss.report.style import COLOURS, REPORTED, WIDTH

# told apart by shape, by word, and by colour
LOOKS: dict[str, dict[str, Any]] = {
    HOLDS: {"color": COLOURS[0], "marker": "o"},
    FAILS: {"color": COLOURS[1], "marker": "s"},
    UNDECIDED: {"color": COLOURS[4], "marker": "D", "mfc": "white"},
    NOT_RUN: {"color": "#555555", "marker": ""},
}
ROW = 0.135  # inches of a claim
LINE = 0.085  # inches of each further line of its sentence
WRAP = 82  # characters of a line
TEXT = 6.0  # points
SMALL = 5.5
LEFT = 3.7  # inches of the sentences
RIGHT = 0.95  # inches of the verdicts
FOOT = 0.4  # inches of the axis below the rows
HEAD = 0.35  # inches of the legend above them
EDGE = -LEFT * 72  # points from the axis to the left edge
LEAST = 5.0  # points that the axis reaches to either side at least
MOST = 20.0  # and at most, without its room: under- and over-activation may differ by hundreds
FAINT = "#eeeeee"  # the line of a row
THEIRS: dict[str, Any] = {**REPORTED, "markersize": 4.5}
OURS: dict[str, Any] = {"linestyle": "", "markersize": 4, "zorder": 3}
ZONE: dict[str, Any] = {"color": "#dddddd", "linewidth": 5, "solid_capstyle": "butt"}
TICK: dict[str, Any] = {"marker": "|", "markersize": 5, "linestyle": ""}
ARROW: dict[str, Any] = {"markersize": 3, "linestyle": "", "zorder": 2}


def forest(claims: list[JudgedClaim]) -> Figure:
    """Draw one row per claim: of several comparisons the one that decides, and ticks for the others."""
    bands = _bands(claims)
    height = sum(band.inches for band in bands)
    figure, axis = _empty(height)
    limits = _limits(claims)
    top = 0.0
    for band in bands:
        middle = top + band.inches / 2
        if band.claim is None:
            _write_head(axis, band.head, middle)
        else:
            row = _Row(axis, middle, band.claim, limits)
            row.draw()
        top += band.inches
    _finish(axis, limits, height)
    _legend(axis)
    return figure


def _empty(height: float) -> tuple[Figure, Axes]:
    """Make a figure with room for rows of so many inches in all, and for the texts around them."""
    whole = height + (FOOT + HEAD)
    figure = plt.figure(figsize=(WIDTH, whole))
    place = (  # of the axis, as shares of the figure: left, bottom, width, height
        LEFT / WIDTH,
        FOOT / whole,
        1 - (LEFT + RIGHT) / WIDTH,
        height / whole,
    )
    axis = figure.add_axes(place)
    return figure, axis


def _finish(axis: Axes, limits: tuple[float, float], height: float) -> None:
    """Draw the line at 0, and set the ends and the label of the axis."""
    size = SMALL + 1
    axis.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    axis.set_xlim(*limits)
    axis.set_ylim(height, 0)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="x", labelsize=size)
    axis.set_xlabel("difference in points; to the right of 0 it is as claimed", fontsize=size)


# ---- what goes where


class _Band(NamedTuple):
    """A row of the plot: a claim, or the head before the claims of a paper; and its height in inches."""

    head: str
    claim: JudgedClaim | None
    inches: float


def _bands(claims: list[JudgedClaim]) -> list[_Band]:
    """List the rows from top to bottom: a head before the claims of each paper, where there are several papers."""
    several = len({claim.paper for claim in claims}) > 1
    found: list[_Band] = []
    for paper, members in groupby(claims, lambda claim: claim.paper):
        if several:
            head = _Band(paper, None, ROW * 1.3)
            found.append(head)
        for claim in members:
            band = _Band("", claim, _height(claim))
            found.append(band)
    return found


def _height(claim: JudgedClaim) -> float:
    """Return the inches that a claim takes."""
    further = len(_wrapped(claim)) - 1
    return ROW + LINE * further


def _wrapped(claim: JudgedClaim) -> list[str]:
    """Break the sentence of a claim into lines."""
    return textwrap.wrap(claim.says, WRAP)


def _limits(claims: list[JudgedClaim]) -> tuple[float, float]:
    """Return the ends of the axis: differences of up to ``MOST`` are inside; intervals may go on beyond it."""
    values = [0.0, LEAST, -LEAST]
    for claim in claims:
        for one in claim.comparisons:
            values += _differences(one)
    low = max(min(values), -MOST)
    high = min(max(values), MOST)
    room = 0.08 * (high - low)
    return low - room, high + room


def _differences(one: Judged) -> Iterator[float]:
    """Yield the reported difference of a comparison and ours, as far as there are any."""
    for value in (one.reported, one.mean):
        if value is not None:
            yield value


# ---- one claim


@dataclass(frozen=True)
class _Row:
    """A claim in the plot.

    Args:
        axis: the axis.
        y: the middle of its row.
        claim: the claim.
        limits: the ends of the axis.
    """

    axis: Axes
    y: float
    claim: JudgedClaim
    limits: tuple[float, float]

    def draw(self) -> None:
        """Draw its sentence, the decisive comparison, ticks for the others, and the verdict."""
        one = self.claim.weakest
        self.axis.axhline(self.y, color=FAINT, linewidth=0.6, zorder=0)
        self._zone()
        if one.reported is not None:
            self._mark(one.reported, THEIRS)
        self._others()
        if one.interval is not None:
            low, high = one.interval
            self._interval(low, high)
        if one.mean is not None:
            look = {**OURS, **self.look}
            self._mark(one.mean, look)
        self._texts()

    @property
    def look(self) -> dict[str, Any]:
        """The look of its verdict."""
        return LOOKS[self.claim.verdict]

    def _mark(self, x: float, look: dict[str, Any]) -> None:
        """Draw a mark. One beyond the axis is drawn at its end."""
        shown = np.clip(x, *self.limits)
        self.axis.plot(shown, self.y, clip_on=False, **look)

    def _line(self, left: float, right: float, look: dict[str, Any]) -> None:
        """Draw a line from ``left`` to ``right``."""
        self.axis.plot([left, right], [self.y, self.y], **look)

    def _zone(self) -> None:
        """Draw where the difference may lie, if that does not begin at 0."""
        look = {**ZONE, "zorder": 0}
        _, end = self.limits
        if self.claim.direction == "equal":
            self._line(-MARGIN, MARGIN, look)
        if self.claim.direction == "at_least":
            self._line(-MARGIN, end, look)

    def _others(self) -> None:
        """Draw a tick for each comparison that does not decide."""
        decides = self.claim.weakest
        for other in self.claim.comparisons:
            if other is decides or other.mean is None:
                continue
            color = LOOKS[other.verdict]["color"]
            look = {**TICK, "color": color}
            self._mark(other.mean, look)

    def _interval(self, low: float, high: float) -> None:
        """Draw an interval, with an arrow where it goes on beyond the axis."""
        look = {"color": self.look["color"]}
        left, right = np.clip((low, high), *self.limits)
        self._line(left, right, {**look, "linewidth": 1.2, "zorder": 2})
        if low < left:
            self._mark(left, {**ARROW, **look, "marker": "<"})
        if right < high:
            self._mark(right, {**ARROW, **look, "marker": ">"})

    def _texts(self) -> None:
        """Write the sentence on the left and the verdict on the right."""
        left = (0, self.y)
        right = (1, self.y)
        sentence = "\n".join(_wrapped(self.claim))
        _write(self.axis, sentence, left, 8 + EDGE, linespacing=0.95)
        verdict = _verdict(self.claim, self.limits)
        color = self.look["color"]
        _write(self.axis, verdict, right, 4, color=color)


def _verdict(claim: JudgedClaim, limits: tuple[float, float]) -> str:
    """Write the verdict by mark and word, and in brackets what the marks do not show.

    In brackets stand the number of comparisons with this verdict (if there are several and the verdict is not *holds*),
    and a difference beyond the axis.
    """
    details = []
    alike = [one.verdict for one in claim.comparisons].count(claim.verdict)
    if claim.verdict in (FAILS, UNDECIDED) and len(claim.comparisons) > 1:
        details.append(f"{alike} of {len(claim.comparisons)}")
    mean = claim.weakest.mean
    low, high = limits
    if mean is not None and not low <= mean <= high:
        details.append(signed(mean))
    brackets = f" ({', '.join(details)})" if details else ""
    return f"{MARKS[claim.verdict]} {claim.verdict}{brackets}"


def _write_head(axis: Axes, head: str, y: float) -> None:
    """Write the head before the claims of a paper."""
    _write(axis, head, (0, y), 4 + EDGE, weight="bold")


def _write(
    axis: Axes,
    text: str,
    at: tuple[float, float],
    offset: float,
    **look: Any,
) -> None:
    """Write a text beside the axis.

    Args:
        axis: the axis.
        text: the text.
        at: a fraction of the axis's width, and a row.
        offset: points to the right of that.
        look: what else matplotlib is told.
    """
    axis.annotate(
        text,
        at,
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=TEXT,
        xytext=(offset, 0),
        textcoords="offset points",
        **look,
    )


def _legend(axis: Axes) -> None:
    """Name the marks above the axis."""
    line: dict[str, Any] = {"linestyle": "-", "linewidth": 1.2, "markersize": 4}
    marks = [Line2D([], [], **THEIRS)]
    for verdict in (HOLDS, FAILS, UNDECIDED):
        look = {**line, **LOOKS[verdict]}
        marks.append(_named(verdict, look))
    tick = {**TICK, "color": "#555555"}
    marks.append(_named("other comparisons of the claim", tick))
    marks.append(_named("within a point of 0, or above", ZONE))
    width = WIDTH - LEFT - RIGHT
    right = 1 + RIGHT / width
    axis.legend(
        handles=marks,
        ncols=len(marks),
        loc="lower right",
        bbox_to_anchor=(right, 1.0),
        fontsize=SMALL,
        handlelength=1.6,
        columnspacing=1.0,
        handletextpad=0.4,
    )


def _named(label: str, look: dict[str, Any]) -> Line2D:
    """Make a mark of the legend."""
    return Line2D([], [], label=label, **look)
