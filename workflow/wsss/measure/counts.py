"""Pixel counts per class, for label maps and for score maps at many thresholds at once.

K classes with background first, M score planes of an image, T thresholds, H W image size. Counts are int64: the
released scripts count in 32 bits, which a data set of COCO's size overflows. Pixels with ground truth 255 do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsss.errors import WsssError
from wsss.stores import IGNORE

FLOOR_BACKGROUND = np.float32(1e-5)  # background score of EADER's rule


@dataclass(frozen=True)
class Counts:
    """True positives, predicted and true pixels, each ``...×K`` int64. Add the counts of images to pool them."""

    tp: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.predicted + other.predicted, self.true + other.true)

    def __getitem__(self, index) -> Counts:
        return Counts(self.tp[index], self.predicted[index], self.true[index])

    @classmethod
    def zeros(cls, *shape: int) -> Counts:
        return cls(*(np.zeros(shape, np.int64) for _ in range(3)))


def count(predicted: np.ndarray, truth: np.ndarray, n: int) -> Counts:
    """Counts of one image: label maps ``H×W`` with values below ``n`` (``truth`` also 255) -> ``n`` each."""
    valid = truth != IGNORE
    predicted, truth = predicted[valid], truth[valid]
    return Counts(*(np.bincount(x, minlength=n) for x in (truth[predicted == truth], predicted, truth)))


def best_class(classes: Sequence[int], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest of the planes ``M×H×W`` at each pixel: its label value (uint8) and its score, ``H×W`` each.

    The lowest label value wins a tie, as in an argmax over all classes. Without planes the score is -inf.
    """
    best = np.full(scores.shape[1:], -np.inf, np.float32)
    label = np.zeros(scores.shape[1:], np.uint8)
    for plane in np.argsort(classes, kind="stable"):  # a loop over few planes: faster than argmax over the first axis
        higher = scores[plane] > best
        np.copyto(best, scores[plane], where=higher)
        np.copyto(label, np.uint8(classes[plane]), where=higher)
    return label, best


def threshold_grid(start: float, stop: float, step: float) -> np.ndarray:
    """``start``, ``start + step``, ... below ``stop``, float64."""
    n = int(np.ceil((stop - start) / step - 1e-6))
    if n < 1 or start < 0:
        raise WsssError(f"measure.thresholds: [{start}, {stop}, {step}] must give at least one threshold, none below 0")
    return np.round(start + step * np.arange(n), 10)


class Sweep:
    """Counts at every threshold from one pass over the images.

    A pixel belongs to its best foreground class where that score is above the threshold, else to the background: the
    argmax over [threshold, scores, 0 for absent classes], in float32 and ties to the background, as released. So a
    pixel changes once, when the threshold reaches its score, and a histogram of scores over thresholds says it all.

    Args:
        thresholds: ``T``, ascending, not negative.
        n: number of classes ``K``.
        floor: EADER's rule: scores below the threshold become 0 and the background score is 1e-5, so that a score that
            equals the threshold is foreground.
    """

    def __init__(self, thresholds: Sequence[float], n: int, floor: bool = False):
        self.thresholds, self.n, self.floor = np.asarray(thresholds, np.float32), n, floor
        if self.thresholds[0] < 0 or (np.diff(self.thresholds) <= 0).any():
            raise WsssError("thresholds must be ascending and not negative")
        steps = len(self.thresholds) + 1
        # pixels by the number of thresholds that their score passes:
        self._fg = np.zeros((steps, n, 2), np.int64)  # and by best class; [..., 1] where it is the true one
        self._bg = np.zeros(steps, np.int64)  # those of true background
        self._true = np.zeros(n, np.int64)

    def add(self, classes: Sequence[int], scores: np.ndarray, truth: np.ndarray) -> None:
        """Count one image: label values (``M``) of its score planes ``M×H×W`` float32, and its ground truth ``H×W``."""
        valid = truth != IGNORE
        label, best = best_class(classes, scores)
        label, best, truth = label[valid], best[valid], truth[valid]
        passed = np.searchsorted(self.thresholds, best, side="right" if self.floor else "left")
        if self.floor:
            passed[best <= FLOOR_BACKGROUND] = 0
        index = (passed * self.n + label) * 2 + (label == truth)
        self._fg += np.bincount(index, minlength=self._fg.size).reshape(self._fg.shape)
        self._bg += np.bincount(passed[truth == 0], minlength=self._bg.size)
        self._true += np.bincount(truth, minlength=self.n)

    def counts(self) -> Counts:
        """Pooled counts at every threshold, ``T×K`` each."""
        passing = self._fg[::-1].cumsum(0)[::-1][1:]  # T K 2: pixels whose score is above the threshold
        predicted, tp = passing.sum(2), passing[..., 1].copy()
        predicted[:, 0] = self._true.sum() - predicted[:, 1:].sum(1)
        tp[:, 0] = self._bg.cumsum()[:-1]
        return Counts(tp, predicted, np.repeat(self._true[None], len(tp), 0))
