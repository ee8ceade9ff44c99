"""Stage ``walk``: scores walk at random over learned affinities (PSA, arXiv:1803.10464, 3.3; SEAM; AEFT).

B batch, K label planes (background first), H W pixels, h w cells, n = h w, P pairs of a source cell, D = 2P + 1 <= 69
cells that one step can come from, the cell itself among them.

    T = W / column sums,  W_ij = a_ij^beta,  W_ii = 1;     scores after t steps: x T^t,  t = 2^log_steps

The releases square a dense n×n matrix ``log_steps`` times. Here T stays sparse and is multiplied by K planes only: t
steps cost 6 sqrt(t) products with D n entries, not ``log_steps`` products of n×n matrices. W is symmetric, so T has
real eigenvalues in [-1, 1], and its power is a short sum of Chebyshev polynomials (see :func:`walk_coefficients`).

Departures from the releases (jiwoon-ahn/psa@9493e59, YudeWang/SEAM@3212261):
D1  the walk is in float64; it differs from the releases by the rounding of their float32
D2  planes of absent classes, which stay zero, are left out; scores are the stored float16 ones
D3  the radius shrinks on maps no larger than twice the radius, as in SEAM; PSA keeps it
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss import batches, devices
from wsss.data.transforms import normalise, to_tensor
from wsss.feed import fed
from wsss.pool import mapped
from wsss.refine import affinity_net, scored_image
from wsss.refine.labels import clamp_radius, pool
from wsss.refine.paths import half_disc
from wsss.refine.smooth import Smooth, best_labels, pad
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import Settings

Entry = tuple[str, np.ndarray]  # id, pseudo mask
SIGMAS = 6  # polynomials beyond this many standard deviations of the walk have weights below 1e-8 in all


def neighbour_weights(
    affinity: Tensor, size: tuple[int, int], radius: int, beta: float
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Arrange ``W`` by offsets.

    Args:
        affinity: affinities of pairs ``B×P×h'×w'``. A pair counts in both directions.
        size: h and w.
        radius: of the pairs, in cells.
        beta: the exponent of affinities.

    Returns:
        ``a^beta`` of the neighbour at each of the D offsets, 0 where there is none, ``B×D×h×w``; and the offsets, in
        reading order.
    """
    (h, w), margin = size, radius - 1
    half = half_disc(radius)
    offsets = sorted([(0, 0), *half, *((-dy, -dx) for dy, dx in half)])
    weights = affinity.new_zeros(len(affinity), len(offsets), h, w)
    weights[:, offsets.index((0, 0))] = 1
    for p, (dy, dx) in enumerate(half):
        value = affinity[:, p] ** beta
        at_source = (slice(None), offsets.index((dy, dx)), slice(0, h - margin), slice(margin, w - margin))
        at_target = (
            slice(None),
            offsets.index((-dy, -dx)),
            slice(dy, dy + h - margin),
            slice(margin + dx, w - margin + dx),
        )
        weights[at_source], weights[at_target] = value, value
    return weights, offsets


