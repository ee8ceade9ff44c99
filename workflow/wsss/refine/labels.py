"""What AffinityNet learns from: cells where the CRF results of a low and a high background exponent agree (PSA,
Ahn and Kwak, CVPR 2018, arXiv:1803.10464, 3.2).

B batch, K label planes (background first), H W pixels, h w cells, P pairs of a source cell, h' w' source cells. A pair
joins a source cell with one of the P neighbours within the radius, half a disc; sources are the cells whose pairs all
lie inside the map, so cells at the left, right and bottom edge have fewer pairs than others. Published numbers depend
on this rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.transforms import ScoredView
from wsss.errors import WsssError
from wsss.refine import check_size
from wsss.refine.paths import at, half_disc
from wsss.stores import IGNORE, Scores

LEAST = 5  # cells on a side, below which no cell has a neighbour within the radius
OUTSIDE = 1e-5  # where no score reaches it, there is no image


def clamp_radius(radius: int, h: int, w: int) -> int:
    """The radius for an ``h×w`` map: on small maps ``(min(h, w) - 1) // 2``, so that some cells are sources (SEAM).

    Maps of less than ``LEAST`` cells have no pairs.
    """
    return max(1, min(radius, (min(h, w) - 1) // 2))


def pool(scores: Tensor, stride: int) -> Tensor:
    """``K×H×W`` averaged over cells of ``stride×stride`` pixels; beyond the image there are zeros: ``K×h×w``."""
    height, width = scores.shape[-2:]
    return F.avg_pool2d(F.pad(scores, (0, -width % stride, 0, -height % stride)), stride)


def confident_labels(low: Tensor, high: Tensor, stride: int) -> Tensor:
    """Label map ``h×w`` uint8 from scores ``K×H×W`` of the low and the high alpha; values are plane indices.

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
    """Pairs that count, ``B×P×h'×w'`` bool: both background, both of one class, of different labels."""

    bg: Tensor
    fg: Tensor
    neg: Tensor


def pair_marks(labels: Tensor, radius: int) -> PairMarks:
    """The pairs that label maps ``B×h×w`` speak about, in the order of :func:`wsss.refine.paths.half_disc`."""
    source = at(labels, (0, 0), radius).unsqueeze(1)  # B 1 h' w'
    target = torch.stack([at(labels, offset, radius) for offset in half_disc(radius)], 1)  # B P h' w'
    equal = source == target
    valid = (source != IGNORE) & (target != IGNORE)
    return PairMarks(equal & (source == 0), equal & valid & (source != 0), ~equal & valid)


class AffinitySamples:
    """Training samples of AffinityNet: ``id``, ``image`` (``3×crop×crop`` float32), ``label`` (``h×w`` uint8).

    Args:
        dataset: the training split.
        crf_paths: score shards of :func:`wsss.refine.crf.crf_stage`.
        config: sections ``crf`` (``alphas``) and ``affinity`` are read.
        stride: pixels per cell.
        convention: the pixels the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an alpha was not computed, an image is in no shard, or the crop is too small to hold pairs.
    """

    def __init__(self, dataset, crf_paths: Sequence[str | Path], config: dict, stride: int, convention: str):
        settings, train = config["affinity"], config["affinity"]["train"]
        self.dataset, self.paths, self.stride = dataset, list(crf_paths), stride
        self.keys = [_suffix(settings, which, config["crf"]["alphas"]) for which in ("low_alpha", "high_alpha")]
        self.view = ScoredView(train["crop"], train["flip"], train["jitter"], input=convention)
        if train["crop"] <= (LEAST - 1) * stride:
            raise WsssError(f"affinity.train.crop: {train['crop']} pixels hold no pairs; give {LEAST * stride} or more")
        scores = Scores(self.paths)
        for key in (image_id + suffix for image_id in dataset.ids for suffix in self.keys):
            if key not in scores:
                raise WsssError(f"no CRF result '{key}'; run the CRF on all training images with the present settings")

    @cached_property
    def scores(self) -> Scores:
        """Opened at the first use: a loader process must not share file positions with its parent."""
        return Scores(self.paths)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> dict:
        image_id = self.dataset.records[index].id
        image = self.dataset.image(image_id)
        planes = np.concatenate([self.scores.get(image_id + suffix)[1] for suffix in self.keys])  # 2K H W
        check_size(image_id, image, planes)
        image, planes = self.view(image, planes, rng)
        low, high = planes.chunk(2)
        return {"id": image_id, "image": image, "label": confident_labels(low, high, self.stride)}


def _suffix(settings: dict, which: str, alphas: list) -> str:
    if settings[which] not in alphas:
        known = ", ".join(map(str, alphas))
        raise WsssError(f"affinity.{which}: {settings[which]} is not in crf.alphas ({known}); add it there")
    return f"@{alphas[alphas.index(settings[which])]}"
