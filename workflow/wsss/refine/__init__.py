"""From scores to pseudo masks: dense CRF, AffinityNet with its random walk, IRNet."""

from __future__ import annotations

import numpy as np

from wsss.errors import WsssError


def check_size(image_id: str, image: np.ndarray, scores: np.ndarray) -> None:
    """Scores ``K×H×W`` must be of the image's (``H×W×3``) size; else the image or the scores were exchanged."""
    if image.shape[:2] != scores.shape[1:]:
        (height, width), (h, w) = image.shape[:2], scores.shape[1:]
        raise WsssError(
            f"image '{image_id}' is {width}×{height} pixels but its scores are {w}×{h}: "
            "the image changed after they were made; restore it, or run the step before again"
        )