def transition_matrix(weights: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Build ``T`` transposed, sparse ``Bn×Bn``, from ``weights`` ``B×D×h×w`` and their offsets.

    It has one block per image. Row j holds the shares of the cells i in the score of j.
    """
    B, D, h, w = weights.shape
    shares = (weights / weights.sum(1, keepdim=True)).permute(0, 2, 3, 1).reshape(B * h * w, D)
    shift = torch.tensor([dy * w + dx for dy, dx in offsets], device=weights.device)
    columns = torch.arange(B * h * w, device=weights.device).unsqueeze(1) + shift
    present = shares > 0
    starts = F.pad(present.sum(1).cumsum(0), (1, 0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts.int(), columns[present].int(), shares[present], (B * h * w,) * 2, check_invariants=False
        )


def walk_coefficients(steps: int) -> list[float]:
    """Compute ``c_k`` with ``x^steps = sum_k c_k T_k(x)`` on [-1, 1]. ``T_k`` are Chebyshev's polynomials.

    ``x^t`` is the mean of ``T_|S|(x)`` over the end points S of t fair coin tosses. So all but ``6 sqrt(t)`` terms can
    be dropped: the rest weighs 2e-9 (Sachdeva and Vishnoi, Faster Algorithms via Approximation Theory, 2014, 3).
    """
    degree = min(steps, math.ceil(SIGMAS * math.sqrt(steps)))
    chance = [math.comb(steps, (steps - k) // 2) / 2**steps * ((steps - k) % 2 == 0) for k in range(degree + 1)]
    return [chance[0], *(2 * c for c in chance[1:])]


def random_walk(scores: Tensor, affinity: Tensor, radius: int, beta: float, log_steps: int) -> Tensor:
    """Let scores walk for ``2^log_steps`` steps.

    Args:
        scores: ``B×K×h×w``.
        affinity: affinities of pairs ``B×P×h'×w'``.
        radius: of the pairs, in cells.
        beta: the exponent of affinities.
        log_steps: the base-2 logarithm of the number of steps.

    Returns:
        ``B×K×h×w``, of the type of ``scores``.
    """
    B, K, h, w = scores.shape
    transition = transition_matrix(*neighbour_weights(affinity.double(), (h, w), radius, beta))
    coefficients = walk_coefficients(2**log_steps)
    before = scores.double().permute(0, 2, 3, 1).reshape(B * h * w, K)  # T_0 x
    now = transition @ before  # T_1 x
    total = coefficients[0] * before + coefficients[1] * now
    for c in coefficients[2:]:
        before, now = now, torch.addmm(before, transition, now, beta=-1, alpha=2)  # T_k+1 = 2 x T_k - T_k-1
        if c:
            total.add_(now, alpha=c)
    return total.reshape(B, h, w, K).permute(0, 3, 1, 2).to(scores.dtype)


def label_planes(scores: Tensor, alpha: float, n_classes: int) -> Tensor:
    """Put the background score ``(1 - max)^alpha`` before ``C×H×W`` scores of present classes: ``(C+1)×H×W``.

    The maximum is over all ``n_classes`` classes. Absent ones score 0.
    """
    best = scores.amax(0, keepdim=True) if len(scores) else scores.new_zeros(1, *scores.shape[1:])
    best = best.clamp(min=0) if len(scores) < n_classes else best
    return torch.cat([(1 - best) ** alpha, scores])


def upsample(walked: Tensor, stride: int) -> Tensor:
    """Upsample ``K×h×w`` to ``K×(h stride)×(w stride)``, bilinearly with half-pixel centres."""
    return F.interpolate(walked[None], scale_factor=stride, mode="bilinear", align_corners=False)[0]


class Walker:
    """The walk of the scores of images.

    Args:
        config: the settings; the sections ``walk``, ``affinity`` and ``backbone`` are read.
        n_classes: number of foreground classes.
        model_path: the ``model.pt`` of stage ``affinity``.
        device: the place to compute on.

    Raises:
        WsssError: the model cannot be read, or does not fit the settings.
    """

    def __init__(self, config: Settings, n_classes: int, model_path: str | Path, device: torch.device):
        self.walk, self.n_classes, self.device = config["walk"], n_classes, device
        self.net = devices.placed(affinity_net.load(config, model_path), device)

    def padded(self, size: Sequence[int]) -> list[int]:
        """Return H' and W' of an image of H and W: multiples of the stride."""
        return [-(-length // self.net.stride) * self.net.stride for length in size]

    def pixels(self, image: np.ndarray) -> Tensor:
        """Make the network's input ``3×H'×W'`` of an image ``H×W×3`` uint8, which is padded at the right and bottom."""
        return to_tensor(pad(normalise(image, self.net.backbone.input), self.padded(image.shape[:2]), (0, 0, 0)))

    @torch.no_grad()
    def __call__(self, pixels: Tensor, scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute planes ``(C+1)×H'×W'`` of each image, background first.

        ``pixels`` are ``B×3×H'×W'`` of :meth:`pixels`, ``scores`` for each image ``C×H×W`` of the present classes.
        """
        stride = self.net.stride
        features = self.net(pixels.to(self.device, non_blocking=True))
        planes = [
            label_planes(torch.from_numpy(each).to(self.device), self.walk["alpha"], self.n_classes) for each in scores
        ]
        each = [pool(of_image, stride) for of_image in planes]  # K h w
        most = max(map(len, each))
        cells = torch.stack([F.pad(of_image, (0, 0, 0, 0, 0, most - len(of_image))) for of_image in each])  # B K h w
        radius = clamp_radius(self.net.radius, *cells.shape[-2:])
        pairs = affinity_net.pair_affinity(features, radius)
        walked = random_walk(cells, pairs, radius, self.walk["beta"], self.walk["log_steps"])
        return [upsample(found[: len(own)], stride).cpu().numpy() for found, own in zip(walked, each, strict=True)]


def walk(given: Given) -> Iterator[list[Entry]]:
    """Let the scores of each image walk.

    Yields:
        For each image one entry: its id and its pseudo mask ``H×W`` uint8. Masks do not depend on the number of CRF
        processes. Images of one padded size are computed together, ``given.batch`` of them.

    Raises:
        WsssError: scores are missing or do not fit the image (names the image), or the model does not fit.
    """
    images, settings = given.images, given.settings
    n_labels = len(images.classes) + 1
    assert given.model is not None
    walker = Walker(settings, n_labels - 1, given.model, devices.on(given.device))
    found = _walked(walker, given)
    smooth = Smooth(n_labels, settings["crf"]) if settings["walk"]["crf"] else None
    masks = mapped(smooth, found, given.workers) if smooth else (best_labels(*planes) for planes in found)
    for image_id, mask in zip(images.ids, masks, strict=True):
        yield [(image_id, mask)]


Walked = tuple[np.ndarray, np.ndarray, np.ndarray]  # an image, the label values of its planes, the planes
Loaded = tuple[list[np.ndarray], list[np.ndarray], Tensor, list[np.ndarray]]  # images, label values, inputs, scores


def _walked(walker: Walker, given: Given) -> Iterator[Walked]:
    """Yield each image, the label values of its planes, and the planes after the walk."""
    images, scores, where = given.images, Scores(given.scores), walker.device
    sizes = [tuple(walker.padded(size)) for size in images.sizes]
    together = batches.of_one_size(sizes, devices.at_once(given.batch, where))

    def load(chosen: list[int]) -> Loaded:
        read = [scored_image(images, scores, images.records[i].id) for i in chosen]
        pixels, classes, planes = (list(column) for column in zip(*read, strict=True))
        inputs = [walker.pixels(image) for image in pixels]
        images.check_sizes(chosen, inputs)
        return pixels, classes, torch.stack(inputs), planes

    def computed() -> Iterator[list[Walked]]:
        for pixels, classes, inputs, planes in fed(load, together, given.loaders):
            labels = [np.concatenate([[0], values]).astype(np.uint8) for values in classes]
            yield list(zip(pixels, labels, walker(inputs, planes), strict=True))

    return batches.reordered(together, computed())
