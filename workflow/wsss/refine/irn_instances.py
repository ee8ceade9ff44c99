"""Instance labels: cells whose displacements lead to the same centroid belong together (IRNet, arXiv:1904.05044).

K classes of an image, I clusters, N detections, h w = ceil(H / 4), ceil(W / 4) cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from wsss.progress import bar
from wsss.refine import irn_walk
from wsss.stores import Detections, write_instances

FRAGMENT = 0.01  # segments below this share of the image keep their mask, but score 0


def centroids(dp: Tensor, steps: int) -> Tensor:
    """Where each cell ends that follows the displacements ``2×h×w`` for ``steps`` steps: ``2×h×w`` rounded (y, x)."""
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
    """Groups of cells, ``I×h×w`` bool: their centroids fall into the same patch of displacements below ``strength``.

    Patches are 4-connected. Cells that end outside every patch form one group of their own, the first.
    """
    weak = (dp.norm(dim=0) < strength).cpu().numpy()
    patches = torch.from_numpy(ndimage.label(weak)[0].astype(np.int64)).to(dp.device)
    y, x = centroids(dp, steps)
    used, group = patches[y, x].unique(return_inverse=True)
    return group == torch.arange(len(used), device=dp.device).view(-1, 1, 1)


def detect(cam: Tensor, edge: Tensor, dp: Tensor, classes: np.ndarray, size: tuple[int, int], irn: dict) -> Detections:
    """Instances in an image of ``size`` (H, W): class maps ``K×h×w``, boundaries ``h×w``, displacements ``2×h×w``."""
    if len(classes) == 0:
        return Detections(np.zeros(0, np.float32), np.zeros(0, np.uint8), np.zeros((0, *size), bool))
    groups = clusters(dp, irn["centroid_steps"], irn["centroid_strength"])
    seeds = (cam[:, None] * groups).flatten(0, 1)  # K I in class-major order
    walked = irn_walk.upsample(irn_walk.propagate(seeds, edge, irn["beta"], irn["log_steps"], irn["radius"]), *size)
    owner = irn_walk.label_map(walked, irn["instance_background"]).cpu().numpy()
    values = walked.cpu().numpy()
    found = []
    for index in np.unique(owner[owner > 0]):
        segments, count = ndimage.label(owner == index)
        for mask in (segments == s for s in range(1, count + 1)):
            whole = mask.sum() >= FRAGMENT * mask.size
            found.append((values[index - 1][mask].max() if whole else 0.0, classes[(index - 1) // len(groups)], mask))
    scores, labels, masks = zip(*found, strict=True) if found else ((), (), np.zeros((0, *size), bool))
    return Detections(np.array(scores, np.float32), np.array(labels, np.uint8), np.array(masks, bool))


def irn_instances_stage(
    config: dict,
    dataset,
    score_paths: Iterable[str | Path],
    model: str | Path,
    out: str | Path,
    shard: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> None:
    """Write the instances of one shard of ``dataset``'s images to ``out``; arguments as ``irn_walk_stage``."""
    i, n = shard
    found = irn_walk.relations(config, dataset, score_paths, model, shard, device)
    with write_instances(out) as store:
        for image_id, classes, cam, edge, dp, size in bar(found, out=out, unit="image", total=len(dataset.ids[i::n])):
            store.put(image_id, detect(cam, edge, dp, classes, size, config["irn"]))
