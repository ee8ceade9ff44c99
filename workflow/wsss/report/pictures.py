"""Pictures beside each other: images, ground truth, score maps, masks, and what models make of an image."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wsss.data.index import Dataset
from wsss.files import read_json
from wsss.registry import Registry, load
from wsss.report.colours import colour, heat
from wsss.report.drawing import FigureDrawing, PictureColumn
from wsss.report.style import HEIGHT, WIDTH
from wsss.stores import Masks, Scores

CELL = 1.15  # inches: a picture's width, if there is room
ACROSS = 8  # pictures beside each other; if there are few columns, several blocks of them
GAP = 0.04  # inches between pictures
SPACE = 0.1  # inches more between blocks
HEAD = 0.08  # inches above the heads of the columns
HEAD_LINE = 0.12  # inches of each of their lines
HEAD_LINES = 3  # for which there is room on a full page
LETTER = 0.058  # inches of a head's letter, on average
SIDE = 300  # pixels of a picture's longer side in the figure

Paint = Callable[[str], np.ndarray]  # image id -> picture
MODELS: Registry[str] = {  # kind of column that a model paints -> what makes its painter
    "foreground": "wsss.report.insides:painter",
    "erased": "wsss.report.insides:painter",
    "affinity_object": "wsss.report.insides:painter",
    "affinity_beside": "wsss.report.insides:painter",
    "painted_inside": "wsss.report.insides:painter",
    "painted_outside": "wsss.report.insides:painter",
}


@dataclass(frozen=True)
class Sheet:
    """The measures of a grid in inches.

    Args:
        cell: width of a picture.
        heights: height of each line.
        head: height of the heads of the columns.
        width: width of the figure.
        height: height of the figure.
    """

    cell: float
    heights: list[float]
    head: float
    width: float
    height: float


def draw_grid(drawing: FigureDrawing) -> Figure:
    """Draw one row per image and one column per entry of ``columns``; few columns are set in blocks side by side.

    A column is ``{kind: image}``, ``{kind: truth}``, a stage of a run (class maps as heat over the
    image, all else as masks in VOC's colours), or what a run's model makes of the image (``insides``). ``count`` images
    are shown, see ``pick``.
    """
    dataset = Dataset.load(drawing["data"]).split(drawing["images_of"])
    columns = drawing["columns"]
    ids = pick(dataset, drawing.get("count", 8))
    blocks = _blocks(len(columns), len(ids))
    lines = _lines(ids, blocks)
    tallest = [_tallest(dataset, line) for line in lines]
    labels = [column["label"] for column in columns]
    sheet, heads = _measures(labels, tallest, blocks)
    painters = [_painter(column, dataset) for column in columns]
    figure = plt.figure(figsize=(sheet.width, sheet.height))
    top = sheet.height - sheet.head
    for number, line in enumerate(lines):
        tall = sheet.heights[number]
        places = product(line, range(len(columns)))
        for k, (image_id, j) in enumerate(places):
            axis = _axis(figure, sheet, k, len(columns), top, tall)
            paint = painters[j]
            _show(axis, paint(image_id))
            if number == 0:
                axis.set_title(heads[j], fontsize=7, pad=3, linespacing=1)
        top -= tall + GAP
    return figure


def _blocks(columns: int, images: int) -> int:
    """Count the blocks that are set side by side: as many as there is room for, but no more than there are images."""
    room = ACROSS // columns
    return max(1, min(room, images))


def _lines(ids: list[str], blocks: int) -> list[list[str]]:
    """Cut a list of images into lines, each with one image per block."""
    starts = range(0, len(ids), blocks)
    return [ids[start : start + blocks] for start in starts]


def _show(axis: Axes, picture: np.ndarray) -> None:
    """Show a picture without an axis around it."""
    reduced = _reduced(picture)
    axis.imshow(reduced, interpolation="antialiased")
    axis.set_axis_off()


def _measures(
    labels: list[str],
    tallest: list[float],
    blocks: int,
) -> tuple[Sheet, list[str]]:
    """Fit the grid on a page and return its measures and the heads of the columns, wrapped.

    Args:
        labels: heads of the columns.
        tallest: of each line, the height of its tallest picture over its width.
        blocks: blocks side by side.
    """
    columns = len(labels) * blocks
    gaps = (columns - 1) * GAP + (blocks - 1) * SPACE
    below = len(tallest) * GAP
    room = HEIGHT - HEAD - HEAD_LINES * HEAD_LINE - below
    widest = (WIDTH - gaps) / columns
    highest = room / sum(tallest)
    cell = min(CELL, widest, highest)
    letters = int(cell / LETTER)
    heads = [textwrap.fill(label, letters) for label in labels]
    breaks = max(text.count("\n") for text in heads)
    head = HEAD + HEAD_LINE * (breaks + 1)
    heights = [aspect * cell for aspect in tallest]
    sheet = Sheet(
        cell=cell,
        heights=heights,
        head=head,
        width=columns * cell + gaps,
        height=head + sum(heights) + below,
    )
    return sheet, heads


def _axis(
    figure: Figure,
    sheet: Sheet,
    k: int,
    columns: int,
    top: float,
    tall: float,
) -> Axes:
    """Make the axis of the ``k``-th picture of a line.

    Args:
        figure: the figure.
        sheet: its measures.
        k: the picture's place in its line.
        columns: columns of a block.
        top: inches from the lower edge of the figure to the upper edge of the line.
        tall: height of the line in inches.
    """
    block = k // columns
    left = k * (sheet.cell + GAP) + block * SPACE
    lower = top - tall
    place = (
        left / sheet.width,
        lower / sheet.height,
        sheet.cell / sheet.width,
        tall / sheet.height,
    )
    return figure.add_axes(place, anchor="N")


def pick(dataset: Dataset, count: int) -> list[str]:
    """Pick ids spread over the classes by a rule that looks at labels alone: the first image of each class, in turn."""
    labels = dataset.labels()
    having = [np.flatnonzero(of_class).tolist() for of_class in labels.T]
    chosen: dict[int, None] = {}
    for turn in zip_longest(*having):  # the first image of each class, then the second, ...
        for image in turn:
            if image is not None and len(chosen) < count:
                chosen[image] = None
    return [dataset.records[i].id for i in chosen]


def _painter(column: PictureColumn, dataset: Dataset) -> Paint:
    """Return what paints a column's picture of an image."""
    kind = column.get("kind")
    if kind is None:
        return _painter_of_files(column, dataset)
    if kind == "image":
        return dataset.image
    if kind == "truth":
        return _labels_over(dataset, dataset.mask)
    make: Callable[[PictureColumn, Dataset], Paint] = load(MODELS, kind, "kind of column")
    return make(column, dataset)


def _painter_of_files(column: PictureColumn, dataset: Dataset) -> Paint:
    """Return what paints the result of a stage over an image."""
    files = column["files"]
    if files[0].endswith(".zip"):
        masks = Masks(files)
        return _labels_over(dataset, masks.get)
    if column["stage"] in ("crf", "pamr"):
        return _labels_over(dataset, _best_labels(column))
    return _heat_over(dataset, Scores(files))


def _heat_over(dataset: Dataset, scores: Scores) -> Paint:
    """Return what paints the highest score at each pixel of an image over it."""

    def paint(image_id: str) -> np.ndarray:
        _, planes = scores.get(image_id)
        image = dataset.image(image_id)
        return heat(planes.max(0), image)

    return paint


def _labels_over(dataset: Dataset, labels: Callable[[str], np.ndarray]) -> Paint:
    """Return what paints the label map of an image over it."""

    def paint(image_id: str) -> np.ndarray:
        image = dataset.image(image_id)
        return colour(labels(image_id), image)

    return paint


def _best_labels(column: PictureColumn) -> Callable[[str], np.ndarray]:
    """Return what reads the label map of an image from scores at the exponent that measured best."""
    scores = Scores(column["files"])
    metrics = read_json(column["metrics"][0])
    alpha = best_alpha(metrics)

    def labels(image_id: str) -> np.ndarray:
        classes, planes = scores.get(f"{image_id}@{alpha}")
        highest = planes.argmax(0)
        return classes[highest]

    return labels


def best_alpha(metrics: dict[str, Any]) -> str:
    """Return the background exponent whose result measured best."""
    points = metrics["points"]
    names = [name for name in points if name.startswith("alpha=")]
    best: str = max(names, key=lambda name: points[name]["miou"])
    return best.removeprefix("alpha=")


def _tallest(dataset: Dataset, line: list[str]) -> float:
    """Return the height of a line's tallest picture over its width."""
    records = [dataset.record(image_id) for image_id in line]
    return max(record.height / record.width for record in records)


def _reduced(picture: np.ndarray) -> np.ndarray:
    """Make a picture no larger than the figure can show."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)
