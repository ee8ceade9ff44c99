"""From pixel counts to the numbers of the tables. Fractions; the last axis of counts is the class, background first."""

from __future__ import annotations

import numpy as np

from wsss.errors import choose
from wsss.measure.counts import Counts

EPS = 1e-10  # keeps classes without pixels at 0; SEAM, OC-CSE, AEFT, ACR, EADER


def iou(counts: Counts) -> np.ndarray:
    """TP / (T + P - TP) per class, ``...×K``; 0 for a class that occurs neither in truth nor prediction."""
    return counts.tp / (counts.true + counts.predicted - counts.tp + EPS)


def precision(counts: Counts) -> np.ndarray:
    """TP / P per class, ``...×K``."""
    return counts.tp / (counts.predicted + EPS)


def recall(counts: Counts) -> np.ndarray:
    """TP / T per class, ``...×K``."""
    return counts.tp / (counts.true + EPS)


def miou_of_all(counts: Counts) -> np.ndarray:
    """Mean IoU over all classes, ``...``; those that occur nowhere count as 0 (SEAM, OC-CSE, AEFT, ACR, EADER)."""
    return iou(counts).mean(-1)


def miou_of_occurring(counts: Counts) -> np.ndarray:
    """Mean IoU over the classes that occur in truth or prediction, ``...`` (IRN)."""
    return _mean(iou(counts), counts.true + counts.predicted > 0)


MIOU = {"zero": miou_of_all, "skip": miou_of_occurring}  # what classes that occur nowhere do


def under_activation(counts: Counts) -> np.ndarray:
    """m_FN of SEAM, Eq. (13): mean over foreground classes of FN / TP, ``...``.

    A class without true positives has no finite ratio and is left out of the mean: read it beside the IoU, where such a
    class counts as 0. NaN if no class has any.
    """
    return _ratio(counts.true - counts.tp, counts.tp)


def over_activation(counts: Counts) -> np.ndarray:
    """m_FP of SEAM, Eq. (14): mean over foreground classes of FP / TP, ``...``; see ``under_activation``."""
    return _ratio(counts.predicted - counts.tp, counts.tp)


def _ratio(errors: np.ndarray, tp: np.ndarray) -> np.ndarray:
    return _mean((errors / np.maximum(tp, 1))[..., 1:], tp[..., 1:] > 0)


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    number = counted.sum(-1)
    return np.where(number > 0, np.where(counted, values, 0).sum(-1) / np.maximum(number, 1), np.nan)


def summary(counts: Counts, absent: str = "zero") -> dict[str, np.ndarray]:
    """Every number of a table, ``...`` each.

    ``precision`` and ``recall`` are means over all classes as in ACR; EADER's, ``precision_fg`` and ``recall_fg``, are
    means over the foreground classes.
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
