"""Average precision of instance masks by the rules of VOC 2012: the area under the envelope of precision.

N detections and M objects of an image, H W its size. A detection is compared with the object of its class that
it has the highest IoU with. It is right if that IoU reaches the threshold and no detection of a higher score has taken
the object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from wsss.errors import WsssError
from wsss.stores import IGNORE, Detections

# detections of an image, and its true objects: label values ``M`` and masks ``M×H×W``
Pair = tuple[Detections, tuple[np.ndarray, np.ndarray]]


def true_instances(image_id: str, objects: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the objects of an image. The class of an object is the one that most of its pixels have.

    Args:
        image_id: the image, for errors.
        objects: mask of objects, ``H×W`` uint8.
        mask: mask of classes, ``H×W`` uint8.

    Returns:
        Label values ``M`` uint8 and masks ``M×H×W`` bool.

    Raises:
        WsssError: the masks differ in size, or an object has no pixel of a class; the message names the image.
    """
    if objects.shape != mask.shape:
        raise WsssError(f"image '{image_id}': its masks of objects and of classes differ in size; restore them")
    values = [value for value in np.unique(objects) if value not in (0, IGNORE)]
    classes = []
    for value in values:
        labels = mask[(objects == value) & (mask != 0) & (mask != IGNORE)]
        if not labels.size:
            raise WsssError(f"image '{image_id}': object {value} lies on no class in the mask of classes; restore them")
        classes.append(np.bincount(labels).argmax())
    return np.array(classes, np.uint8), objects == np.array(values, np.uint8).reshape(-1, 1, 1)


def mask_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of masks ``N×H×W`` and ``M×H×W`` bool: ``N×M``."""
    a, b = (masks.reshape(len(masks), math.prod(masks.shape[1:])).astype(np.float64) for masks in (a, b))
    overlap = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - overlap
    return np.divide(overlap, np.maximum(union, 1))


def _hits(scores: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Find the right detections of one class in one image. An object counts once, for the highest score."""
    hits = np.zeros(len(scores), bool)
    taken: set[int] = set()
    for n in np.argsort(-scores, kind="stable"):
        best = int(iou[n].argmax()) if iou.shape[1] else -1
        if best >= 0 and iou[n, best] >= threshold and best not in taken:
            hits[n] = True
            taken.add(best)
    return hits


def _area(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
    """Compute the area under the curve of precision over recall, with the precision made non-increasing."""
    right = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    recall = np.concatenate([[0.0], right / positives])
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))


def average_precision(images: Iterable[Pair], threshold: float = 0.5) -> dict[str, Any]:
    """Compute the AP of each class at an IoU threshold, and their mean.

    Args:
        images: for each image its detections (``scores`` ``N``, ``classes`` ``N``, ``masks`` ``N×H×W``) and its truth
            (``classes`` ``M``, ``masks`` ``M×H×W``). Classes are label values.
        threshold: the IoU that a right detection reaches.

    Returns:
        ``{"ap": {class: AP}, "map": mean}`` over the classes that occur in the truth; NaN if none does.
    """
    scores: dict[int, list[np.ndarray]] = {}
    hits: dict[int, list[np.ndarray]] = {}
    positives: dict[int, int] = {}
    for (score, found, masks), (true, true_masks) in images:
        for c in np.union1d(found, true).astype(int).tolist():
            mine, theirs = found == c, true == c
            scores.setdefault(c, []).append(score[mine])
            hits.setdefault(c, []).append(_hits(score[mine], mask_iou(masks[mine], true_masks[theirs]), threshold))
            positives[c] = positives.get(c, 0) + int(theirs.sum())
    ap = {
        c: _area(np.concatenate(scores[c]), np.concatenate(hits[c]), count)
        for c, count in sorted(positives.items())
        if count
    }
    return {"ap": ap, "map": float(np.mean(list(ap.values()))) if ap else float("nan")}
