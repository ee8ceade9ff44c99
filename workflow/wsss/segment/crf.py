"""Dense CRF on class probabilities. Imports no torch, so that the processes of a pool start fast."""

from __future__ import annotations

import numpy as np

from wsss.refine.crf import dense_crf, unary_from_scores


class Refine:
    """Label map ``H×W`` of an image ``H×W×3`` uint8 and its class probabilities ``K×H×W`` after a dense CRF."""

    def __init__(self, crf: dict):
        self.crf = crf

    def __call__(self, predicted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        image, scores = predicted
        return dense_crf(image, [unary_from_scores(scores)], self.crf)[0].argmax(0).astype(np.uint8)
