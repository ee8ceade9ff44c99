"""CAM scores of images: inference over scales and mirror images, once for all methods.

K present classes, C foreground classes, H W image size, h w size of a method's class maps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.backbones import without_weights
from wsss.backbones.base import resize
from wsss.backbones.models import load_model
from wsss.data.transforms import multi_scale
from wsss.devices import for_inference
from wsss.errors import WsssError, choose
from wsss.methods import Method, build
from wsss.methods.base import EPS, max_norm
from wsss.pool import ahead
from wsss.progress import bar
from wsss.stores import write_scores

RELU = ("before", "after", "sum", "none")


def _extremes(v: Tensor) -> tuple[Tensor, Tensor]:
    return v.amin((1, 2), keepdim=True), v.amax((1, 2), keepdim=True)


def by_max(v: Tensor) -> Tensor:
    """v / (max + e). PSA, IRN, OC-CSE, AEFT."""
    return v / (_extremes(v)[1] + EPS)


def by_minmax(v: Tensor) -> Tensor:
    """ReLU(v - min - e) / (max - min + e). ACR."""
    return max_norm(v[None])[0]


def by_floor(v: Tensor) -> Tensor:
    """As ``by_minmax``, but values below min + e become -(min + e) / (max - min + e), not 0. SEAM.

    SEAM sets them to 0 before it subtracts min + e; the exponent of the background score sees the difference.
    """
    low, high = _extremes(v)
    return (v.masked_fill(v < low + EPS, 0) - low - EPS) / (high - low + EPS)


def by_range(v: Tensor) -> Tensor:
    """(v - min) / (max - min); a constant map becomes 0. EADER."""
    low, high = _extremes(v)
    return (v - low) / torch.where(high > low, high - low, 1.0)


NORMALISE = {"max": by_max, "minmax": by_minmax, "floor": by_floor, "range": by_range}


@torch.no_grad()
def summed(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], relu: str) -> Tensor:
    """Class maps ``K×H×W`` of the classes present in ``label`` (``C``), summed over inputs ``1|2×3×h×w``.

    The second image of an input is the mirror image of the first. Mirroring commutes with resizing, so unless a ReLU
    comes in between, both maps are added before they are resized.
    """
    if relu not in RELU:
        raise WsssError(f"localize.relu: unknown '{relu}': choose one of {', '.join(RELU)}")
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


def scores_of(method: Method, inputs: list[Tensor], label: np.ndarray, size: tuple[int, int], settings: dict) -> Tensor:
    """The sum of :func:`summed`, at ``size`` or cut from the next multiples of ``round_up``, normalised per class."""
    normalised = choose(NORMALISE, settings["normalise"], "localize.normalise")
    height, width = size
    unit = settings["round_up"] or 1
    larger = (-(-height // unit) * unit, -(-width // unit) * unit)
    return normalised(summed(method, inputs, label, larger, settings["relu"])[:, :height, :width])


def multi_scale_cam(method: Method, image: np.ndarray, label: np.ndarray, settings: dict) -> Tensor:
    """Scores ``K×H×W`` of the ``K`` classes present in ``label`` (``C``, 0 or 1) for an ``H×W×3`` uint8 RGB image.

    ``settings`` is the section ``localize``. The class maps of each scale and its mirror image are mirrored back,
    resized to H×W (bilinear, half-pixel centres), summed and normalised per class.
    """
    inputs = multi_scale(image, settings["scales"], settings["flip"], method.backbone.input)
    return scores_of(method, inputs, label, image.shape[:2], settings)


def load_method(config: dict, n_classes: int, path: str | Path) -> Method:
    """The trained method in evaluation mode; ``path`` is the ``model.pt`` of a training.

    Raises WsssError when the file cannot be read, or was trained with another method, backbone or number of classes.
    """
    expected = f"method {config['method']['name']}, backbone {config['backbone']['name']}, {n_classes} classes"
    return load_model(build(without_weights(config), n_classes), path, expected)  # the model holds all weights


def localize(
    config: dict, dataset, model: str | Path, shard: tuple[int, int], out: str | Path, device: str = "auto"
) -> None:
    """Write the scores of the ``i``-th of ``n`` interleaved parts of ``dataset``'s images to the shard file ``out``.

    The planes of an image are its classes ascending, under label values c + 1. Equal for any number of shards.
    """
    settings, (i, n) = config["localize"], shard
    where, autocast = for_inference(device, settings["precision"])
    method = load_method(config, len(dataset.classes), model).to(where)
    labels = dict(zip(dataset.ids, dataset.labels(), strict=True))
    ids = dataset.ids[i::n]

    def load(image_id: str) -> tuple[list[Tensor], tuple[int, int]]:
        image = dataset.image(image_id)
        return multi_scale(image, settings["scales"], settings["flip"], method.backbone.input), image.shape[:2]

    with write_scores(out) as store, autocast, ThreadPoolExecutor(2) as threads:
        loaded = ahead(threads, load, ids)
        for image_id, (inputs, size) in bar(zip(ids, loaded, strict=True), out=out, unit="image", total=len(ids)):
            scores = scores_of(method, inputs, labels[image_id], size, settings)
            store.put(image_id, np.flatnonzero(labels[image_id]) + 1, scores.cpu().numpy())
