"""Pictures beside each other: images, ground truth, score maps, masks, and what models make of an image."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from wsss.data.index import Dataset
from wsss.files import read_json
from wsss.report.colours import colour, heat
from wsss.report.style import HEIGHT, WIDTH
from wsss.stores import Masks, Scores

CELL = 1.15  # inches: a picture's width, if there is room
ACROSS = 8  # pictures beside each other; fewer columns are set twice
GAP = 0.04  # inches between pictures
SPACE = 0.1  # inches more between blocks
HEAD, HEAD_LINE = 0.08, 0.12  # inches above the heads of the columns, and for each of their lines
HEAD_LINES = 3  # for which there is room on a full page
LETTER = 0.058  # inches of a head's letter, on average
SIDE = 300  # pixels of a picture's longer side in the figure


def draw_grid(plan: dict) -> Figure:
    """One row per image, one column per entry of ``columns``; few columns are set in several blocks side by side.

    A column is ``{kind: image}``, ``{kind: truth}``, a stage of a run (scores as heat over the image, masks in VOC
    colours), or what a run's model makes of the image (``insides.SHOW``). ``count`` images are shown, see ``pick``.
    """
    dataset = Dataset.load(plan["data"]).split(plan["images_of"])
    ids = pick(dataset, plan.get("count", 8))
    painters = [_painter(column, dataset) for column in plan["columns"]]
    blocks = max(1, min(ACROSS // len(painters), len(ids)))
    lines = [ids[i : i + blocks] for i in range(0, len(ids), blocks)]
    columns = len(painters) * blocks
    gaps = (columns - 1) * GAP + (blocks - 1) * SPACE
    tallest = [max(_aspect(dataset, image_id) for image_id in line) for line in lines]
    room = HEIGHT - HEAD - HEAD_LINES * HEAD_LINE - len(lines) * GAP
    cell = min(CELL, (WIDTH - gaps) / columns, room / sum(tallest))
    heights = [aspect * cell for aspect in tallest]
    heads = [textwrap.fill(column["label"], int(cell / LETTER)) for column in plan["columns"]]
    head = HEAD + HEAD_LINE * max(text.count("\n") + 1 for text in heads)
    width, height = columns * cell + gaps, head + sum(heights) + len(lines) * GAP

    figure = plt.figure(figsize=(width, height))
    top = height - head
    for number, (line, tall) in enumerate(zip(lines, heights, strict=True)):
        for k, (image_id, (text, paint)) in enumerate(product(line, zip(heads, painters, strict=True))):
            left = k * (cell + GAP) + k // len(painters) * SPACE
            axis = figure.add_axes((left / width, (top - tall) / height, cell / width, tall / height), anchor="N")
            axis.imshow(_reduced(paint(image_id)), interpolation="antialiased")
            axis.set_axis_off()
            if number == 0:
                axis.set_title(text, fontsize=7, pad=3, linespacing=1)
        top -= tall + GAP
    return figure


def pick(dataset: Dataset, count: int) -> list[str]:
    """Ids spread over the classes by a rule that looks at labels alone: the first image of each class, in turn."""
    labels = dataset.labels()
    chosen: list[int] = []
    for turn in range(len(labels)):
        for c in range(labels.shape[1]):
            having = np.flatnonzero(labels[:, c])
            if turn < len(having) and having[turn] not in chosen:
                chosen.append(int(having[turn]))
            if len(chosen) == count:
                return [dataset.records[i].id for i in chosen]
    return [dataset.records[i].id for i in chosen]


def _painter(column: dict, dataset: Dataset) -> Callable[[str], np.ndarray]:
    kind = column.get("kind")
    if kind == "image":
        return dataset.image
    if kind == "truth":
        return lambda image_id: colour(dataset.mask(image_id), dataset.image(image_id))
    if kind:
        from wsss.report.insides import painter  # it needs torch, other figures do not

        return painter(column, dataset)
    if column["files"][0].endswith(".zip"):
        masks = Masks(column["files"])
        return lambda image_id: colour(masks.get(image_id), dataset.image(image_id))
    scores = Scores(column["files"])
    if column["stage"] == "crf":
        alpha = best_alpha(read_json(column["metrics"][0]))
        return lambda image_id: colour(_argmax(*scores.get(f"{image_id}@{alpha}")), dataset.image(image_id))
    return lambda image_id: heat(scores.get(image_id)[1].max(0), dataset.image(image_id))


def best_alpha(metrics: dict) -> str:
    """The background exponent whose CRF result measured best."""
    alphas = {
        name.removeprefix("alpha="): p["miou"] for name, p in metrics["points"].items() if name.startswith("alpha=")
    }
    return max(alphas, key=alphas.get)


def _argmax(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return classes[scores.argmax(0)]


def _aspect(dataset: Dataset, image_id: str) -> float:
    record = dataset.record(image_id)
    return record.height / record.width


def _reduced(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)
