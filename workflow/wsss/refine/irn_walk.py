"""Stage ``irn_walk``: scores walk at random over the cells of an image, but hardly across its class boundaries.

IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044. K classes of an image, h w = ceil(H / 4), ceil(W / 4) cells.

The walk is that of ``walk``. It is sparse, where the release squares dense matrices.

Departures from the release jiwoon-ahn/irn@a2ece00:
D1  scores at stride 4 are resampled from the stored full-size ones; the release resizes class maps to both sizes
D2  float64 in the walk; its distance from the release is that of float32 from exact arithmetic
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.transforms import normalise, to_tensor
from wsss.devices import for_inference
from wsss.pool import ahead
from wsss.refine import irn_net, scored_image, walk
from wsss.refine.paths import path_affinity
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import IrnWalk

Entry = tuple[str, np.ndarray]  # id, pseudo mask
EPS = 1e-5


def propagate(cam: Tensor, edge: Tensor, beta: float, log_steps: int, radius: int) -> Tensor:
    """Let scores walk for ``2^log_steps`` steps.

    Cells start with ``cam (1 - edge)``. A step is as likely as ``a_ij^beta``. The affinity ``a_ij`` is one minus the
    highest boundary probability on the straight path from i to j. A wall around the map makes every cell of it a
    source.

    Args:
        cam: class maps ``K×h×w``.
        edge: boundary probabilities ``h×w``.
        beta: the exponent of affinities.
        log_steps: the logarithm of the number of steps to the base 2.
        radius: the reach of a step, in cells.

    Returns:
        ``K×h×w``.
    """
    (h, w), margin = edge.shape, radius - 1
    frame = (margin, margin, 0, margin)  # left, right, top, bottom
    affinity = path_affinity(F.pad(edge.double()[None], frame, value=1.0), radius)  # 1 P h w
    start = F.pad(cam * (1 - edge), frame)[None]
    walked = walk.random_walk(start, affinity, radius, beta, log_steps)[0]
    return walked[:, :h, margin : margin + w]


def to_cells(scores: Tensor) -> Tensor:
    """Resample scores ``K×H×W`` at stride 4 and divide each class by its maximum (D1): ``K×h×w``."""
    size = [-(-length // irn_net.STRIDE) for length in scores.shape[1:]]
    planes = scores.clamp(min=0).unsqueeze(1)  # K 1 H W: interpolation takes no classes as a batch of none
    cells = F.interpolate(planes, size, mode="bilinear", align_corners=False).squeeze(1)
    return cells / (cells.amax((1, 2), keepdim=True) + EPS)


def upsample(walked: Tensor, height: int, width: int) -> Tensor:
    """Upsample ``K×h×w`` to ``K×H×W`` and divide by the maximum over all classes."""
    large = walk.upsample(walked, irn_net.STRIDE)[:, :height, :width]
    return large / large.max().clamp(min=EPS)


def label_map(scores: Tensor, background: float) -> Tensor:
    """Find the index of the highest of ``[background, *scores]`` at each pixel: ``K×H×W`` -> ``H×W``."""
    return torch.cat([torch.full_like(scores[:1], background), scores]).argmax(0)


def semantic_labels(
    cam: Tensor, edge: Tensor, classes: np.ndarray, size: tuple[int, int], settings: IrnWalk
) -> np.ndarray:
    """Compute the label map ``H×W`` uint8 of an image.

    Args:
        cam: class maps ``K×h×w``.
        edge: boundaries ``h×w``.
        classes: label values ``K``.
        size: height and width of the image.
        settings: the section ``irn_walk``.
    """
    if len(classes) == 0:
        return np.zeros(size, np.uint8)
    walked = propagate(cam, edge, settings["beta"], settings["log_steps"], settings["radius"])
    index = label_map(upsample(walked, *size), settings["background"])
    return np.concatenate([[0], classes]).astype(np.uint8)[index.cpu().numpy()]


class Relations(NamedTuple):
    """The results of the classifier and of IRNet for one image.

    Args:
        image_id: its id.
        classes: label values ``K``.
        cam: class maps ``K×h×w``.
        edge: boundary probabilities ``h×w``.
        dp: displacements ``2×h×w``.
        size: height and width of the image.
    """

    image_id: str
    classes: np.ndarray
    cam: Tensor
    edge: Tensor
    dp: Tensor
    size: tuple[int, int]


@torch.no_grad()
def relations(given: Given, score_power: float) -> Iterator[Relations]:
    """Yield the relations of the images, in order. Scores are raised to ``score_power`` (RIB: 1.3)."""
    section, images = given.settings["irn_train"], given.images
    where = for_inference(given.device)[0]
    assert given.model is not None
    net, scores = irn_net.load(section, given.model).to(where), Scores(given.scores)
    with ThreadPoolExecutor(1) as threads:
        loaded = ahead(threads, partial(scored_image, images, scores), images.ids)
        for image_id, (image, classes, full) in zip(images.ids, loaded, strict=True):
            x = to_tensor(normalise(image, net.backbone.input)).to(where)
            edge, dp = irn_net.boundary_and_displacement(net, x, section["train"]["crop"])
            cam = to_cells(torch.from_numpy(full).to(where)) ** score_power
            yield Relations(image_id, classes, cam, edge, dp, image.shape[:2])


def irn_walk(given: Given) -> Iterator[list[Entry]]:
    """Let the scores of each image walk.

    Yields:
        For each image one entry: its id and its pseudo mask ``H×W`` uint8.

    Raises:
        WsssError: scores are missing or do not fit the image (names the image), or the model does not fit.
    """
    settings = given.settings["irn_walk"]
    for image_id, classes, cam, edge, _, size in relations(given, settings["score_power"]):
        yield [(image_id, semantic_labels(cam, edge, classes, size, settings))]
