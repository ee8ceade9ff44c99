"""Average precision of instance masks, VOC 2012 rules (area under the precision envelope).

N detections and M objects of an image, H W its size. A detection is right if it overlaps an object of its class by the
IoU threshold, and no detection of a higher score has taken that object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from wsss.errors import WsssError
from wsss.stores import IGNORE


def true_instances(image_id: str, objects: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label values ``M`` and masks ``M×H×W`` bool of the objects in two masks ``H×W`` uint8, of objects and of classes.

    An object's class is the one that most of its pixels have.

    Raises:
        WsssError: the masks differ in size, or an object has no pixel of a class; names the image.
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
    """Intersection over union of masks ``N×H×W`` and ``M×H×W`` bool: ``N×M``."""
    a, b = (masks.reshape(len(masks), math.prod(masks.shape[1:])).astype(np.float64) for masks in (a, b))
    overlap = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - overlap
    return overlap / np.maximum(union, 1)


def _hits(scores: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Which detections of one class in one image are right; a true instance counts once, for the highest score."""
    hits, taken = np.zeros(len(scores), bool), set()
    for n in np.argsort(-scores, kind="stable"):
        best = int(iou[n].argmax()) if iou.shape[1] else -1
        if best >= 0 and iou[n, best] >= threshold and best not in taken:
            hits[n] = True
            taken.add(best)
    return hits


def _area(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
    """Area under precision over recall, precision made non-increasing."""
    right = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    recall = np.concatenate([[0.0], right / positives])
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))


def average_precision(images: Iterable[tuple], threshold: float = 0.5) -> dict:
    """AP of each class at an IoU ``threshold`` and their mean.

    Args:
        images: for each image its detections (``scores`` ``N``, ``classes`` ``N``, ``masks`` ``N×H×W``) and its truth
            (``classes`` ``M``, ``masks`` ``M×H×W``); classes are label values.

    Returns:
        ``{"ap": {class: AP}, "map": mean}`` over the classes that occur in the truth; NaN if none does.
    """
    scores: dict[int, list] = {}
    hits: dict[int, list] = {}
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
