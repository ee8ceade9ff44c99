"""AffinityNet compares near cells: do they show the same class? (PSA, Ahn and Kwak, arXiv:1803.10464, 3.2)

B batch, D feature channels, H W pixels, h w cells at the stride of the tap conv4, P pairs of a source cell, h' w'
source cells (see ``labels``). Names of layers are those of the released weights (jiwoon-ahn/psa, YudeWang/SEAM).

How the releases (the default) depart from the paper:
D1  heads read BN-ReLU inputs of later stages, and the backbone is trained along with them     network/resnet38_aff.py
D2  the momentum is the weight decay, as in all of PSA's training (section ``affinity.train``)  tool/torchutils.py
D5  AEFT's release first validates at step 1600, which ends dropout for good (``affinity.dropout_until``)  train_aff.py
How we depart from the releases:
D3  the radius shrinks on maps no larger than twice the radius, in training as well (SEAM: only at inference; PSA:
    never)
D4  other backbones: heads of the same widths, features coarser than conv4 are upsampled to its stride
D6  PSA's README has a learning rate of 0.1 for the classifier and for AffinityNet. Its author says of the classifier
    that this is VGG16's alone (psa issue 8); SEAM's and AEFT's scripts have 0.01 for ResNet38, and so have both
    trainings of PSA's ResNet38 runs here. Run ``psa/vgg16`` has 0.1 for both trainings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from wsss import backbones
from wsss.backbones.models import load_model
from wsss.groups import ParameterGroup, poly_groups
from wsss.refine.labels import clamp_radius, pair_marks
from wsss.refine.losses import cross_entropy_terms
from wsss.refine.paths import at, half_disc

if TYPE_CHECKING:
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import MaskedBatch

HEADS = (("8_3", "conv4", 64, 8), ("8_4", "conv5", 128, 16), ("8_5", "conv6", 256, 32))  # name, tap, width, groups
NORMED = "vgg16"  # the backbone whose heads have group norms
VGG_DILATION = 4  # of fc6; the classifier has 1


class _PairDistance(torch.autograd.Function):
    """Mean absolute difference of the features of each pair, by shifted views.

    Backward computes the differences again: with autograd each of the P offsets would keep ``B×D×h'×w'`` floats.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(features)
        ctx.radius = radius
        source, offsets = at(features, (0, 0), radius), half_disc(radius)
        distance = features.new_empty(len(source), len(offsets), *source.shape[2:])  # B P h' w'
        for p, offset in enumerate(offsets):
            distance[:, p] = (source - at(features, offset, radius)).abs_().mean(1)
        return distance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (features,) = ctx.saved_tensors
        total, radius = torch.zeros_like(features), ctx.radius
        source, total_source = at(features, (0, 0), radius), at(total, (0, 0), radius)
        grad = grad / features.shape[1]
        for p, offset in enumerate(half_disc(radius)):
            share = (source - at(features, offset, radius)).sign_() * grad[:, p : p + 1]  # B D h' w'
            total_source.add_(share)
            at(total, offset, radius).sub_(share)
        return total, None


def pair_affinity(features: Tensor, radius: int) -> Tensor:
    """Compute ``a_ij = exp(-mean_d |f_i - f_j|)`` (Eq. 3 with a mean): ``B×D×h×w`` -> ``B×P×h'×w'``."""
    distance: Tensor = _PairDistance.apply(features, radius)
    return torch.exp(-distance)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


class AffinityNet(nn.Module):
    """The network and its training task. ``stride``: pixels per cell of its features."""

    phases = ("affinity",)
    weights_kind = "psa"

    def __init__(self, backbone: backbones.Backbone, radius: int, dropout_until: int | None = None):
        super().__init__()
        self.backbone, self.radius, self.stride = backbone, radius, backbone.strides["conv4"]
        self.dropout_until = dropout_until
        normed = backbone.name == NORMED
        for name, tap, width, groups in HEADS:
            conv = _conv(backbone.channels[tap], width)
            nn.init.kaiming_normal_(conv.weight)
            setattr(self, f"f{name}", conv)
            setattr(self, f"gn{name}", nn.GroupNorm(groups, width) if normed else nn.Identity())
        width = sum(width for _, _, width, _ in HEADS)
        self.f9 = _conv(width, width)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features ``B×448×h×w`` of normalised images ``B×3×H×W``."""
        taps = self.backbone(images)
        size = taps["conv4"].shape[-2:]
        parts = []
        for name, tap, _, _ in HEADS:
            part = F.elu(getattr(self, f"gn{name}")(getattr(self, f"f{name}")(taps[tap])))
            if (finer := self.backbone.strides[tap] // self.stride) > 1:  # D4
                part = F.interpolate(part, scale_factor=finer, mode="bilinear", align_corners=False)
            parts.append(part[..., : size[0], : size[1]])
        return F.elu(self.f9(torch.cat(parts, 1)))

    # ---- training task

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """Group the parameters as PSA does: new convolutions learn ten times as fast, their group norms do not."""
        heads = [self.get_submodule(f"f{name}") for name, *_ in HEADS]
        return poly_groups((10.0, [*heads, self.f9]), (1.0, [self]))

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Return the one phase."""
        return self.phases

    def losses(self, batch: MaskedBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Compute the three terms of images ``B×3×H×W`` under their labels ``B×h×w`` (255 ignore)."""
        if self.dropout_until is not None:
            self._drop(progress.step < self.dropout_until)
        features = self(batch["image"]).float()
        radius = clamp_radius(self.radius, *features.shape[-2:])
        return cross_entropy_terms(pair_affinity(features, radius), pair_marks(batch["label"], radius))

    def _drop(self, on: bool) -> None:
        """Switch all dropout on or off (D5)."""
        for module in self.modules():
            if isinstance(module, _DropoutNd):
                module.train(on)


def backbone_spec(config: Settings) -> dict[str, Any]:
    """Complete ``affinity.backbone``. If it names no network, it is the run's backbone with these changes."""
    own: dict[str, Any] = {key: value for key, value in config["affinity"]["backbone"].items() if value is not None}
    spec = own if "name" in own else {**config["backbone"], **own}
    return {**spec, "fc6_dilation": VGG_DILATION} if spec["name"] == NORMED else spec


def build(config: Settings, initial: bool = True) -> AffinityNet:
    """Make AffinityNet by the sections ``backbone`` and ``affinity``.

    Its backbone has the initial weights that they name; without ``initial`` it is random.
    """
    spec = backbone_spec(config)
    backbone = backbones.build(spec if initial else {**spec, "weights": None})
    section = config["affinity"]
    return AffinityNet(backbone, section["radius"], section["dropout_until"])


def load(config: Settings, path: str | Path) -> AffinityNet:
    """Load the AffinityNet that stage ``affinity`` wrote to ``path``, in evaluation mode.

    Raises:
        WsssError: the file cannot be read, or was trained with another backbone.
    """
    net = build(config, initial=False)
    return load_model(net, path, f"AffinityNet on {backbone_spec(config)['name']}")
