"""Label maps of images by a trained segmentation network: scales, mirroring, fusion, dense CRF.

K classes with background, H W image size, h w size of a network input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsss.backbones.base import resize
from wsss.data.transforms import multi_scale
from wsss.devices import for_inference
from wsss.errors import WsssError
from wsss.pool import ahead, mapped
from wsss.progress import bar
from wsss.segment.crf import Refine
from wsss.segment.models import Segmenter
from wsss.segment.presets import resolve
from wsss.segment.stage import load_task
from wsss.segment.task import elementwise_max, scaled
from wsss.stores import write_masks

FUSION = ("softmax", "logits", "max")
MULTI_SCALE = (False, "image", "pass")


def pass_logits(net: Segmenter, x: Tensor, size: tuple[int, int], settings: dict, loss: dict) -> Tensor:
    """Logits ``B×K×H×W`` of one pass ``B×3×h×w`` at the image's ``size``.

    With ``multi_scale`` they are the pixel-wise maximum over ``x`` and its resized copies at ``loss["scales"]`` of the
    image's size (as AEFT releases it) or of the pass's own. It is taken where the loss takes it (``loss["at"]``): at
    the image's size, or at that of the first logits, which are then upsampled (DeepLab-v2).
    """
    inputs = [x]
    if settings["multi_scale"]:
        base = size if settings["multi_scale"] == "image" else x.shape[2:]
        inputs += [resize(x, scaled(base, s), loss["align_corners"]) for s in loss["scales"]]
    outputs = [net(x).float() for x in inputs]
    at = size if loss["at"] == "image" else outputs[0].shape[2:]
    highest = elementwise_max([resize(logits, at, net.align_corners) for logits in outputs])
    return resize(highest, size, net.align_corners)


@torch.no_grad()
def probabilities(net: Segmenter, inputs: list[Tensor], size: tuple[int, int], settings: dict, loss: dict) -> Tensor:
    """Class probabilities ``K×H×W`` from the passes of an image, ``1|2×3×h×w``: the second is mirrored.

    ``fusion``: the mean of probabilities, the probabilities of mean logits, or the maximum of probabilities, which does
    not sum to 1.
    """
    fusion, device, total = settings["fusion"], next(net.parameters()).device, None
    for x in inputs:
        logits = pass_logits(net, x.to(device, non_blocking=True), size, settings, loss)
        logits = torch.cat([logits[:1], logits[1:].flip(3)])  # 1|2 K H W
        each = logits if fusion == "logits" else logits.softmax(1)
        fused = each.amax(0) if fusion == "max" else each.sum(0)
        total = fused if total is None else total.maximum(fused) if fusion == "max" else total + fused
    if fusion == "max":
        return total
    mean = total / sum(len(x) for x in inputs)
    return mean.softmax(0) if fusion == "logits" else mean


def predict_stage(
    config: dict,
    dataset,
    model_path: str | Path,
    out: str | Path,
    shard: tuple[int, int] = (0, 1),
    device: str = "auto",
    workers: int = 1,
) -> None:
    """Segment the ``i``-th of ``n`` interleaved parts of ``dataset``'s images into the mask shard ``out``.

    The result depends neither on the number of shards nor on that of CRF processes (``workers``).
    """
    config, (i, n) = resolve(config), shard
    settings, ids = check(config["predict"]), dataset.ids[i::n]
    where, autocast = for_inference(device, settings["precision"])
    net = load_task(config["segment"], len(dataset.classes), model_path).net.to(where)

    def load(image_id: str) -> tuple[np.ndarray, list[Tensor]]:
        image = dataset.image(image_id)
        return image, multi_scale(image, settings["scales"], settings["flip"], net.input)

    with write_masks(out) as store, autocast, ThreadPoolExecutor(1) as threads:
        loaded = ahead(threads, load, ids)
        predicted = (
            (image, probabilities(net, inputs, image.shape[:2], settings, config["segment"]["loss"]))
            for image, inputs in loaded
        )
        labels = _label_maps(predicted, settings["crf"], workers)
        for image_id, label in bar(zip(ids, labels, strict=True), out=out, unit="image", total=len(ids)):
            store.put(image_id, label)


def check(settings: dict) -> dict:
    """The section ``predict``, if its choices are known ones."""
    for key, known in (("fusion", FUSION), ("multi_scale", MULTI_SCALE)):
        if settings[key] not in known:
            choice = ", ".join(str(value).lower() for value in known)
            raise WsssError(f"predict.{key}: unknown '{settings[key]}': choose one of {choice}")
    return settings


def _label_maps(predicted: Iterable[tuple[np.ndarray, Tensor]], crf: dict, workers: int) -> Iterator[np.ndarray]:
    """Label maps of images and their probabilities, in order; the CRF runs beside the network."""
    if not crf["iterations"]:
        yield from (scores.argmax(0).byte().cpu().numpy() for _, scores in predicted)
        return
    yield from mapped(Refine(crf), ((image, scores.cpu().numpy()) for image, scores in predicted), workers)
