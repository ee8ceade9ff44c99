"""Pixel-adaptive mask refinement of class scores, without training (PAMR: Araslanov and Roth, arXiv:2005.08104, 3.3).

C classes of an image, A background exponents, K planes, D dilations, N = 8 D neighbours of a pixel, H W pixels.

    score_i <- sum_j w_ij score_j,    w_ij = softmax over j of  -mean over channels c of |I_ic - I_jc| / (0.1 s_ic)

The neighbours j lie at each of the dilations in eight directions; pixels beyond the border are those of the border. The
pixel i itself is none of them. ``s_ic`` is the standard deviation of a channel over the neighbours and the pixel, which
counts once per dilation.

The weights depend on the image alone, and planes do not mix: one pass refines the A backgrounds and the C classes. A
neighbour is a shifted view of the padded planes, so that memory holds N values per pixel, and not the release's N K.

Departures from the release (visinf/1-stage-wseg@d905fca):
D1  planes keep the size of the image; the release refines its network's masks at a quarter of it, while it trains
D2  the background is the score (1 - max)^alpha of PSA; the release's is a plane of the network's softmax
D3  planes of absent classes are left out; the release refines them, too, and sets them to 0
D4  one pass over differences from the pixel itself yields the standard deviation; this changes its rounding only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.devices import for_inference
from wsss.pool import ahead
from wsss.refine import scored_image
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import Pamr

FACTOR = 0.1  # a colour that is this many standard deviations away weighs e times less
EPS = 1e-8  # of areas of one colour
DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]

Entry = tuple[str, list[int], np.ndarray]


def neighbours(planes: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the neighbours of all pixels of ``K×H×W`` planes as N views ``K×H×W``, the first dilation's first."""
    height, width = planes.shape[1:]
    margin = max(dilations)
    padded = F.pad(planes, [margin] * 4, mode="replicate")
    for dilation in dilations:
        for dy, dx in DIRECTIONS:
            top, left = margin + dy * dilation, margin + dx * dilation
            yield padded[:, top : top + height, left : left + width]


def deviation(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Compute the standard deviation around each pixel of a ``3×H×W`` image, for each channel: ``3×H×W``.

    The sample has 9 D values, and D of them are the pixel's own. So the subtraction of squares is harmless: it leaves
    at least a ninth of what it starts from.
    """
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in neighbours(image, dilations):
        difference = neighbour - image
        total += difference
        squares.addcmul_(difference, difference)
    count = (len(DIRECTIONS) + 1) * len(dilations)
    return ((squares - total * total / count) / (count - 1)).sqrt()


def neighbour_weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Compute the weights ``N×H×W`` of the neighbours of each pixel of a ``3×H×W`` image in [0, 1]; they sum to 1."""
    unit = EPS + FACTOR * deviation(image, dilations)
    distances = image.new_empty(len(DIRECTIONS) * len(dilations), *image.shape[1:])
    for distance, neighbour in zip(distances, neighbours(image, dilations), strict=True):
        torch.mean((neighbour - image).abs_().div_(unit), 0, out=distance)
    return torch.softmax(distances.neg_(), 0)


def refine(image: Tensor, planes: Tensor, settings: Pamr) -> Tensor:
    """Replace each pixel's scores by the weighted mean of its neighbours', ``iterations`` times.

    Args:
        image: ``3×H×W`` float32 in [0, 1].
        planes: ``K×H×W`` float32. They do not mix, and their number is free.
        settings: ``iterations`` and ``dilations``, the distances of neighbours in pixels.

    Returns:
        ``K×H×W`` float32; each plane stays between its least and its greatest score.
    """
    dilations = settings["dilations"]
    weights = neighbour_weights(image, dilations)
    for _ in range(settings["iterations"]):
        mean = torch.zeros_like(planes)
        for weight, neighbour in zip(weights, neighbours(planes, dilations), strict=True):
            mean.addcmul_(weight, neighbour)
        planes = mean
    return planes


def with_backgrounds(scores: Tensor, alphas: Sequence[float]) -> Tensor:
    """Put one background score ``(1 - max)^alpha`` per alpha before ``C×H×W`` scores: ``(A+C)×H×W`` in [0, 1]."""
    rest = 1 - scores.amax(0, keepdim=True)
    return torch.cat([*(rest**alpha for alpha in alphas), scores]).clamp(0, 1)


@torch.no_grad()
def refined_scores(image: np.ndarray, scores: np.ndarray, settings: Pamr, device: torch.device) -> list[np.ndarray]:
    """Refine the scores of one image and the background, once per alpha.

    Args:
        image: ``H×W×3`` uint8 RGB.
        scores: ``C×H×W`` of the present classes. Without any class, the image is background with certainty.
        settings: the section ``pamr``.
        device: the place to compute on.

    Returns:
        For each alpha planes ``(C+1)×H×W`` float16, background first.
    """
    alphas = settings["alphas"]
    if len(scores) == 0:
        return [np.ones((1, *image.shape[:2]), np.float16)] * len(alphas)
    colours = torch.tensor(image, device=device).permute(2, 0, 1).contiguous() / 255
    planes = with_backgrounds(torch.tensor(scores, dtype=torch.float32, device=device), alphas)
    refined = refine(colours, planes, settings).half().cpu().numpy()
    backgrounds, classes = refined[: len(alphas)], refined[len(alphas) :]
    return [np.concatenate([background[None], classes]) for background in backgrounds]


def pamr(given: Given) -> Iterator[list[Entry]]:
    """Refine the scores of each image, once per background exponent.

    Yields:
        For each image one entry per alpha: the key ``<image id>@<alpha>``, the label values ``[0, *classes]`` and
        their planes ``(C+1)×H×W`` float16 in [0, 1].

    Raises:
        WsssError: scores are missing, not of the image's size, or of unknown classes; names the image.
    """
    settings, ids = given.settings["pamr"], given.images.ids
    device = for_inference(given.device)[0]
    with ThreadPoolExecutor(1) as threads:
        loaded = ahead(threads, partial(scored_image, given.images, Scores(given.scores)), ids)
        for image_id, (image, classes, scores) in zip(ids, loaded, strict=True):
            labels = [0, *classes.tolist()]
            results = refined_scores(image, scores, settings, device)
            pairs = zip(settings["alphas"], results, strict=True)
            yield [(f"{image_id}@{alpha}", labels, planes) for alpha, planes in pairs]
