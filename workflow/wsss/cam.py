"""Stage ``cam``: class scores of images from a trained method, over scales and mirror images.

B images of one size, V views of an input (2 with its mirror image, else 1), K present classes, C foreground classes,
H W image size, h w size of a method's class maps, h' w' size of a network input.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss import batches, devices
from wsss.backbones import without_weights
from wsss.backbones.base import resize
from wsss.backbones.models import load_model
from wsss.data.transforms import multi_scale
from wsss.errors import choose
from wsss.feed import fed
from wsss.methods import Method, build
from wsss.methods.base import EPS, max_norm

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import Cam, Settings

Entry = tuple[str, np.ndarray, np.ndarray]  # id, label values of classes, planes
AHEAD = 2  # threads that make inputs while the network runs


def _extremes(v: Tensor) -> tuple[Tensor, Tensor]:
    return v.amin((1, 2), keepdim=True), v.amax((1, 2), keepdim=True)


def by_max(v: Tensor) -> Tensor:
    """Compute v / (max + e). Source: PSA, IRN, OC-CSE, AEFT."""
    return v / (_extremes(v)[1] + EPS)


def by_minmax(v: Tensor) -> Tensor:
    """Compute ReLU(v - min - e) / (max - min + e). Source: ACR."""
    return max_norm(v[None])[0]


def by_floor(v: Tensor) -> Tensor:
    """Compute the same as ``by_minmax``, but values below min + e become -(min + e) / (max - min + e), not 0.

    Source: SEAM, which sets them to 0 before it subtracts min + e. So a map may be slightly negative, and the
    background score (1 - max)^alpha slightly above 1.
    """
    low, high = _extremes(v)
    return (v.masked_fill(v < low + EPS, 0) - low - EPS) / (high - low + EPS)


def by_range(v: Tensor) -> Tensor:
    """Compute (v - min) / (max - min). A constant map becomes 0. Source: EADER."""
    low, high = _extremes(v)
    return (v - low) / torch.where(high > low, high - low, 1.0)


NORMALISE = {"max": by_max, "minmax": by_minmax, "floor": by_floor, "range": by_range}


@torch.no_grad()
def summed_each(
    method: Method, inputs: list[Tensor], labels: np.ndarray, size: tuple[int, int], relu: str
) -> list[Tensor]:
    """Sum the class maps of each image over its inputs.

    Mirroring commutes with resizing. So unless a ReLU comes in between, the maps of an input and of its mirror image
    are added before they are resized.

    Args:
        method: the trained method.
        inputs: the network input at each scale, ``BV×3×h'×w'``: each image is followed by its mirror image.
        labels: image-level labels ``B×C`` of 0 and 1.
        size: height and width of the sums.
        relu: the place of the ReLU: ``before`` resizing, ``after`` it, on the ``sum``, or ``none``.

    Returns:
        For each image the sums ``K×H×W`` of its classes.
    """
    device = next(method.parameters()).device
    given = torch.as_tensor(labels, dtype=torch.float32, device=device)  # B C
    present = [torch.as_tensor(np.flatnonzero(label), device=device) for label in labels]  # K each
    totals = [torch.zeros(len(classes), *size, device=device) for classes in present]
    for x in inputs if labels.any() else ():
        x = x.to(device, non_blocking=True)  # BV 3 h' w'
        views = len(x) // len(labels)
        maps = method.localize(x, given.repeat_interleave(views, 0))  # BV C h w
        for total, classes, of_image in zip(totals, present, maps.split(views), strict=True):
            if len(classes):
                total += _fused(of_image[:, classes].float(), size, relu)
    return [F.relu(total) for total in totals] if relu == "sum" else totals


def _fused(maps: Tensor, size: tuple[int, int], relu: str) -> Tensor:
    """Add the maps ``V×K×h×w`` of an image and of its mirror image: ``K×H×W``."""
    maps = F.relu(maps) if relu == "before" else maps
    maps = torch.cat([maps[:1], maps[1:].flip(3)])
    maps = maps if relu == "after" else maps.sum(0, keepdim=True)  # V or 1
    maps = resize(maps, size)
    return (F.relu(maps) if relu == "after" else maps).sum(0)


def summed(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], relu: str) -> Tensor:
    """Sum the class maps of one image over its inputs; see :func:`summed_each`."""
    return summed_each(method, inputs, label[None], size, relu)[0]


def scores_of_each(
    method: Method, inputs: list[Tensor], labels: np.ndarray, size: tuple[int, int], settings: Cam
) -> list[Tensor]:
    """Normalise the sums of :func:`summed_each` per class: for each image ``K×H×W`` at ``size``.

    With ``round_up`` in the section ``cam``, the sums are computed at the next multiples of it and cut to ``size``.

    Raises:
        WsssError: the normalisation is unknown.
    """
    normalised = choose(NORMALISE, settings["normalise"], "cam.normalise")
    height, width = size
    unit = settings["round_up"] or 1
    larger = (-(-height // unit) * unit, -(-width // unit) * unit)
    totals = summed_each(method, inputs, labels, larger, settings["relu"])
    return [normalised(total[:, :height, :width]) for total in totals]


def scores_of(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], settings: Cam) -> Tensor:
    """Compute the scores of one image; see :func:`scores_of_each`."""
    return scores_of_each(method, inputs, label[None], size, settings)[0]


def multi_scale_cam(method: Method, image: np.ndarray, label: np.ndarray, settings: Cam) -> Tensor:
    """Compute the scores of one image.

    The class maps of mirror images are mirrored back. The maps of all scales are then resized to ``H×W`` (bilinear,
    half-pixel centres), summed and normalised per class.

    Args:
        method: the trained method.
        image: ``H×W×3`` uint8 RGB.
        label: image-level labels ``C`` of 0 and 1.
        settings: the section ``cam``.

    Returns:
        Scores ``K×H×W`` of the classes present in ``label``.
    """
    inputs = multi_scale(image, settings["scales"], settings["flip"], method.backbone.input)
    height, width = image.shape[:2]
    return scores_of(method, inputs, label, (height, width), settings)


def load_method(config: Settings, n_classes: int, path: str | Path) -> Method:
    """Load a trained method in evaluation mode.

    Args:
        config: sections ``backbone``, ``method``, ``train`` and ``cam``.
        n_classes: number of foreground classes.
        path: the ``model.pt`` of its training.

    Raises:
        WsssError: the file cannot be read, or was trained with another method, backbone or number of classes.
    """
    expected = f"method {config['method']['name']}, backbone {config['backbone']['name']}, {n_classes} classes"
    method = build(without_weights(config), n_classes)  # the model holds all weights
    load_model(method, path, expected)
    return method


def localized(
    method: Method, images: Dataset, settings: Cam, batch: int | None = None, loaders: int = 0
) -> Iterator[Entry]:
    """Compute the scores of each image's classes, on the device of the method.

    Args:
        method: the method, in evaluation mode.
        images: the images.
        settings: the section ``cam``.
        batch: images of one size that are computed at once; None for what suits the device. More than one may change
            the last bits.
        loaders: processes that read the images; see :func:`wsss.feed.fed`.

    Yields:
        For each image its id, the label values c + 1 of its ``K`` classes, ascending, and their scores ``K×H×W``.
    """
    labels, where = images.labels(), next(method.parameters()).device
    together = batches.of_one_size(images.sizes, devices.at_once(batch, where))

    def load(chosen: list[int]) -> tuple[list[Tensor], tuple[int, int]]:
        pixels = images.of_one_size(chosen)
        each = [multi_scale(image, settings["scales"], settings["flip"], method.backbone.input) for image in pixels]
        height, width = pixels[0].shape[:2]
        return [torch.cat(of_scale) for of_scale in zip(*each, strict=True)], (height, width)

    def computed() -> Iterator[list[np.ndarray]]:
        loaded = fed(load, together, loaders, AHEAD, pin=where.type == "cuda")
        for chosen, (inputs, size) in zip(together, loaded, strict=True):
            scores = scores_of_each(method, inputs, labels[chosen], size, settings)
            yield [of_image.cpu().numpy() for of_image in scores]

    with devices.autocast_on(where, settings["precision"]):
        each = batches.reordered(together, computed())
        for image_id, label, scores in zip(images.ids, labels, each, strict=True):
            yield image_id, np.flatnonzero(label) + 1, scores


def cam(given: Given) -> Iterator[list[Entry]]:
    """Compute the scores of each image's classes: for each image one entry of :func:`localized`.

    Raises:
        WsssError: the model does not fit the settings.
    """
    settings, images = given.settings["cam"], given.images
    assert given.model is not None
    method = load_method(given.settings, len(images.classes), given.model)
    method = devices.placed(method, devices.on(given.device))
    for entry in localized(method, images, settings, given.batch, given.loaders):
        yield [entry]
