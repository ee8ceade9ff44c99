"""From scores to pseudo masks: dense CRF, PAMR, AffinityNet with its random walk, IRNet.

An image without any class is background: its scores have no plane, its CRF result is background with certainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsss.errors import WsssError

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.stores import Scores


def check_size(image_id: str, image: np.ndarray, result: np.ndarray) -> None:
    """Refuse a result ``...×H×W`` that is not of the image's (``H×W×3``) size: one of the two was replaced."""
    if image.shape[:2] != result.shape[-2:]:
        (height, width), (h, w) = image.shape[:2], result.shape[-2:]
        raise WsssError(
            f"image '{image_id}' is {width}×{height} pixels, but what the step before made of it is {w}×{h}: "
            "the image changed since; restore it, or run that step again"
        )


def scored_image(dataset: Dataset, scores: Scores, image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read an image ``H×W×3`` uint8, the ``K`` label values of its classes and their scores ``K×H×W``.

    Raises:
        WsssError: scores are missing, of another size, or of a class that the data set does not have.
    """
    image, (classes, planes) = dataset.image(image_id), scores.get(image_id)
    check_size(image_id, image, planes)
    if classes.max(initial=0) > len(dataset.classes):
        raise WsssError(
            f"scores of image '{image_id}' have class {classes.max()}, but the last class of this data set is "
            f"{len(dataset.classes)}: they are of another data set; run the step before again"
        )
    return image, classes, planes
