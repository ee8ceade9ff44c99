"""From the planes of a random walk to labels, with or without a CRF. Without torch, so that processes start fast.

K label planes of an image (background first), L labels, H W its size, H' W' its size padded to the network's stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsss.data.pixels import LEVELS, RGB_MEAN
from wsss.refine.crf import dense_crf, unary_from_scores

if TYPE_CHECKING:
    from wsss.settings.sections import Crf

MEAN_COLOUR = tuple(int(LEVELS * mean) for mean in RGB_MEAN)  # what padding looks like to the CRF


def pad(image: np.ndarray, size: Sequence[int], fill: Sequence[float]) -> np.ndarray:
    """Put the colour ``fill`` at the right and bottom of an image: ``H×W×3`` -> ``H'×W'×3``; ``size`` is (H', W')."""
    height, width = image.shape[:2]
    padded = np.empty((*size, 3), image.dtype)
    padded[:] = fill
    padded[:height, :width] = image
    return padded


def best_labels(image: np.ndarray, labels: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Find the label of the highest of the planes ``K×H'×W'`` at each pixel of an image ``H×W×3``: ``H×W`` uint8.

    ``labels`` are the label values ``K`` of the planes.
    """
    height, width = image.shape[:2]
    return labels[planes[:, :height, :width].argmax(0)]


class Smooth:
    """One CRF iteration on the planes of an image.

    Absent classes take part with score 0, as in the releases: they share in the normalisation.

    Args:
        n_labels: L.
        crf: the section ``crf``; its number of iterations and its exponents are not used.
    """

    def __init__(self, n_labels: int, crf: Crf):
        self.n_labels = n_labels
        self.crf: Crf = {**crf, "iterations": 1}

    def __call__(self, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """Compute labels ``H×W`` uint8.

        ``found`` is the image ``H×W×3`` uint8, the label values ``K`` of its planes, and the planes ``K×H'×W'``.
        """
        image, labels, planes = found
        scores = np.zeros((self.n_labels, *planes.shape[1:]), np.float32)
        scores[labels] = planes
        padded = pad(image, planes.shape[1:], MEAN_COLOUR)
        [q] = dense_crf(padded, [unary_from_scores(scores)], self.crf)
        return best_labels(image, np.arange(self.n_labels, dtype=np.uint8), q)
