"""What trains a segmentation network: cross entropy on label maps, at one or several scales.

B batch, K classes with background, H W crop size, h w size of logits. Labels: 0 background, c + 1 class, 255 ignore.

Departures of the released trainings from their papers; defaults are those of the releases:
D1  seam: the backbone's ``train()`` never runs, so nothing of it is frozen and its batch statistics are followed
D3  aeft: at test the further scales are of the image, not of the pass (``predict.multi_scale: image``)
Departures of these files from the releases:
D2  seam: its HSV jitter is replaced by brightness, saturation and hue jitter of about the same strength
D4  eader and deeplab_v2: random sizes are drawn from an interval where the releases have a list of factors
D5  eader: the decoder has one separable convolution after fusion where TensorFlow's has two
D6  at test logits are upsampled to the image at once, not first to the size of the pass and then to the image
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import resize
from wsss.errors import WsssError
from wsss.segment.models import Segmenter, build
from wsss.stores import IGNORE
from wsss.train import poly_groups

LOSS_AT = ("image", "logits")


def cross_entropy(logits: Tensor, labels: Tensor, balanced: bool = False) -> Tensor:
    """Mean cross entropy over labelled pixels: logits ``B×K×h×w``, labels ``B×h×w``. Without any, 0.

    ``balanced``: the mean of two means, over background and over foreground pixels (DSRG, RIB).
    """
    labels = labels.long()
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")  # B h w
    kinds = [labels == 0, (labels != 0) & (labels != IGNORE)] if balanced else [labels != IGNORE]
    return sum((loss * kind).sum() / kind.sum().clamp(min=1) for kind in kinds) / len(kinds)


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Label maps ``B×H×W`` -> ``B×h×w``, nearest neighbour."""
    if labels.shape[1:] == tuple(size):
        return labels
    return F.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()


def scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    """``size`` times ``factor``, rounded down."""
    return int(size[0] * factor), int(size[1] * factor)


class SegmentTask(nn.Module):
    """A segmentation network and its training. ``segment`` is the section of the resolved config."""

    phases = ("segment",)

    def __init__(self, segment: dict, n_classes: int):
        super().__init__()
        self.net: Segmenter = build(segment, n_classes)
        self.settings, self.loss = segment, segment["loss"]
        if self.loss["at"] not in LOSS_AT:
            raise WsssError(f"segment.loss.at: unknown '{self.loss['at']}': choose one of {', '.join(LOSS_AT)}")

    def active_phases(self, progress) -> tuple[str, ...]:
        return self.phases

    def parameter_groups(self, phase: str) -> list[dict]:
        """The backbone, and the head at ``new_lr`` times its rate; see ``poly_groups``. Batch norms do not decay."""
        norm_decay = 0.0 if self.settings["train_norms"] else None
        new = (self.settings["new_lr"], self.net.heads())
        return poly_groups(new, (1.0, [self.net.backbone]), norm_decay=norm_decay)

    def losses(self, batch: dict, phase: str, progress) -> dict[str, Tensor]:
        """Cross entropies of ``image`` ``B×3×H×W`` under ``label`` ``B×H×W``.

        With further scales (MSC): one per scale under labels of its size, and one of the pixel-wise maximum; their sum.
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
    result, *others = tensors
    for other in others:
        result = result.maximum(other)
    return result
