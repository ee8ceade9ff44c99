"""Pixel-adaptive mask refinement of class scores, without training (PAMR: Araslanov and Roth, arXiv:2005.08104, 3.3).

B images of one size, C classes of an image, A background exponents, K planes, D dilations, N = 8 D neighbours of a
pixel, H W pixels.

    score_i <- sum_j w_ij score_j,    w_ij = softmax over j of  -mean over channels c of |I_ic - I_jc| / (0.1 s_ic)

The neighbours j lie at each of the dilations in eight directions; pixels beyond the border are those of the border. The
pixel i itself is none of them. ``s_ic`` is the standard deviation of a channel over the neighbours and the pixel, which
counts once per dilation.

The weights depend on the image alone, and planes do not mix: one pass refines the A backgrounds and the C classes. A
neighbour is a shifted view of the padded planes, so that memory holds N values per pixel, and not the release's N K.

Departures from the release (visinf/1-stage-wseg@d905fca):
D1  planes keep the size of the image; the release refines its network's masks at a quarter of the size, in training
D2  the background is the score (1 - max)^alpha of PSA; the release's is a plane of the network's softmax
D3  planes of absent classes are left out; the release refines them, too, and sets them to 0
D4  the standard deviation comes from one pass over the differences between neighbours and pixel; only its rounding
    differs from the release's
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss import batches, devices
from wsss.feed import fed
from wsss.refine import scored_image
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import Pamr

FACTOR = 0.1  # a colour that is this many standard deviations away weighs e times less
EPS = 1e-8  # keeps the unit above 0 in areas of one colour
DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]

Entry = tuple[str, list[int], np.ndarray]


def neighbours(planes: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the neighbours of all pixels of ``K×H×W`` planes as N views ``K×H×W``, the first dilation's first.

    Images of one size may be refined together: here and below, ``B`` may stand before all other dimensions.
    """
    height, width = planes.shape[-2:]
    margin = max(dilations)
    padded = F.pad(planes, [margin] * 4, mode="replicate")
    for dilation in dilations:
        for dy, dx in DIRECTIONS:
            top, left = margin + dy * dilation, margin + dx * dilation
            yield padded[..., top : top + height, left : left + width]


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
    """Compute the weights of the neighbours of each pixel of a ``3×H×W`` image in [0, 1]; they sum to 1.

    ``N×H×W``, and ``N×B×H×W`` of several images.
    """
    unit = EPS + FACTOR * deviation(image, dilations)
    distances = image.new_empty(len(DIRECTIONS) * len(dilations), *image.shape[:-3], *image.shape[-2:])
    for distance, neighbour in zip(distances, neighbours(image, dilations), strict=True):
        torch.mean((neighbour - image).abs_().div_(unit), -3, out=distance)
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
            mean.addcmul_(weight.unsqueeze(-3), neighbour)
        planes = mean
    return planes


def with_backgrounds(scores: Tensor, alphas: Sequence[float]) -> Tensor:
    """Put one background score ``(1 - max)^alpha`` per alpha before ``C×H×W`` scores: ``(A+C)×H×W`` in [0, 1]."""
    rest = 1 - scores.amax(0, keepdim=True)
    return torch.cat([*(rest**alpha for alpha in alphas), scores]).clamp(0, 1)


@torch.no_grad()
def refined_scores(
    images: Sequence[np.ndarray], scores: Sequence[np.ndarray], settings: Pamr, device: torch.device
) -> list[list[np.ndarray]]:
    """Refine the scores of images of one size and their background, once per alpha.

    Args:
        images: ``H×W×3`` uint8 RGB.
        scores: ``C×H×W`` of the present classes of each. Without any class, an image is background with certainty.
        settings: the section ``pamr``.
        device: the place to compute on.

    Returns:
        For each image, and for each alpha, planes ``(C+1)×H×W`` float16, background first.
    """
    alphas = settings["alphas"]
    found = [[np.ones((1, *image.shape[:2]), np.float16)] * len(alphas) for image in images]
    if not (present := [k for k, planes in enumerate(scores) if len(planes)]):
        return found
    colours = [torch.tensor(images[k], device=device).permute(2, 0, 1).contiguous() / 255 for k in present]
    each = [with_backgrounds(torch.tensor(scores[k], dtype=torch.float32, device=device), alphas) for k in present]
    most = max(map(len, each))
    planes = torch.stack([F.pad(own, (0, 0, 0, 0, 0, most - len(own))) for own in each])
    refined = refine(torch.stack(colours), planes, settings)
    for k, own, of_image in zip(present, each, refined, strict=True):
        half = of_image[: len(own)].half().cpu().numpy()
        backgrounds, classes = half[: len(alphas)], half[len(alphas) :]
        found[k] = [np.concatenate([background[None], classes]) for background in backgrounds]
    return found


Loaded = tuple[list[np.ndarray], list[list[int]], list[np.ndarray]]  # images, label values of their planes, scores


def pamr(given: Given) -> Iterator[list[Entry]]:
    """Refine the scores of each image, once per background exponent.

    Yields:
        For each image one entry per alpha: the key ``<image id>@<alpha>``, the label values ``[0, *classes]`` and
        their planes ``(C+1)×H×W`` float16 in [0, 1]. Images of one size are refined together, ``given.batch`` of them.

    Raises:
        WsssError: scores are missing, not of the image's size, or of unknown classes; names the image.
    """
    settings, images, scores = given.settings["pamr"], given.images, Scores(given.scores)
    where = devices.on(given.device)
    together = batches.of_one_size(images.sizes, devices.at_once(given.batch, where))

    def load(chosen: list[int]) -> Loaded:
        pixels, classes, planes = zip(
            *(scored_image(images, scores, images.records[i].id) for i in chosen), strict=True
        )
        images.check_sizes(chosen, pixels)
        return list(pixels), [[0, *values.tolist()] for values in classes], list(planes)

    def computed() -> Iterator[list[tuple[list[int], list[np.ndarray]]]]:
        for pixels, labels, planes in fed(load, together, given.loaders):
            yield list(zip(labels, refined_scores(pixels, planes, settings, where), strict=True))

    for image_id, (labels, results) in zip(images.ids, batches.reordered(together, computed()), strict=True):
        pairs = zip(settings["alphas"], results, strict=True)
        yield [(f"{image_id}@{alpha}", labels, planes) for alpha, planes in pairs]
