"""The contract of every method, and the few formulas that all methods share.

B batch, C foreground classes, D channels, H W image size, h w size of a feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch

EPS = 1e-5  # the constant of PSA and all its heirs in normalisations


class Method(nn.Module):
    """A classifier of image-level labels that can localize. See ``docs/architecture.md``, Task and Method.

    ``backbone`` is the network the class maps come from. Subclasses read their settings from ``config["method"]``
    and need to define ``parameter_groups``, ``losses`` and ``localize``.
    """

    phases: tuple[str, ...] = ("classifier",)  # one optimizer each
    weights_kind: str  # of the authors' weight files, see backbones.naming.KINDS
    new_parts: tuple[str, ...] = ()  # what a classifier that the training starts from may lack

    def __init__(self, config: Settings, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        self.backbone = backbones.build(config["backbone"])

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """Group the parameters that ``phase`` trains; see ``groups.poly_groups``."""
        raise NotImplementedError

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Name the phases that update at this step, in order."""
        return self.phases

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Compute named, already weighted scalars whose sum ``phase`` minimises.

        ``batch["image"]`` is ``B×3×H×W``, normalised as ``backbone.input`` says, ``batch["labels"]`` ``B×C`` of 0, 1.
        """
        raise NotImplementedError

    def complete(self) -> Method:
        """Return itself with all networks that the authors' weight files hold, also those it was trained without."""
        return self

    def classify(self, images: Tensor) -> Tensor:
        """Compute logits ``B×C`` of images ``B×3×H×W``, as the loss sees them; here the means of the class maps."""
        return self.localize(images, images.new_ones(len(images), self.n_classes)).mean((2, 3))

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute class maps ``B×C×h×w`` of any resolution, before normalisation, and mostly before the ReLU.

        ``images`` is ``B×3×H×W``, ``labels`` ``B×C``; maps of classes that are absent from ``labels`` are not used.
        """
        raise NotImplementedError


def head(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv2d:
    """Make a 1×1 convolution without bias, Xavier-uniform as the ``fc8`` of PSA and its heirs."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.xavier_uniform_(conv.weight, gain)
    return conv


def multilabel_soft_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the binary cross entropy of ``B×C`` logits, mean over images and classes."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def max_norm(maps: Tensor, eps: float = EPS) -> Tensor:
    """Compute ReLU(v - min - eps) / (max - min + eps) per map of ``B×C×h×w``; min and max pass the gradient on."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return F.relu(maps - low - eps) / (high - low + eps)
