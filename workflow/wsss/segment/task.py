"""The task of training a segmentation network: cross entropy on label maps, at one or several scales.

B batch, K classes with background, H W crop size, h w size of logits. Labels: 0 background, c + 1 class, 255 ignore.

How the released trainings (the defaults) depart from their papers:
D1  seam: the backbone's ``train()``, which freezes parts of it, never runs. So none is frozen, and its batch
    norms use the statistics of batches and follow them
D7  seam: the release trains on two GPUs with 5 images each, which have batch statistics of their own. So here a step
    has two micro-batches (``deeplab.train.accumulate``: 2; 1: statistics of all 10). Here the running statistics follow
    both micro-batches; in the release they follow the batches of one GPU.
D8  seam: images are resized without antialiasing, as OpenCV does: as uint8 in training, as normalised pixels at test.
    Labels are resized by nearest neighbour, with the coordinates in the original rounded down
    (``deeplab.train.antialias``, ``predict.antialias``; true: as for all other networks).
D3  aeft: at test the further scales are factors of the image's size, not of the pass's (``predict.multi_scale: image``)
How we depart from the releases:
D2  seam: its HSV jitter is replaced by brightness, saturation and hue jitter of about the same strength
D4  eader and deeplab_v2: random sizes are drawn from an interval where the releases have a list of factors
D5  eader: the decoder has one separable convolution after fusion where TensorFlow's has two
D9  aeft, occse: nothing of the training but its data and loss is published. Epochs, batch size and rate are those that
    the group's own infer_dl.py has as arguments. Its authors also point to MCTformer's training (preset ``mctformer``).
D6  at test logits are upsampled to the image at once, not first to the size of the pass and then to the image
D10 seam: colours are jittered after resizing; the release does it before. The learning rate reaches 0 at step 20,000,
    just after the last step made; in the release it does so one step later. The CRF sees the image itself; in the
    release it sees the normalised image, converted back to pixel values and rounded down.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import resize
from wsss.backbones.models import load_model
from wsss.groups import ParameterGroup, poly_groups
from wsss.segment.models import Segmenter, build
from wsss.stores import IGNORE

if TYPE_CHECKING:
    from wsss.schedule import Progress
    from wsss.settings.sections import DeepLab
    from wsss.train import MaskedBatch


def cross_entropy(logits: Tensor, labels: Tensor, balanced: bool = False) -> Tensor:
    """Compute the mean cross entropy over the labelled pixels. It is 0 if there are none.

    Args:
        logits: ``B×K×h×w``.
        labels: ``B×h×w``.
        balanced: average the mean over background pixels and the mean over foreground pixels (DSRG, RIB).
    """
    labels = labels.long()
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")  # B h w
    kinds = [labels == 0, (labels != 0) & (labels != IGNORE)] if balanced else [labels != IGNORE]
    total: Tensor = sum((loss * kind).sum() / kind.sum().clamp(min=1) for kind in kinds)  # type: ignore[assignment]
    return total / len(kinds)


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize label maps ``B×H×W`` to ``size`` by nearest neighbour: ``B×h×w``."""
    if labels.shape[1:] == tuple(size):
        return labels
    return F.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()


def scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    """Multiply ``size`` by ``factor`` and round down."""
    return int(size[0] * factor), int(size[1] * factor)


class SegmentTask(nn.Module):
    """A segmentation network and its training, by the section ``deeplab``."""

    phases = ("segment",)

    def __init__(self, settings: DeepLab, n_classes: int):
        super().__init__()
        self.net: Segmenter = build(settings, n_classes)
        self.settings, self.loss = settings, settings["loss"]

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Return the one phase."""
        return self.phases

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """Group the parameters of the backbone, and those of the head at ``new_lr`` times its rate.

        Batch norms do not decay. See ``poly_groups``.
        """
        norm_decay = 0.0 if self.settings["train_norms"] else None
        new = (self.settings["new_lr"], self.net.heads())
        return poly_groups(new, (1.0, [self.net.backbone]), norm_decay=norm_decay)

    def losses(self, batch: MaskedBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Compute the cross entropy of images ``B×3×H×W`` under their labels ``B×H×W``.

        With further scales (MSC) there is one loss per scale, under labels of its size, and one of the pixel-wise
        maximum of all.
        """
        images, labels = batch["image"], batch["label"]
        size, further = images.shape[2:], self.loss["scales"]
        inputs = [images, *(resize(images, scaled(size, s), self.loss["align_corners"]) for s in further)]
        outputs = {"ce": self._logits(inputs[0])}  # B K h w
        outputs |= {f"ce_{s:g}": self._logits(x) for s, x in zip(further, inputs[1:], strict=True)}
        if further:
            same_size = [resize(x, outputs["ce"].shape[2:]) for x in outputs.values()]
            outputs["ce_max"] = elementwise_max(same_size)
        balanced = self.loss["balanced"]
        return {k: cross_entropy(x, resize_labels(labels, x.shape[2:]), balanced) for k, x in outputs.items()}

    def _logits(self, images: Tensor) -> Tensor:
        logits = self.net(images)
        return resize(logits, images.shape[2:], self.net.align_corners) if self.loss["at"] == "image" else logits


def elementwise_max(tensors: Sequence[Tensor]) -> Tensor:
    """Compute the maximum of tensors of one shape, element by element."""
    result, *others = tensors
    for other in others:
        result = result.maximum(other)
    return result


def load_task(settings: DeepLab, n_classes: int, path: str | Path) -> SegmentTask:
    """Load a trained network in evaluation mode.

    Args:
        settings: the section ``deeplab``.
        n_classes: number of foreground classes.
        path: the ``model.pt`` of its training.

    Raises:
        WsssError: the file cannot be read, or was trained with other settings.
    """
    unfilled: Any = {**settings, "backbone": {**settings["backbone"], "weights": None}}
    expected = f"{settings['model']} on {settings['backbone']['name']}, {n_classes} classes"
    task = SegmentTask(unfilled, n_classes)
    load_model(task, path, expected)
    return task
