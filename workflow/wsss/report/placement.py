"""Names beside the marks of a chart, each where it covers least."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

Point = tuple[float, float]  # in the units of the axes


class Spot(NamedTuple):
    """A place for a name beside its mark: the offset in points, and the alignment."""

    x: float
    y: float
    horizontal: Literal["left", "center", "right"]
    vertical: Literal["bottom", "center", "top"]

    @property
    def distance(self) -> float:
        """The distance from the mark in points."""
        return float(np.hypot(self.x, self.y))

    def times(self, distance: float) -> Spot:
        """Return the spot that many times as far away."""
        x = self.x * distance
        y = self.y * distance
        return self._replace(x=x, y=y)


LEADER = {  # from name to mark
    "arrowstyle": "-",
    "color": "#999999",
    "linewidth": 0.5,
    "shrinkA": 0,
    "shrinkB": 3,
}
BESIDE = 9  # points: a name that stands nearer to its mark needs no leader
HALO = [withStroke(linewidth=2, foreground="white")]  # around names, where a line passes below
MARK = 8  # pixels from a mark's centre that no name should cover
OUTSIDE = 5  # times: what a name costs outside of the axes, over what it costs on a mark
DISTANCES = (5, 9, 15, 24)  # points
DIRECTIONS = (  # best first
    Spot(1, 0, "left", "center"),
    Spot(-1, 0, "right", "center"),
    Spot(0, 1, "center", "bottom"),
    Spot(0, -1, "center", "top"),
    Spot(0.7, 0.7, "left", "bottom"),
    Spot(0.7, -0.7, "left", "top"),
    Spot(-0.7, 0.7, "right", "bottom"),
    Spot(-0.7, -0.7, "right", "top"),
)
Place = tuple[Point, Spot]  # a point, and a spot beside it


def _spots() -> list[Spot]:
    """List all spots beside a mark, best first."""
    found = []
    for distance in DISTANCES:
        for direction in DIRECTIONS:
            found.append(direction.times(distance))
    return found


SPOTS = _spots()


def write_names(
    axis: Axes,
    named: list[tuple[str, list[Point]]],
    marks: list[Point],
) -> None:
    """Write each name beside one of its points, where it covers as little as it can of marks and of earlier names.

    Args:
        axis: the axes, with all marks drawn and limits set.
        named: names, each with the points it may stand beside.
        marks: the points of all marks.
    """
    axis.figure.canvas.draw()  # text has no size before
    taken = _boxes_of_marks(axis, marks)
    for name, own in named:
        text = _written(axis, name, own[0])
        point, spot = _best_place(axis, text, own, taken)
        _move(text, point, spot)
        leader = text.arrow_patch
        if leader is not None:
            leader.set_visible(spot.distance > BESIDE)
        taken.append(_box(text))


def _written(axis: Axes, name: str, point: Point) -> Annotation:
    """Write a name on a point, with a line from one to the other."""
    text = axis.annotate(
        name,
        point,
        (0, 0),
        textcoords="offset points",
        fontsize=7,
        arrowprops=LEADER,
    )
    text.set(path_effects=HALO, zorder=1.5)  # over lines, under marks
    return text


def _boxes_of_marks(axis: Axes, marks: list[Point]) -> list[Bbox]:
    """List the boxes that no name should cover, in pixels."""
    if not marks:
        return []
    pixels = axis.transData.transform(marks)
    side = 2 * MARK
    found = []
    for x, y in pixels.tolist():
        box = Bbox.from_bounds(x - MARK, y - MARK, side, side)
        found.append(box)
    return found


def _best_place(
    axis: Axes,
    text: Annotation,
    own: list[Point],
    taken: list[Bbox],
) -> Place:
    """Find the point and the spot beside it where a name covers least. The first of equals wins.

    Args:
        axis: the axes.
        text: the name, which is moved about.
        own: the points it may stand beside.
        taken: boxes it should not cover.
    """
    inside = axis.bbox.padded(-MARK)
    places = product(own, SPOTS)

    def covered(place: Place) -> float:
        point, spot = place
        _move(text, point, spot)
        box = _box(text)
        return _covered(box, inside, taken)

    return min(places, key=covered)


def _covered(box: Bbox, inside: Bbox, taken: Iterable[Bbox]) -> float:
    """Add up the area that a name covers. The part outside of the axes counts ``OUTSIDE`` times."""
    shared = [_common(box, other) for other in taken]
    area = box.width * box.height
    outside = area - _common(box, inside)
    return sum(shared) + OUTSIDE * outside


def _common(a: Bbox, b: Bbox) -> float:
    """Return the area that two boxes share."""
    shared = Bbox.intersection(a, b)
    if shared is None:
        return 0.0
    return shared.width * shared.height


def _box(text: Annotation) -> Bbox:
    """Return the box around a name, without its leader."""
    tight = Text.get_window_extent(text)
    return tight.padded(1)


def _move(text: Annotation, point: Point, spot: Spot) -> None:
    """Move a name to a spot beside a point."""
    text.xy = point
    text.set_position((spot.x, spot.y))
    text.set_horizontalalignment(spot.horizontal)
    text.set_verticalalignment(spot.vertical)
    canvas: Any = text.figure.canvas if text.figure else None
    text.update_positions(canvas.get_renderer())
