"""Label maps of images by a trained segmentation network: scales, mirroring, fusion, dense CRF.

B images of one size, V views of an input (2 with its mirror image, else 1), K classes with background, H W image size,
h w size of a network input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wsss import batches, devices
from wsss.backbones.base import resize
from wsss.data.transforms import multi_scale
from wsss.feed import fed
from wsss.pool import mapped
from wsss.segment.crf import Refine
from wsss.segment.models import Segmenter
from wsss.segment.task import elementwise_max, load_task, scaled

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.settings.sections import DenseCrf, Loss, Predict

Entry = tuple[str, np.ndarray]  # id, label map


def pass_logits(net: Segmenter, x: Tensor, size: tuple[int, int], settings: Predict, loss: Loss) -> Tensor:
    """Compute the logits of one pass at the size of the image.

    With ``multi_scale`` they are the pixel-wise maximum over the pass and its copies at ``loss["scales"]``. These are
    factors of the image's size (as AEFT releases it), or of the pass's own. The maximum is taken where the loss takes
    it (``loss["at"]``): at the image's size, or at that of the first logits, which are then upsampled (DeepLab-v2).

    Args:
        net: the network.
        x: the input of the pass, ``BV×3×h×w`` with V views of each image.
        size: height and width of the image.
        settings: the section ``predict``.
        loss: the section ``deeplab.loss``.

    Returns:
        Logits ``BV×K×H×W``.

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
def probabilities(
    net: Segmenter, inputs: list[Tensor], size: tuple[int, int], settings: Predict, loss: Loss, images: int = 1
) -> Tensor:
    """Compute the class probabilities of images from their passes.

    ``settings["fusion"]`` is the mean of probabilities, the probabilities of mean logits, or the maximum of
    probabilities, which does not sum to 1.

    Args:
        net: the network.
        inputs: the inputs of the passes, ``BV×3×h×w``: each image is followed by its mirror image.
        size: height and width of the images.
        settings: the section ``predict``.
        loss: the section ``deeplab.loss``.
        images: B.

    Returns:
        Probabilities ``B×K×H×W``.
    """
    fusion, device = settings["fusion"], next(net.parameters()).device

    def fused(x: Tensor) -> Tensor:
        logits = pass_logits(net, x.to(device, non_blocking=True), size, settings, loss)
        return torch.stack([of_views(each) for each in logits.split(len(x) // images)])

    def of_views(logits: Tensor) -> Tensor:
        logits = torch.cat([logits[:1], logits[1:].flip(3)])  # V K H W
        each = logits if fusion == "logits" else logits.softmax(1)
        return each.amax(0) if fusion == "max" else each.sum(0)

    total = reduce(torch.maximum if fusion == "max" else torch.add, map(fused, inputs))  # B K H W
    if fusion == "max":
        return total
    mean = total / sum(len(x) // images for x in inputs)
    return mean.softmax(1) if fusion == "logits" else mean


def predict(given: Given) -> Iterator[list[Entry]]:
    """Segment each image.

    Yields:
        For each image one entry: its id and its label map ``H×W`` uint8. The maps do not depend on the number of CRF
        processes. Images of one size are computed together, ``given.batch`` of them.

    Raises:
        WsssError: the model does not fit the settings.
    """
    images, settings, network = given.images, given.settings["predict"], given.settings["deeplab"]
    where, autocast = devices.for_inference(given.device, settings["precision"])
    assert given.model is not None
    net = devices.placed(load_task(network, len(images.classes), given.model).net, where)
    together = batches.of_one_size(images.sizes, devices.at_once(given.batch, where))

    def load(chosen: list[int]) -> tuple[list[np.ndarray], list[Tensor]]:
        pixels, how = images.of_one_size(chosen), (net.input, settings["antialias"])
        each = [multi_scale(image, settings["scales"], settings["flip"], *how) for image in pixels]
        return pixels, [torch.cat(of_scale) for of_scale in zip(*each, strict=True)]

    def computed() -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        for pixels, inputs in fed(load, together, given.loaders, pin=where.type == "cuda"):
            found = probabilities(net, inputs, pixels[0].shape[:2], settings, network["loss"], len(pixels))
            yield list(zip(pixels, found, strict=True))

    with autocast:
        predicted = batches.reordered(together, computed())
        labels = _label_maps(predicted, settings["crf"], given.workers)
        for image_id, label in zip(images.ids, labels, strict=True):
            yield [(image_id, label)]


def _label_maps(predicted: Iterable[tuple[np.ndarray, Tensor]], crf: DenseCrf, workers: int) -> Iterator[np.ndarray]:
    """Yield the label map for each pair of an image and its probabilities. The CRF runs while the network does."""
    if not crf["iterations"]:
        yield from (scores.argmax(0).byte().cpu().numpy() for _, scores in predicted)
        return
    yield from mapped(Refine(crf), ((image, scores.cpu().numpy()) for image, scores in predicted), workers)
