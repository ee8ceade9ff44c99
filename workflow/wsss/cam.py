"""Stage ``cam``: class scores of images from a trained method, over scales and mirror images.

K present classes, C foreground classes, H W image size, h w size of a method's class maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.backbones import without_weights
from wsss.backbones.base import resize
from wsss.backbones.models import load_model
from wsss.data.transforms import multi_scale
from wsss.devices import autocast_on, on
from wsss.errors import choose
from wsss.methods import Method, build
from wsss.methods.base import EPS, max_norm
from wsss.pool import ahead

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import Cam, Settings

Entry = tuple[str, np.ndarray, np.ndarray]  # id, label values of classes, planes


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

    Source: SEAM, which sets them to 0 before it subtracts min + e. The exponent of the background score depends on it.
    """
    low, high = _extremes(v)
    return (v.masked_fill(v < low + EPS, 0) - low - EPS) / (high - low + EPS)


def by_range(v: Tensor) -> Tensor:
    """Compute (v - min) / (max - min). A constant map becomes 0. Source: EADER."""
    low, high = _extremes(v)
    return (v - low) / torch.where(high > low, high - low, 1.0)


NORMALISE = {"max": by_max, "minmax": by_minmax, "floor": by_floor, "range": by_range}


@torch.no_grad()
def summed(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], relu: str) -> Tensor:
    """Sum the class maps of an image over its inputs.

    Mirroring commutes with resizing. So unless a ReLU comes in between, the maps of an input and of its mirror image
    are added before they are resized.

    Args:
        method: the trained method.
        inputs: network inputs ``1|2×3×h×w``. The second image of an input is the mirror image of the first.
        label: image-level labels ``C`` of 0 and 1.
        size: height and width of the sum.
        relu: the place of the ReLU: ``before`` resizing, ``after`` it, on the ``sum``, or ``none``.

    Returns:
        Sums ``K×H×W`` of the classes present in ``label``.
    """
    device = next(method.parameters()).device
    labels = torch.as_tensor(label, dtype=torch.float32, device=device)[None]  # 1 C
    present = labels[0].nonzero().flatten()  # K
    total = torch.zeros(len(present), *size, device=device)
    for x in inputs if len(present) else ():
        x = x.to(device, non_blocking=True)  # 1|2 3 h w
        maps = method.localize(x, labels.expand(len(x), -1))[:, present].float()  # 1|2 K h w
        maps = F.relu(maps) if relu == "before" else maps
        maps = torch.cat([maps[:1], maps[1:].flip(3)])
        maps = maps if relu == "after" else maps.sum(0, keepdim=True)  # 1|2 K h w
        maps = resize(maps, size)  # 1|2 K H W
        total += (F.relu(maps) if relu == "after" else maps).sum(0)
    return F.relu(total) if relu == "sum" else total


def scores_of(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], settings: Cam) -> Tensor:
    """Normalise the sums of :func:`summed` per class: ``K×H×W`` at ``size``.

    With ``round_up`` in the section ``cam``, the sums are computed at the next multiples of it and cut to ``size``.

    Raises:
        WsssError: the normalisation is unknown.
    """
    normalised = choose(NORMALISE, settings["normalise"], "cam.normalise")
    height, width = size
    unit = settings["round_up"] or 1
    larger = (-(-height // unit) * unit, -(-width // unit) * unit)
    return normalised(summed(method, inputs, label, larger, settings["relu"])[:, :height, :width])


def multi_scale_cam(method: Method, image: np.ndarray, label: np.ndarray, settings: Cam) -> Tensor:
    """Compute the scores of one image.

    The class maps of each scale and its mirror image are mirrored back, resized to ``H×W`` (bilinear, half-pixel
    centres), summed and normalised per class.

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
        config: sections ``backbone``, ``method`` and ``cam``.
        n_classes: number of foreground classes.
        path: the ``model.pt`` of its training.

    Raises:
        WsssError: the file cannot be read, or was trained with another method, backbone or number of classes.
    """
    expected = f"method {config['method']['name']}, backbone {config['backbone']['name']}, {n_classes} classes"
    method = build(without_weights(config), n_classes)  # the model holds all weights
    load_model(method, path, expected)
    return method


def localized(method: Method, images: Dataset, settings: Cam) -> Iterator[Entry]:
    """Compute the scores of each image's classes, on the device of the method.

    Args:
        method: the method, in evaluation mode.
        images: the images.
        settings: the section ``cam``.

    Yields:
        For each image its id, the label values c + 1 of its ``K`` classes, ascending, and their scores ``K×H×W``.
    """
    labels = dict(zip(images.ids, images.labels(), strict=True))
    autocast = autocast_on(next(method.parameters()).device, settings["precision"])

    def load(image_id: str) -> tuple[list[Tensor], tuple[int, int]]:
        image = images.image(image_id)
        height, width = image.shape[:2]
        return multi_scale(image, settings["scales"], settings["flip"], method.backbone.input), (height, width)

    with autocast, ThreadPoolExecutor(2) as threads:
        for image_id, (inputs, size) in zip(images.ids, ahead(threads, load, images.ids), strict=True):
            scores = scores_of(method, inputs, labels[image_id], size, settings)
            yield image_id, np.flatnonzero(labels[image_id]) + 1, scores.cpu().numpy()


def cam(given: Given) -> Iterator[list[Entry]]:
    """Compute the scores of each image's classes: for each image one entry of :func:`localized`.

    Raises:
        WsssError: the model does not fit the settings.
    """
    settings, images = given.settings["cam"], given.images
    assert given.model is not None
    method = load_method(given.settings, len(images.classes), given.model).to(on(given.device))
    for entry in localized(method, images, settings):
        yield [entry]
