"""Dense CRF on class probabilities. Imports no torch, so that the processes of a pool start fast."""

from __future__ import annotations

import numpy as np

from wsss.refine.crf import dense_crf, unary_from_scores


def refined(image: np.ndarray, scores: np.ndarray, crf: dict) -> np.ndarray:
    """Label map ``H×W`` of class probabilities ``K×H×W`` after a dense CRF on the image ``H×W×3`` uint8."""
    return dense_crf(image, [unary_from_scores(scores)], crf)[0].argmax(0).astype(np.uint8)
