"""Pixel counts per class, for label maps and for score maps at many thresholds at once.

K classes with background first, M score planes of an image, T thresholds, H W image size. Pixels with ground truth 255
do not count. Counts are int64, because a data set of COCO's size overflows the 32 bits of the released scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsss.errors import WsssError
from wsss.stores import IGNORE

FLOOR_BACKGROUND = np.float32(1e-5)  # background score of EADER's rule


@dataclass(frozen=True)
class Counts:
    """True positives, predicted and true pixels, each ``...×K`` int64. The sum of counts pools their images."""

    tp: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.predicted + other.predicted, self.true + other.true)

    def __getitem__(self, index: Any) -> Counts:
        return Counts(self.tp[index], self.predicted[index], self.true[index])

    @classmethod
    def zeros(cls, *shape: int) -> Counts:
        """Make counts of no image."""
        return cls(*(np.zeros(shape, np.int64) for _ in range(3)))


def count(predicted: np.ndarray, truth: np.ndarray, n: int) -> Counts:
    """Count the pixels of one image.

    Args:
        predicted: label map ``H×W`` with values below ``n``.
        truth: label map ``H×W`` with values below ``n``, or 255.
        n: number of classes.

    Returns:
        Counts of ``n`` each.
    """
    valid = truth != IGNORE
    predicted, truth = predicted[valid], truth[valid]
    return Counts(*(np.bincount(x, minlength=n) for x in (truth[predicted == truth], predicted, truth)))


def best_class(classes: Sequence[int] | np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the highest score at each pixel.

    The lowest label value wins a tie, as in an argmax over all classes.

    Args:
        classes: label values of the ``M`` planes.
        scores: planes ``M×H×W``.

    Returns:
        The label value of the highest plane, ``H×W`` uint8 (0 if there is no plane), and its score, ``H×W`` float32
        (-inf if there is no plane).
    """
    best = np.full(scores.shape[1:], -np.inf, np.float32)
    label = np.zeros(scores.shape[1:], np.uint8)
    for plane in np.argsort(classes, kind="stable"):  # a loop over few planes: faster than argmax over the first axis
        higher = scores[plane] > best
        np.copyto(best, scores[plane], where=higher)
        np.copyto(label, np.uint8(classes[plane]), where=higher)
    return label, best


def threshold_grid(start: float, stop: float, step: float) -> np.ndarray:
    """List ``start``, ``start + step``, ... below ``stop``, float64.

    Raises:
        WsssError: there is no such threshold, or one below 0.
    """
    n = int(np.ceil((stop - start) / step - 1e-6))
    if n < 1 or start < 0:
        raise WsssError(f"measure.thresholds: [{start}, {stop}, {step}] must give at least one threshold, none below 0")
    return np.round(start + step * np.arange(n), 10)


class Sweep:
    """Counts at every threshold from one pass over the images.

    A pixel belongs to its best foreground class if that score is above the threshold, else to the background. This is
    the argmax over [threshold, scores, 0 for absent classes] in float32, with ties to the background, as released. A
    pixel changes once, when the threshold reaches its score. So a histogram of scores over thresholds is enough.

    Args:
        thresholds: ``T``, ascending, not negative.
        n: number of classes ``K``.
        floor: EADER's rule: scores below the threshold become 0 and the background score is 1e-5. So a score that
            equals the threshold is foreground.

    Raises:
        WsssError: the thresholds are not ascending, or one is negative.
    """

    def __init__(self, thresholds: Sequence[float] | np.ndarray, n: int, floor: bool = False):
        self.thresholds, self.n, self.floor = np.asarray(thresholds, np.float32), n, floor
        if self.thresholds[0] < 0 or (np.diff(self.thresholds) <= 0).any():
            raise WsssError("thresholds must be ascending and not negative")
        steps = len(self.thresholds) + 1
        # pixels by the number of thresholds that their score passes:
        self._fg = np.zeros((steps, n, 2), np.int64)  # and by best class; [..., 1] where it is the true one
        self._bg = np.zeros(steps, np.int64)  # those of true background
        self._true = np.zeros(n, np.int64)

    def add(self, classes: Sequence[int] | np.ndarray, scores: np.ndarray, truth: np.ndarray) -> None:
        """Count one image.

        Args:
            classes: label values of its ``M`` score planes.
            scores: planes ``M×H×W`` float32.
            truth: ground truth ``H×W``.
        """
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
        """Return the pooled counts at every threshold, ``T×K`` each."""
        passing = self._fg[::-1].cumsum(0)[::-1][1:]  # T K 2: pixels whose score is above the threshold
        predicted, tp = passing.sum(2), passing[..., 1].copy()
        predicted[:, 0] = self._true.sum() - predicted[:, 1:].sum(1)
        tp[:, 0] = self._bg.cumsum()[:-1]
        return Counts(tp, predicted, np.repeat(self._true[None], len(tp), 0))
