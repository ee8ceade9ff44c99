"""Label maps of images by a trained segmentation network: scales, mirroring, fusion, dense CRF.

K classes with background, H W image size, h w size of a network input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wsss.backbones.base import resize
from wsss.data.transforms import multi_scale
from wsss.devices import for_inference
from wsss.pool import ahead, mapped
from wsss.segment.crf import Refine
from wsss.segment.models import Segmenter
from wsss.segment.task import elementwise_max, load_task, scaled

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import DenseCrf, Loss, Predict

Entry = tuple[str, np.ndarray]  # id, label map


def pass_logits(net: Segmenter, x: Tensor, size: tuple[int, int], settings: Predict, loss: Loss) -> Tensor:
    """Compute the logits of one pass at the size of the image.

    With ``multi_scale`` they are the pixel-wise maximum over the pass and its copies at ``loss["scales"]``: of the
    image's size (as AEFT releases it), or of the pass's own. The maximum is taken where the loss takes it
    (``loss["at"]``): at the image's size, or at that of the first logits, which are then upsampled (DeepLab-v2).

    Args:
        net: the network.
        x: the input of the pass, ``B×3×h×w``.
        size: height and width of the image.
        settings: the section ``predict``.
        loss: the section ``deeplab.loss``.

    Returns:
        Logits ``B×K×H×W``.
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
def probabilities(net: Segmenter, inputs: list[Tensor], size: tuple[int, int], settings: Predict, loss: Loss) -> Tensor:
    """Compute the class probabilities of an image from its passes.

    ``settings["fusion"]`` is the mean of probabilities, the probabilities of mean logits, or the maximum of
    probabilities, which does not sum to 1.

    Args:
        net: the network.
        inputs: the inputs of the passes, ``1|2×3×h×w``. The second image of a pass is the mirror image of the first.
        size: height and width of the image.
        settings: the section ``predict``.
        loss: the section ``deeplab.loss``.

    Returns:
        Probabilities ``K×H×W``.
    """
    fusion, device = settings["fusion"], next(net.parameters()).device

    def fused(x: Tensor) -> Tensor:
        logits = pass_logits(net, x.to(device, non_blocking=True), size, settings, loss)
        logits = torch.cat([logits[:1], logits[1:].flip(3)])  # 1|2 K H W
        each = logits if fusion == "logits" else logits.softmax(1)
        return each.amax(0) if fusion == "max" else each.sum(0)

    total = reduce(torch.maximum if fusion == "max" else torch.add, map(fused, inputs))  # K H W
    if fusion == "max":
        return total
    mean = total / sum(len(x) for x in inputs)
    return mean.softmax(0) if fusion == "logits" else mean


def predict(given: Given) -> Iterator[list[Entry]]:
    """Segment each image.

    Yields:
        For each image one entry: its id and its label map ``H×W`` uint8. The maps do not depend on the number of CRF
        processes.

    Raises:
        WsssError: the model does not fit the settings.
    """
    images, settings, network = given.images, given.settings["predict"], given.settings["deeplab"]
    where, autocast = for_inference(given.device, settings["precision"])
    assert given.model is not None
    net = load_task(network, len(images.classes), given.model).net.to(where)

    def load(image_id: str) -> tuple[np.ndarray, list[Tensor]]:
        image = images.image(image_id)
        return image, multi_scale(image, settings["scales"], settings["flip"], net.input, settings["antialias"])

    def predicted() -> Iterator[tuple[np.ndarray, Tensor]]:
        for image, inputs in ahead(threads, load, images.ids):
            yield image, probabilities(net, inputs, image.shape[:2], settings, network["loss"])

    with autocast, ThreadPoolExecutor(1) as threads:
        labels = _label_maps(predicted(), settings["crf"], given.workers)
        for image_id, label in zip(images.ids, labels, strict=True):
            yield [(image_id, label)]


def _label_maps(predicted: Iterable[tuple[np.ndarray, Tensor]], crf: DenseCrf, workers: int) -> Iterator[np.ndarray]:
    """Yield the label map of each image and its probabilities, in order. The CRF runs beside the network."""
    if not crf["iterations"]:
        yield from (scores.argmax(0).byte().cpu().numpy() for _, scores in predicted)
        return
    yield from mapped(Refine(crf), ((image, scores.cpu().numpy()) for image, scores in predicted), workers)
