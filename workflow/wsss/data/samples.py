"""Training samples of classifiers: augmented images with image-level labels. No mask is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from wsss.data.index import Dataset
from wsss.data.transforms import classification_view
from wsss.errors import WsssError

if TYPE_CHECKING:
    from wsss.settings.sections import ClassifierTrain


class ClassificationSample(TypedDict):
    """An image ``3×H×W`` and its labels ``C`` of 0 and 1, float32 both."""

    id: str
    image: Tensor
    labels: Tensor


class ClassificationSamples:
    """Training samples of a classifier: ``id``, ``image`` (``3×H×W`` float32) and ``labels`` (``C`` float32, 0 or 1).

    Args:
        dataset: the training split.
        train: the section ``train``; ``view`` and the options of that view are read.
        convention: the pixels the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: no image has a class: nothing can be learnt. Single images without one are negatives.
    """

    def __init__(self, dataset: Dataset, train: ClassifierTrain, convention: str = "rgb"):
        self.dataset = dataset
        self.labels = torch.from_numpy(dataset.labels())  # N C
        if not self.labels.any():
            raise WsssError(
                f"no image of data set '{dataset.name}' to learn from has a class; give some a label, and "
                "index it again"
            )
        self.view = classification_view(train, convention)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> ClassificationSample:
        """Return the ``index``-th image, augmented at random."""
        image_id = self.dataset.records[index].id
        image = self.view(self.dataset.image(image_id), rng)
        return {"id": image_id, "image": image, "labels": self.labels[index]}
