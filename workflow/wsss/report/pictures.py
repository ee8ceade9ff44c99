"""Pictures beside each other: images, ground truth, score maps, masks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from wsss.data.index import Dataset
from wsss.files import read_json
from wsss.stores import Masks, Scores, voc_palette

PALETTE = np.array(voc_palette(), np.uint8).reshape(256, 3)
CELL = 0.95  # inches per picture
SIDE = 240  # pixels of a picture's longer side in the figure


def draw_grid(plan: dict) -> Figure:
    """One row per image, one column per entry of ``columns``.

    A column is ``{kind: image}``, ``{kind: truth}`` or a stage of a run: scores are drawn as heat over the image, masks in
    VOC colours. The images are ``plan["images"]``, or ``plan["rows"]`` of them spread over the classes.
    """
    dataset = Dataset.load(plan["data"]).split(plan["images_of"])
    ids = plan.get("images") or pick(dataset, plan.get("count", 8))
    painters = [_painter(column, dataset) for column in plan["columns"]]
    height = CELL * np.mean([dataset.image(i).shape[0] / dataset.image(i).shape[1] for i in ids])
    figure, axes = plt.subplots(
        len(ids), len(painters), figsize=(CELL * len(painters), height * len(ids) + 0.3), squeeze=False
    )
    for image_id, row in zip(ids, axes, strict=True):
        for paint, axis in zip(painters, row, strict=True):
            axis.imshow(_reduced(paint(image_id)), aspect="auto")
            axis.set_axis_off()
    for column, axis in zip(plan["columns"], axes[0], strict=True):
        axis.set_title(column["label"], fontsize=7, pad=3)
    figure.subplots_adjust(0, 0, 1, 0.96, wspace=0.03, hspace=0.03)
    return figure


def pick(dataset: Dataset, count: int) -> list[str]:
    """Ids spread over the classes by a rule that looks at nothing but labels: the first image of each class, in turn."""
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


def _painter(column: dict, dataset: Dataset):
    kind = column.get("kind")
    if kind == "image":
        return dataset.image
    if kind == "truth":
        return lambda image_id: colour(dataset.mask(image_id), dataset.image(image_id))
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


def colour(labels: np.ndarray, image: np.ndarray, strength: float = 0.75) -> np.ndarray:
    """An ``H×W`` label map in VOC colours over its greyed image."""
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    return (strength * PALETTE[labels] + (1 - strength) * grey).astype(np.uint8)


def heat(score: np.ndarray, image: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """An ``H×W`` score in [0, 1] as heat over its image."""
    shade = plt.get_cmap("inferno")(np.clip(score, 0, 1))[..., :3] * 255
    return (strength * shade + (1 - strength) * image).astype(np.uint8)


def _reduced(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)
