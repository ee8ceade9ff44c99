"""Pseudo masks by propagation: scores walk at random over the cells of an image, hardly across its class boundaries.

IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044. K classes of an image, h w = ceil(H / 4), ceil(W / 4) cells.

The walk itself, sparse where the release squares dense matrices, is that of ``walk``.

Departures from the release jiwoon-ahn/irn@a2ece00:
D1  scores at stride 4 are resampled from the stored full-size ones; the release resizes class maps to both sizes
D2  float64 in the walk; its distance from the release is that of float32 from exact arithmetic
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.transforms import normalise, to_tensor
from wsss.devices import for_inference
from wsss.pool import ahead
from wsss.progress import bar
from wsss.refine import irn_net, scored_image, walk
from wsss.refine.paths import path_affinity
from wsss.stores import Scores, write_masks

EPS = 1e-5


def propagate(cam: Tensor, edge: Tensor, beta: float, log_steps: int, radius: int) -> Tensor:
    """``cam`` ``K×h×w`` after ``2^log_steps`` steps over boundary probabilities ``edge`` ``h×w``.

    Cells start with ``cam (1 - edge)``. A step is as likely as ``a_ij^beta``; the affinity ``a_ij`` is one minus the
    highest probability on the straight path from i to j. A wall around the map makes every cell of it a source.
    """
    (h, w), margin = edge.shape, radius - 1
    frame = (margin, margin, 0, margin)  # left, right, top, bottom
    affinity = path_affinity(F.pad(edge.double()[None], frame, value=1.0), radius)  # 1 P h w
    start = F.pad(cam * (1 - edge), frame)[None]
    walked = walk.random_walk(start, affinity, radius, beta, log_steps)[0]
    return walked[:, :h, margin : margin + w]


def to_cells(scores: Tensor) -> Tensor:
    """Scores ``K×H×W`` resampled at stride 4, each class divided by its maximum (D1): ``K×h×w``."""
    size = [-(-length // irn_net.STRIDE) for length in scores.shape[1:]]
    planes = scores.clamp(min=0).unsqueeze(1)  # K 1 H W: interpolation takes no classes as a batch of none
    cells = F.interpolate(planes, size, mode="bilinear", align_corners=False).squeeze(1)
    return cells / (cells.amax((1, 2), keepdim=True) + EPS)


def upsample(walked: Tensor, height: int, width: int) -> Tensor:
    """``K×h×w`` -> ``K×H×W``, divided by the maximum over all classes."""
    large = walk.upsample(walked, irn_net.STRIDE)[:, :height, :width]
    return large / large.max().clamp(min=EPS)


def label_map(scores: Tensor, background: float) -> Tensor:
    """Index of the highest of ``[background, *scores]`` at each pixel: ``K×H×W`` -> ``H×W``."""
    return torch.cat([torch.full_like(scores[:1], background), scores]).argmax(0)


def semantic_labels(cam: Tensor, edge: Tensor, classes: np.ndarray, size: tuple[int, int], irn: dict) -> np.ndarray:
    """Label map ``H×W`` uint8 of an image of ``size`` (H, W) from class maps ``K×h×w`` and boundaries ``h×w``."""
    if len(classes) == 0:
        return np.zeros(size, np.uint8)
    walked = propagate(cam, edge, irn["beta"], irn["log_steps"], irn["radius"])
    index = label_map(upsample(walked, *size), irn["background"])
    return np.concatenate([[0], classes]).astype(np.uint8)[index.cpu().numpy()]


class Relations(NamedTuple):
    """What IRNet and the classifier say about one image: see ``semantic_labels`` for shapes."""

    image_id: str
    classes: np.ndarray  # K label values
    cam: Tensor
    edge: Tensor
    dp: Tensor  # 2 h w
    size: tuple[int, int]


@torch.no_grad()
def relations(config: dict, dataset, score_paths, model, shard: tuple[int, int], device: str) -> Iterator[Relations]:
    """The relations of the i-th of n interleaved parts of ``dataset``'s images; ``shard`` is (i, n)."""
    irn, (i, n) = config["irn"], shard
    where = for_inference(device)[0]
    net, scores = irn_net.load(irn, model).to(where), Scores(score_paths)
    ids = dataset.ids[i::n]
    with ThreadPoolExecutor(1) as threads:
        loaded = ahead(threads, partial(scored_image, dataset, scores), ids)
        for image_id, (image, classes, full) in zip(ids, loaded, strict=True):
            x = to_tensor(normalise(image, net.backbone.input)).to(where)
            edge, dp = irn_net.boundary_and_displacement(net, x, irn["train"]["crop"])
            cam = to_cells(torch.from_numpy(full).to(where)) ** irn["score_power"]
            yield Relations(image_id, classes, cam, edge, dp, image.shape[:2])


def irn_walk_stage(
    config: dict,
    dataset,
    score_paths: Iterable[str | Path],
    model: str | Path,
    out: str | Path,
    shard: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> None:
    """Write the pseudo masks of one shard of ``dataset``'s images to ``out``, a zip of palette PNGs.

    ``score_paths`` are the CAM scores of at least these images, ``model`` the ``model.pt`` of ``irnet_stage``.
    """
    i, n = shard
    found = relations(config, dataset, score_paths, model, shard, device)
    with write_masks(out) as store:
        for image_id, classes, cam, edge, _, size in bar(found, out=out, unit="image", total=len(dataset.ids[i::n])):
            store.put(image_id, semantic_labels(cam, edge, classes, size, config["irn"]))
