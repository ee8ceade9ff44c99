"""What segmentation networks are trained on: images with pseudo masks, or with ground truth for the upper bound."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wsss.data.index import Dataset
from wsss.data.transforms import MaskedView
from wsss.errors import WsssError
from wsss.stores import IGNORE, Masks


@functools.lru_cache(maxsize=1)
def _masks(paths: tuple[str, ...], process: int) -> Masks:
    """One handle per process: forked loaders would share, and fight over, the position in an open file."""
    return Masks(paths)


class SegmentationSamples:
    """Training samples: ``id``, ``image`` (``3×crop×crop`` float32) and ``label`` (``crop×crop`` uint8, 255 ignore).

    Args:
        dataset: the images.
        mask_paths: shards of their label maps; ``None`` for the data set's ground truth.
        train: ``segment.train``: ``crop``, ``scale`` or ``long_side``, ``flip``, ``jitter``, ``jitter_p``.
        convention: what the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an image has no label map, or one of another size or of unknown classes; the line names the image.
    """

    def __init__(self, dataset: Dataset, mask_paths: Iterable[str | Path] | None, train: dict, convention: str = "rgb"):
        self.dataset = dataset
        self.paths = None if mask_paths is None else tuple(map(str, mask_paths))
        self.view = MaskedView(
            **{key: train[key] for key in ("crop", "scale", "long_side", "flip", "jitter", "jitter_p")},
            input=convention,
        )
        lacking = [record.id for record in dataset.records if not self._has_label(record)]
        if lacking:
            cure = "the step before did not cover it" if self.paths else "use a split that has masks"
            raise WsssError(f"no label map for image '{lacking[0]}' ({len(lacking)} in all); {cure}")

    def _has_label(self, record) -> bool:
        return record.mask is not None if self.paths is None else record.id in _masks(self.paths, os.getpid())

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> dict:
        image_id = self.dataset.records[index].id
        image = self.dataset.image(image_id)
        label = self.dataset.mask(image_id) if self.paths is None else _masks(self.paths, os.getpid()).get(image_id)
        if label.shape != image.shape[:2]:
            there, here = ("×".join(map(str, shape)) for shape in (label.shape, image.shape[:2]))
            raise WsssError(f"label map of image '{image_id}' is {there}, the image {here}; run the step before again")
        if (highest := label[label != IGNORE].max(initial=0)) > len(self.dataset.classes):
            cure = "give the masks of this one" if self.paths else "restore it and run `wsss index` again"
            raise WsssError(
                f"label map of image '{image_id}' has class {highest} of {len(self.dataset.classes)}: it is of another "
                f"data set; {cure}"
            )
        image, label = self.view(image, label, rng)
        return {"id": image_id, "image": image, "label": label}
