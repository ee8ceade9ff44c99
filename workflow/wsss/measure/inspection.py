"""Command ``inspect``: the classifier behind class maps, what each class covers, and a disc to compare them with.

A comparison of class maps tells something only if the classifiers behind them have learned all classes, and if the maps
know more of where objects are than a disc in the middle of every image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wsss import devices
from wsss.cam import load_method
from wsss.data.index import Dataset
from wsss.data.transforms import multi_scale
from wsss.errors import WsssError
from wsss.files import read_json
from wsss.measure.counts import Counts, Sweep, count, threshold_grid
from wsss.measure.metrics import iou, miou_of_all
from wsss.progress import bar
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.methods.base import Method

THRESHOLDS = threshold_grid(0, 1, 0.01)
RADII = threshold_grid(0.05, 0.75, 0.05)  # of the disc, as shares of the image's height and width


@dataclass(frozen=True)
class Inspection:
    """What was found of class maps of ``C`` classes.

    ``images`` and ``precision`` are ``C``: how many images show a class, and the average precision with which the
    classifier ranks the images by it. ``maps`` are counts ``T×K`` of the class maps at ``THRESHOLDS``, ``disc`` counts
    ``R×K`` of the disc at ``RADII``; ``K`` is ``C`` + 1, background first.
    """

    classes: list[str]
    images: np.ndarray
    precision: np.ndarray
    maps: Counts
    disc: Counts


def inspect(folder: str | Path, part: str = "measured") -> Inspection:
    """Inspect the class maps in a folder ``cam``, with the model and the images that their record names.

    Args:
        folder: the folder ``cam`` of a run.
        part: the images: ``measured``, ``rest`` or ``val``.

    Raises:
        WsssError: there are no such class maps, their model or an image is missing, or an image has no mask.
    """
    shards = sorted(Path(folder).glob(f"{part}-*-of-*.npz"))
    if not shards:
        raise WsssError(f"{folder}: no class maps of the images '{part}'; give the folder cam of a run that has them")
    record = read_json(shards[0].with_suffix(".record.json"))
    config = record["config"]
    images = Dataset.load(_input(shards[0], record, "index.csv").parent).part(part, config["dataset"]["splits"])
    method = load_method(config, len(images.classes), _input(shards[0], record, "model.pt"))
    logits = classified(devices.placed(method, devices.on("auto")), images, config["cam"]["scales"][0])
    labels, (maps, disc) = images.labels(), _counted(images, Scores(shards))
    return Inspection(images.classes, labels.sum(0).astype(int), average_precision(labels, logits), maps, disc)


def _input(shard: Path, record: dict[str, Any], name: str) -> Path:
    """Find an input of the job that made a shard. Records name files relative to the root of the results."""
    root = shard.absolute().parents[len(Path(record["self"]).parts) - 1]
    return next(root / key for key in record["inputs"] if Path(key).name == name)


def classified(method: Method, images: Dataset, scale: float) -> np.ndarray:
    """Compute the classifier's logits of whole images at one scale, ``N×C``."""
    where = next(method.parameters()).device
    rows = []
    for image_id in bar(images.ids, out="inspect", unit="image"):
        (pixels,) = multi_scale(images.image(image_id), [scale], False, method.backbone.input)
        with torch.no_grad():
            rows.append(method.classify(pixels.to(where))[0].float().cpu().numpy())
    return np.stack(rows)


def average_precision(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Compute for each class the mean, over the images that show it, of the precision down to their rank.

    ``labels`` and ``logits`` are ``N×C``. The result is ``C``, NaN for a class that no image shows.
    """
    order = np.argsort(-logits, axis=0, kind="stable")
    hits = np.take_along_axis(labels > 0, order, 0)  # N C
    at_rank = hits.cumsum(0) / np.arange(1, len(hits) + 1)[:, None]
    shown = hits.sum(0)
    return np.where(shown, (at_rank * hits).sum(0) / np.maximum(shown, 1), np.nan)


def disc(classes: Sequence[int] | np.ndarray, height: int, width: int, radius: float) -> np.ndarray:
    """Draw a disc in the middle, cut into columns of equal width, one per class: a label map ``H×W`` uint8."""
    y = (np.arange(height) + 0.5)[:, None] / height - 0.5
    x = (np.arange(width) + 0.5)[None] / width - 0.5
    labels = np.zeros((height, width), np.uint8)
    if len(classes):
        column = ((x / radius + 1) / 2 * len(classes)).astype(int).clip(0, len(classes) - 1)
        inside = np.hypot(x, y) < radius
        labels[inside] = np.asarray(classes)[np.broadcast_to(column, inside.shape)[inside]]
    return labels


def _counted(images: Dataset, scores: Scores) -> tuple[Counts, Counts]:
    """Count the pixels of class maps, at every threshold, and of discs, at every radius."""
    n = len(images.classes) + 1
    sweep, discs = Sweep(THRESHOLDS, n), [Counts.zeros(n) for _ in RADII]
    for image_id in images.ids:
        truth, (classes, planes) = images.mask(image_id), scores.get(image_id)
        sweep.add(classes, planes, truth)
        height, width = truth.shape
        drawn = [count(disc(classes, height, width, radius), truth, n) for radius in RADII]
        discs = [total + one for total, one in zip(discs, drawn, strict=True)]
    return sweep.counts(), Counts(*(np.stack([getattr(c, name) for c in discs]) for name in vars(discs[0])))


def describe(found: Inspection) -> str:
    """Write what was found as lines of text: a row per class that an image shows, the means, and the disc."""
    of_maps, of_disc = 100 * miou_of_all(found.maps), 100 * miou_of_all(found.disc)
    best, widest = of_maps.argmax(), of_disc.argmax()
    shown = np.flatnonzero(found.images)
    at_best = found.maps[best]
    area = at_best.predicted[1:] / np.maximum(at_best.true[1:], 1)
    precision, of_class = 100 * found.precision, 100 * iou(found.maps)[:, 1:]
    own, highest = THRESHOLDS[of_class.argmax(0)], of_class.max(0)
    rows = [
        (found.classes[c], found.images[c], precision[c], area[c], of_class[best, c], own[c], highest[c]) for c in shown
    ]
    width = max(len("class"), *(len(row[0]) for row in rows))
    means = precision[shown].mean(), of_class[best, shown].mean(), highest[shown].mean()
    lines = [
        f"{'class':{width}}  images     AP   area    IoU  own threshold    IoU",
        *("{:{width}}  {:6}  {:5.1f}  {:5.2f}  {:5.1f}  {:13.2f}  {:5.1f}".format(*row, width=width) for row in rows),
        "{:{width}}  {:6}  {:5.1f}  {:5}  {:5.1f}  {:13}  {:5.1f}".format(
            "mean", "", means[0], "", means[1], "", means[2], width=width
        ),
        "",
        "AP: average precision (%) with which the classifier ranks the images by the class.",
        f"area: pixels covered over true ones. It and the first IoU (%) are at threshold {THRESHOLDS[best]:.2f},",
        "the best one for all classes together. own threshold: the best one for this class alone, with its IoU.",
        f"mIoU with background: {of_maps[best]:.1f} %.",
        f"A disc in the middle of each image: {of_disc[widest]:.1f} %; its radius is {RADII[widest]:.2f} of the sides.",
    ]
    return "\n".join(lines)
