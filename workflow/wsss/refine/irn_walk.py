"""Stage ``irn_walk``: scores walk at random over the cells of an image, but hardly across its class boundaries.

IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044.

B images with the same h w, K classes of an image, h w = ceil(H / 4), ceil(W / 4) cells.

The walk is that of ``walk``. It is sparse, where the release squares dense matrices.

Departures from the release jiwoon-ahn/irn@a2ece00:
D1  scores at stride 4 are resampled from the stored full-size ones; the release resizes class maps to both sizes
D2  the walk is in float64; it differs from the release by the rounding of float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss import batches, devices
from wsss.data.transforms import normalise, to_tensor
from wsss.feed import fed
from wsss.refine import irn_net, scored_image, walk
from wsss.refine.paths import path_affinity
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import IrnInstances, IrnWalk

Entry = tuple[str, np.ndarray]  # id, pseudo mask
Result = TypeVar("Result")
EPS = 1e-5


def propagate(cam: Tensor, edge: Tensor, beta: float, log_steps: int, radius: int) -> Tensor:
    """Let scores walk for ``2^log_steps`` steps.

    Cells start with ``cam (1 - edge)``. The probability of a step from i to j is proportional to ``a_ij^beta``. The
    affinity ``a_ij`` is one minus the highest boundary probability on the straight path from i to j. The map is padded
    with boundaries, so that each of its cells is a source.

    Args:
        cam: class maps ``B×K×h×w``.
        edge: boundary probabilities ``B×h×w``.
        beta: the exponent of affinities.
        log_steps: the base-2 logarithm of the number of steps.
        radius: the reach of a step, in cells.

    Returns:
        ``B×K×h×w``.
    """
    (h, w), margin = edge.shape[1:], radius - 1
    frame = (margin, margin, 0, margin)  # left, right, top, bottom
    affinity = path_affinity(F.pad(edge.double(), frame, value=1.0), radius)  # B P h w
    start = F.pad(cam * (1 - edge).unsqueeze(1), frame)
    walked = walk.random_walk(start, affinity, radius, beta, log_steps)
    return walked[..., :h, margin : margin + w]


def propagate_each(seeds: Sequence[Tensor], edges: Sequence[Tensor], settings: IrnWalk | IrnInstances) -> list[Tensor]:
    """Let the seeds ``K×h×w`` of images of one size walk together; each image has a number K of its own."""
    most = max(map(len, seeds))
    if most == 0:
        return list(seeds)
    cam = torch.stack([F.pad(planes, (0, 0, 0, 0, 0, most - len(planes))) for planes in seeds])
    walked = propagate(cam, torch.stack(list(edges)), settings["beta"], settings["log_steps"], settings["radius"])
    return [found[: len(planes)] for found, planes in zip(walked, seeds, strict=True)]


def to_cells(scores: Tensor) -> Tensor:
    """Resample scores ``K×H×W`` at stride 4 and divide each class by its maximum (D1): ``K×h×w``."""
    size = [-(-length // irn_net.STRIDE) for length in scores.shape[1:]]
    planes = scores.clamp(min=0).unsqueeze(1)  # K 1 H W: interpolation takes an empty batch, but not 0 channels
    cells = F.interpolate(planes, size, mode="bilinear", align_corners=False).squeeze(1)
    return cells / (cells.amax((1, 2), keepdim=True) + EPS)


def upsample(walked: Tensor, height: int, width: int) -> Tensor:
    """Upsample ``K×h×w`` to ``K×H×W`` and divide by the maximum over all classes."""
    large = walk.upsample(walked, irn_net.STRIDE)[:, :height, :width]
    return large / large.max().clamp(min=EPS)


def label_map(scores: Tensor, background: float) -> Tensor:
    """Find the index of the highest of ``[background, *scores]`` at each pixel: ``K×H×W`` -> ``H×W``."""
    return torch.cat([torch.full_like(scores[:1], background), scores]).argmax(0)


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


def semantic_labels(images: Sequence[Relations], settings: IrnWalk) -> list[np.ndarray]:
    """Compute the label maps ``H×W`` uint8 of images with the same number of cells.

    Args:
        images: what is known of them.
        settings: the section ``irn_walk``.
    """
    walked = propagate_each([image.cam for image in images], [image.edge for image in images], settings)
    return [_labels(cells, image, settings) for cells, image in zip(walked, images, strict=True)]


def _labels(walked: Tensor, image: Relations, settings: IrnWalk) -> np.ndarray:
    """Compute the label map of an image from its classes' scores ``K×h×w`` after the walk."""
    if len(image.classes) == 0:
        return np.zeros(image.size, np.uint8)
    index = label_map(upsample(walked, *image.size), settings["background"])
    return np.concatenate([[0], image.classes]).astype(np.uint8)[index.cpu().numpy()]


Loaded = list[tuple[Tensor, np.ndarray, np.ndarray, tuple[int, int]]]  # input, label values, scores, size


def from_relations(
    given: Given, score_power: float, job: Callable[[list[Relations]], list[Result]]
) -> Iterator[tuple[str, Result]]:
    """Yield the id of each image, in order, and what a job finds from its relations.

    Args:
        given: what the stage works with. Images with the same number of cells are computed together, ``given.batch`` at
            a time.
        score_power: the power that scores are raised to (RIB: 1.3).
        job: from the relations of such images to a result of each.
    """
    section, images = given.settings["irn_train"], given.images
    where = devices.on(given.device)
    assert given.model is not None
    net = devices.placed(irn_net.load(section, given.model), where)
    scores = Scores(given.scores)
    cells = [irn_net.cells_of(size) for size in images.sizes]
    together = batches.of_one_size(cells, devices.at_once(given.batch, where))

    def load(chosen: list[int]) -> Loaded:
        found: Loaded = []
        for image, classes, full in (scored_image(images, scores, images.records[i].id) for i in chosen):
            found.append((to_tensor(normalise(image, net.backbone.input)), classes, full, image.shape[:2]))
        images.check_sizes(chosen, [np.empty(irn_net.cells_of(size)) for *_, size in found])
        return found

    def computed() -> Iterator[list[tuple[str, Result]]]:
        for chosen, loaded in zip(together, fed(load, together, given.loaders), strict=True):
            ids = [images.records[i].id for i in chosen]
            edge, dp = irn_net.boundary_and_displacement(
                net, [x.to(where) for x, *_ in loaded], section["train"]["crop"]
            )
            found = []
            for k, (_, classes, full, size) in enumerate(loaded):
                cam = to_cells(torch.from_numpy(full).to(where)) ** score_power
                found.append(Relations(ids[k], classes, cam, edge[k], dp[k], size))
            yield list(zip(ids, job(found), strict=True))

    return batches.reordered(together, computed())


def irn_walk(given: Given) -> Iterator[list[Entry]]:
    """Let the scores of each image walk.

    Yields:
        For each image one entry: its id and its pseudo mask ``H×W`` uint8.

    Raises:
        WsssError: scores are missing or do not fit the image (names the image), or the model does not fit.
    """
    settings = given.settings["irn_walk"]
    job = partial(semantic_labels, settings=settings)
    for entry in from_relations(given, settings["score_power"], job):
        yield [entry]
