"""From the planes of a random walk to labels, with or without a CRF. Imports no torch, so that processes start fast.

K label planes of an image (background first), L labels, H W its size, H' W' its size padded to the network's stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsss.refine.crf import dense_crf, unary_from_scores

MEAN_COLOUR = (123, 116, 103)  # ImageNet's, what padding looks like to the CRF


def pad(image: np.ndarray, size: Sequence[int], fill: Sequence[float]) -> np.ndarray:
    """``H×W×3`` with ``fill`` at the right and bottom: ``H'×W'×3``."""
    height, width = image.shape[:2]
    padded = np.empty((*size, 3), image.dtype)
    padded[:] = fill
    padded[:height, :width] = image
    return padded


def best_labels(image: np.ndarray, labels: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The label value (``labels`` ``K``) of the highest of the planes ``K×H'×W'`` at each pixel: ``H×W`` uint8."""
    height, width = image.shape[:2]
    return labels[planes[:, :height, :width].argmax(0)]


class Smooth:
    """One CRF iteration on the planes of an image ``H×W×3`` uint8, then its labels ``H×W`` uint8.

    Absent classes take part with score 0, as in the releases: they share in the normalisation.
    """

    def __init__(self, n_labels: int, crf: dict):
        self.n_labels, self.crf = n_labels, {**crf, "iterations": 1}

    def __call__(self, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """``found`` is the image, the label values ``K`` of its planes, and the planes ``K×H'×W'``."""
        image, labels, planes = found
        scores = np.zeros((self.n_labels, *planes.shape[1:]), np.float32)
        scores[labels] = planes
        padded = pad(image, planes.shape[1:], MEAN_COLOUR)
        [q] = dense_crf(padded, [unary_from_scores(scores)], self.crf)
        return best_labels(image, np.arange(self.n_labels, dtype=np.uint8), q)
