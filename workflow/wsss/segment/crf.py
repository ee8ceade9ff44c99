"""Dense CRF on class probabilities, without torch, so that the processes of a pool start fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsss.refine.crf import dense_crf, unary_from_scores

if TYPE_CHECKING:
    from wsss.settings.sections import DenseCrf


class Refine:
    """A dense CRF as a function from a pair, image ``H×W×3`` uint8 and class probabilities ``K×H×W``, to a label map.

    The label map is ``H×W`` uint8.
    """

    def __init__(self, crf: DenseCrf):
        self.crf = crf

    def __call__(self, predicted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        image, scores = predicted
        return dense_crf(image, [unary_from_scores(scores)], self.crf)[0].argmax(0).astype(np.uint8)
