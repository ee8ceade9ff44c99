"""Stage ``irn_instances``: cells whose displacements lead to the same centroid are one instance (arXiv:1904.05044).

B images with the same h w, K classes of an image, I clusters, N detections, h w = ceil(H / 4), ceil(W / 4) cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from wsss.refine import irn_walk
from wsss.refine.irn_walk import Relations
from wsss.stores import Detections

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import IrnInstances

Entry = tuple[str, Detections]  # id, instances
FRAGMENT = 0.01  # segments below this share of the image keep their mask, but score 0


def centroids(dp: Tensor, steps: int) -> Tensor:
    """Follow the displacements ``B×2×h×w`` from each cell for ``steps`` steps.

    Returns:
        The cells where they end: ``B×2×h×w``, rounded (y, x).
    """
    *_, h, w = dp.shape
    limit = torch.tensor([h - 1, w - 1], dtype=torch.float64, device=dp.device)
    axes = (torch.arange(size, dtype=torch.float64, device=dp.device) for size in (h, w))
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).expand(len(dp), h, w, 2)
    field = dp.double()
    for _ in range(steps):
        grid = (2 * position / limit.clamp(min=1) - 1).flip(-1)  # grid_sample wants x, y in [-1, 1]
        move = F.grid_sample(field, grid, "bilinear", "border", align_corners=True).permute(0, 2, 3, 1)
        position = (position + move).clamp(min=torch.zeros_like(limit), max=limit)
    return position.round().long().permute(0, 3, 1, 2)


def clusters(dp: Tensor, steps: int, strength: float) -> list[Tensor]:
    """Group the cells of each image whose centroids fall into the same patch: ``I×h×w`` bool.

    A patch is a 4-connected area of displacements ``B×2×h×w`` shorter than ``strength``. Cells that end outside every
    patch form one group of their own, the first.
    """
    weak = (dp.norm(dim=1) < strength).cpu().numpy()
    found = []
    for of_image, (y, x) in zip(weak, centroids(dp, steps), strict=True):
        patches = torch.from_numpy(ndimage.label(of_image)[0].astype(np.int64)).to(dp.device)
        used, group = patches[y, x].unique(return_inverse=True)
        found.append(group == torch.arange(len(used), device=dp.device).view(-1, 1, 1))
    return found


def detect(images: Sequence[Relations], settings: IrnInstances) -> list[Detections]:
    """Find the instances in images with the same number of cells.

    Args:
        images: what is known of them.
        settings: the section ``irn_instances``.
    """
    dp = torch.stack([image.dp for image in images])
    groups = clusters(dp, settings["centroid_steps"], settings["centroid_strength"])
    pairs = list(zip(images, groups, strict=True))
    seeds = [(image.cam[:, None] * own).flatten(0, 1) for image, own in pairs]  # K I in class-major order
    walked = irn_walk.propagate_each(seeds, [image.edge for image in images], settings)
    return [_instances(cells, len(own), image, settings) for cells, (image, own) in zip(walked, pairs, strict=True)]


def _instances(walked: Tensor, groups: int, image: Relations, settings: IrnInstances) -> Detections:
    """Find the instances in an image from the scores ``K I×h×w`` of its classes in each group after the walk."""
    if len(image.classes) == 0:
        return Detections(np.zeros(0, np.float32), np.zeros(0, np.uint8), np.zeros((0, *image.size), bool))
    large = irn_walk.upsample(walked, *image.size)
    owner = irn_walk.label_map(large, settings["background"]).cpu().numpy()
    values = large.cpu().numpy()
    found = []
    for index in np.unique(owner[owner > 0]):
        segments, count = ndimage.label(owner == index)
        for mask in (segments == s for s in range(1, count + 1)):
            whole = mask.sum() >= FRAGMENT * mask.size
            score = values[index - 1][mask].max() if whole else 0.0
            found.append((score, image.classes[(index - 1) // groups], mask))
    scores, labels, masks = zip(*found, strict=True) if found else ((), (), np.zeros((0, *image.size), bool))
    return Detections(np.array(scores, np.float32), np.array(labels, np.uint8), np.array(masks, bool))


def irn_instances(given: Given) -> Iterator[list[Entry]]:
    """Find the instances in each image.

    Yields:
        For each image one entry: its id and its instances.

    Raises:
        WsssError: scores are missing or do not fit the image (names the image), or the model does not fit.
    """
    settings = given.settings["irn_instances"]
    for entry in irn_walk.from_relations(given, settings["score_power"], partial(detect, settings=settings)):
        yield [entry]
