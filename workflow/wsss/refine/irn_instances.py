"""Stage ``irn_instances``: cells whose displacements lead to the same centroid are one instance (arXiv:1904.05044).

K classes of an image, I clusters, N detections, h w = ceil(H / 4), ceil(W / 4) cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from wsss.refine import irn_walk
from wsss.stores import Detections

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import IrnInstances

Entry = tuple[str, Detections]  # id, instances
FRAGMENT = 0.01  # segments below this share of the image keep their mask, but score 0


def centroids(dp: Tensor, steps: int) -> Tensor:
    """Follow the displacements ``2×h×w`` from each cell for ``steps`` steps.

    Returns:
        The cells where they end: ``2×h×w``, rounded (y, x).
    """
    _, h, w = dp.shape
    limit = torch.tensor([h - 1, w - 1], dtype=torch.float64, device=dp.device)
    axes = (torch.arange(size, dtype=torch.float64, device=dp.device) for size in (h, w))
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # h w 2
    field = dp.double()[None]
    for _ in range(steps):
        grid = (2 * position / limit.clamp(min=1) - 1).flip(-1)  # grid_sample wants x, y in [-1, 1]
        move = F.grid_sample(field, grid[None], "bilinear", "border", align_corners=True)[0].permute(1, 2, 0)
        position = (position + move).clamp(min=torch.zeros_like(limit), max=limit)
    return position.round().long().permute(2, 0, 1)


def clusters(dp: Tensor, steps: int, strength: float) -> Tensor:
    """Group the cells whose centroids fall into the same patch: ``I×h×w`` bool.

    A patch is a 4-connected area of displacements ``2×h×w`` shorter than ``strength``. Cells that end outside every
    patch form one group of their own, the first.
    """
    weak = (dp.norm(dim=0) < strength).cpu().numpy()
    patches = torch.from_numpy(ndimage.label(weak)[0].astype(np.int64)).to(dp.device)
    y, x = centroids(dp, steps)
    used, group = patches[y, x].unique(return_inverse=True)
    return group == torch.arange(len(used), device=dp.device).view(-1, 1, 1)


def detect(
    cam: Tensor, edge: Tensor, dp: Tensor, classes: np.ndarray, size: tuple[int, int], settings: IrnInstances
) -> Detections:
    """Find the instances in an image.

    Args:
        cam: class maps ``K×h×w``.
        edge: boundaries ``h×w``.
        dp: displacements ``2×h×w``.
        classes: label values ``K``.
        size: height and width of the image.
        settings: the section ``irn_instances``.
    """
    if len(classes) == 0:
        return Detections(np.zeros(0, np.float32), np.zeros(0, np.uint8), np.zeros((0, *size), bool))
    groups = clusters(dp, settings["centroid_steps"], settings["centroid_strength"])
    seeds = (cam[:, None] * groups).flatten(0, 1)  # K I in class-major order
    cells = irn_walk.propagate(seeds, edge, settings["beta"], settings["log_steps"], settings["radius"])
    walked = irn_walk.upsample(cells, *size)
    owner = irn_walk.label_map(walked, settings["background"]).cpu().numpy()
    values = walked.cpu().numpy()
    found = []
    for index in np.unique(owner[owner > 0]):
        segments, count = ndimage.label(owner == index)
        for mask in (segments == s for s in range(1, count + 1)):
            whole = mask.sum() >= FRAGMENT * mask.size
            score = values[index - 1][mask].max() if whole else 0.0
            found.append((score, classes[(index - 1) // len(groups)], mask))
    scores, labels, masks = zip(*found, strict=True) if found else ((), (), np.zeros((0, *size), bool))
    return Detections(np.array(scores, np.float32), np.array(labels, np.uint8), np.array(masks, bool))


def irn_instances(given: Given) -> Iterator[list[Entry]]:
    """Find the instances in each image.

    Yields:
        For each image one entry: its id and its instances.

    Raises:
        WsssError: scores are missing or do not fit the image (names the image), or the model does not fit.
    """
    settings = given.settings["irn_instances"]
    for image_id, classes, cam, edge, dp, size in irn_walk.relations(given, settings["score_power"]):
        yield [(image_id, detect(cam, edge, dp, classes, size, settings))]
