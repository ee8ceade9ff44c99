"""Training samples of segmentation networks: images with pseudo masks, or with ground truth for the upper bound."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from torch import Tensor

from wsss.data.index import Dataset, Record
from wsss.data.transforms import MaskedView
from wsss.errors import WsssError
from wsss.stores import IGNORE, Masks

if TYPE_CHECKING:
    from wsss.settings.sections import DeepLabTrain


@functools.lru_cache(maxsize=1)
def _masks(paths: tuple[str, ...], process: int) -> Masks:
    """Open shards once per process: forked loaders would share, and disturb, the position in an open file."""
    return Masks(paths)


class SegmentationSample(TypedDict):
    """An image ``3×crop×crop`` float32 and its label map ``crop×crop`` uint8, 255 ignore."""

    id: str
    image: Tensor
    label: Tensor


class SegmentationSamples:
    """Training samples of a segmentation network.

    Args:
        dataset: the images.
        mask_paths: shards of their label maps; None for the data set's ground truth.
        train: the section ``deeplab.train``; all but the options of the loop are read.
        convention: the pixels that the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an image has no label map; the message names it.
    """

    def __init__(
        self, dataset: Dataset, mask_paths: Iterable[str | Path] | None, train: DeepLabTrain, convention: str = "rgb"
    ):
        self.dataset = dataset
        self.paths = None if mask_paths is None else tuple(map(str, mask_paths))
        self.view = MaskedView(
            crop=train["crop"],
            scale=train["scale"] or None,
            flip=train["flip"],
            long_side=train["long_side"] or None,
            jitter=train["jitter"] or None,
            jitter_p=train["jitter_p"],
            input=convention,
            antialias=train["antialias"],
        )
        lacking = [record.id for record in dataset.records if not self._has_label(record)]
        if lacking:
            cure = "the step before did not cover it" if self.paths else "use a split that has masks"
            raise WsssError(f"no label map for image '{lacking[0]}' ({len(lacking)} in all); {cure}")

    def _has_label(self, record: Record) -> bool:
        return record.mask is not None if self.paths is None else record.id in _masks(self.paths, os.getpid())

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Augment the ``index``-th image at random, together with its label map.

        Raises:
            WsssError: the label map has another size or an unknown class; the message names the image.
        """
        image_id = self.dataset.records[index].id
        image = self.dataset.image(image_id)
        label = self.dataset.mask(image_id) if self.paths is None else _masks(self.paths, os.getpid()).get(image_id)
        if label.shape != image.shape[:2]:
            there, here = ("×".join(map(str, shape)) for shape in (label.shape, image.shape[:2]))
            raise WsssError(f"label map of image '{image_id}' is {there}, the image {here}; run the step before again")
        if (highest := label[label != IGNORE].max(initial=0)) > len(self.dataset.classes):
            cure = "give the masks of this one" if self.paths else "restore it and run `wsss index` again"
            raise WsssError(
                f"label map of image '{image_id}' has class {highest}, but the last class of this data set is "
                f"{len(self.dataset.classes)}: it is of another data set; {cure}"
            )
        pixels, labels = self.view(image, label, rng)
        return {"id": image_id, "image": pixels, "label": labels}
