"""From pixel counts to the fractions in the tables. The last axis of counts is the class, background first.

TP true positives, T true and P predicted pixels of a class.
"""

from __future__ import annotations

import numpy as np

from wsss.errors import choose
from wsss.measure.counts import Counts

EPS = 1e-10  # keeps classes without pixels at 0; SEAM, OC-CSE, AEFT, ACR, EADER


def iou(counts: Counts) -> np.ndarray:
    """Compute TP / (T + P - TP) per class, ``...×K``; 0 for a class that occurs neither in truth nor in prediction."""
    union = counts.true + counts.predicted - counts.tp
    return np.divide(counts.tp, union + EPS)


def precision(counts: Counts) -> np.ndarray:
    """Compute TP / P per class, ``...×K``."""
    return np.divide(counts.tp, counts.predicted + EPS)


def recall(counts: Counts) -> np.ndarray:
    """Compute TP / T per class, ``...×K``."""
    return np.divide(counts.tp, counts.true + EPS)


def miou_of_all(counts: Counts) -> np.ndarray:
    """Compute the mean IoU over all classes, ``...``. A class that occurs nowhere counts as 0.

    Source: SEAM, OC-CSE, AEFT, ACR and EADER.
    """
    return iou(counts).mean(-1)


def miou_of_occurring(counts: Counts) -> np.ndarray:
    """Compute the mean IoU over the classes that occur in truth or prediction, ``...``. Source: IRN."""
    return _mean(iou(counts), counts.true + counts.predicted > 0)


MIOU = {"zero": miou_of_all, "skip": miou_of_occurring}  # the effect of classes that occur nowhere


def under_activation(counts: Counts) -> np.ndarray:
    """Compute m_FN of SEAM, Eq. (13): the mean over foreground classes of FN / TP, ``...``.

    A class without true positives has no finite ratio and is left out of the mean. Read the result beside the IoU,
    where such a class counts as 0. It is NaN if no class has a true positive.
    """
    return _ratio(counts.true - counts.tp, counts.tp)


def over_activation(counts: Counts) -> np.ndarray:
    """Compute m_FP of SEAM, Eq. (14): the mean over foreground classes of FP / TP, ``...``.

    As in :func:`under_activation`, a class without true positives is left out.
    """
    return _ratio(counts.predicted - counts.tp, counts.tp)


def _ratio(errors: np.ndarray, tp: np.ndarray) -> np.ndarray:
    return _mean((errors / np.maximum(tp, 1))[..., 1:], tp[..., 1:] > 0)


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    number = counted.sum(-1)
    return np.where(number > 0, np.where(counted, values, 0).sum(-1) / np.maximum(number, 1), np.nan)


def summary(counts: Counts, absent: str = "zero") -> dict[str, np.ndarray]:
    """Compute every number of a table, ``...`` each.

    ``precision`` and ``recall`` are means over all classes, as in ACR. ``precision_fg`` and ``recall_fg`` are means
    over the foreground classes, as in EADER.

    Args:
        counts: pixel counts ``...×K``.
        absent: the effect of classes that occur nowhere on ``miou``: ``zero`` or ``skip``.
    """
    return {
        "miou": choose(MIOU, absent, "measure.absent")(counts),
        "precision": precision(counts).mean(-1),
        "recall": recall(counts).mean(-1),
        "precision_fg": precision(counts)[..., 1:].mean(-1),
        "recall_fg": recall(counts)[..., 1:].mean(-1),
        "under": under_activation(counts),
        "over": over_activation(counts),
    }
