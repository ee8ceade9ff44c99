"""Training samples of AffinityNet: cells where the CRF results of a low and a high background exponent agree.

PSA: Ahn and Kwak, CVPR 2018, arXiv:1803.10464, 3.2.

B batch, K label planes (background first), H W pixels, h w cells, P pairs of a source cell, h' w' source cells. A pair
joins a source cell with one of the P neighbours within the radius, half a disc. Sources are the cells whose pairs all
lie inside the map. So cells at the left, right and bottom edge have fewer pairs than others. Published numbers depend
on this rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.transforms import ScoredView
from wsss.errors import WsssError
from wsss.refine import check_size
from wsss.refine.paths import at, half_disc
from wsss.stores import IGNORE, Scores

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.settings.sections import Affinity, Settings

ALPHAS: tuple[Literal["low_alpha", "high_alpha"], ...] = ("low_alpha", "high_alpha")
LEAST = 5  # cells on a side, below which no cell has a neighbour within the radius
OUTSIDE = 1e-5  # where no score reaches it, there is no image


def clamp_radius(radius: int, h: int, w: int) -> int:
    """Lower the radius on a small ``h×w`` map to ``(min(h, w) - 1) // 2``, so that some cells are sources (SEAM).

    A map with a side of less than ``LEAST`` cells has no pairs.
    """
    return max(1, min(radius, (min(h, w) - 1) // 2))


def pool(scores: Tensor, stride: int) -> Tensor:
    """Average ``K×H×W`` over cells of ``stride×stride`` pixels: ``K×h×w``. Beyond the image there are zeros."""
    height, width = scores.shape[-2:]
    return F.avg_pool2d(F.pad(scores, (0, -width % stride, 0, -height % stride)), stride)


def confident_labels(low: Tensor, high: Tensor, stride: int) -> Tensor:
    """Label the cells where scores ``K×H×W`` of the low and the high alpha agree: ``h×w`` uint8, indices of planes.

    The low alpha overrates the background: what is foreground even so is foreground. The high alpha underrates it: what
    is background even so is background. The rest is ignored (255), and so is what lies outside the image.
    """
    low, high = pool(low, stride), pool(high, stride)
    labels = low.argmax(0).to(torch.uint8)
    labels[labels == 0] = IGNORE
    labels[high.argmax(0) == 0] = 0
    labels[torch.maximum(low, high).amax(0) < OUTSIDE] = IGNORE
    return labels


class PairMarks(NamedTuple):
    """The pairs that count, ``B×P×h'×w'`` bool each: both background, both of one class, of different labels."""

    bg: Tensor
    fg: Tensor
    neg: Tensor


def pair_marks(labels: Tensor, radius: int) -> PairMarks:
    """Mark the pairs whose cells both have a label in ``B×h×w``, in the order of ``half_disc``."""
    source = at(labels, (0, 0), radius).unsqueeze(1)  # B 1 h' w'
    target = torch.stack([at(labels, offset, radius) for offset in half_disc(radius)], 1)  # B P h' w'
    equal = source == target
    valid = (source != IGNORE) & (target != IGNORE)
    return PairMarks(equal & (source == 0), equal & valid & (source != 0), ~equal & valid)


class AffinitySample(TypedDict):
    """An image ``3×crop×crop`` float32 and its confident labels ``h×w`` uint8, 255 ignore."""

    id: str
    image: Tensor
    label: Tensor


class AffinitySamples:
    """Training samples of AffinityNet.

    Args:
        dataset: the images.
        crf_paths: score shards of stage ``crf``.
        config: the settings; ``crf.alphas`` and ``affinity`` are read.
        stride: pixels per cell.
        convention: the pixels that the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an alpha was not computed, an image is in no shard, or the crop is too small to hold pairs.
    """

    def __init__(
        self, dataset: Dataset, crf_paths: Sequence[str | Path], config: Settings, stride: int, convention: str
    ) -> None:
        settings, train = config["affinity"], config["affinity"]["train"]
        self.dataset, self.paths, self.stride = dataset, list(crf_paths), stride
        self.keys = [_suffix(settings, which, config["crf"]["alphas"]) for which in ALPHAS]
        self.view = ScoredView(train["crop"], train["flip"], train["jitter"] or None, input=convention)
        if train["crop"] <= (LEAST - 1) * stride:
            raise WsssError(f"affinity.train.crop: {train['crop']} pixels hold no pairs; give {LEAST * stride} or more")
        scores = Scores(self.paths)
        for key in (image_id + suffix for image_id in dataset.ids for suffix in self.keys):
            if key not in scores:
                raise WsssError(
                    f"no CRF result '{key}'; give --scores of all training images, made with the present settings"
                )

    @cached_property
    def scores(self) -> Scores:
        """The scores, opened at the first use: a loader process must not share file positions with its parent."""
        return Scores(self.paths)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> AffinitySample:
        """Augment the ``index``-th image at random, together with its scores, and label its cells.

        Raises:
            WsssError: the scores have another size; the message names the image.
        """
        image_id = self.dataset.records[index].id
        image = self.dataset.image(image_id)
        planes = np.concatenate([self.scores.get(image_id + suffix)[1] for suffix in self.keys])  # 2K H W
        check_size(image_id, image, planes)
        view, scores = self.view(image, planes, rng)
        low, high = scores.chunk(2)
        return {"id": image_id, "image": view, "label": confident_labels(low, high, self.stride)}


def _suffix(settings: Affinity, which: Literal["low_alpha", "high_alpha"], alphas: list[float]) -> str:
    """Find the end of the keys of an alpha's scores; it is written as in ``crf.alphas``."""
    if settings[which] not in alphas:
        known = ", ".join(map(str, alphas))
        raise WsssError(f"affinity.{which}: {settings[which]} is not in crf.alphas ({known}); add it there")
    return f"@{alphas[alphas.index(settings[which])]}"
