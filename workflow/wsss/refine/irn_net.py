"""IRNet: class boundaries and displacements to instance centroids (Ahn et al., CVPR 2019, arXiv:1904.05044).

B batch, H W image pixels, h w = ceil(H / 4), ceil(W / 4) cells of the boundary map and the displacement field.

How the release jiwoon-ahn/irn@a2ece00 (the default) departs from the paper:
D1  the mean displacement of the images is measured after training and subtracted at inference   step/train_irn.py
D2  boundaries average the logits of the image and its mirror image, displacements do not        net/resnet50_irn.py
How we depart from the release:
D3  images larger than the training crop are padded to the network's stride; the release cuts them to 512 pixels
D4  other backbones: taps finer than stride 4 are max-pooled to it, coarser ones upsampled by their own factor
D5  the mean displacement (D1) is that of all images of the split ``measured``; the release drops the last, incomplete
    batch
D6  crops of less than 21 cells (84 pixels) take a smaller radius, so that they hold pairs at all
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones
from wsss.backbones.models import load_model
from wsss.errors import WsssError
from wsss.refine.labels import clamp_radius, pair_marks
from wsss.refine.losses import cross_entropy_terms, displacement_terms
from wsss.refine.paths import pair_difference, path_affinity

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import IrnTrain
    from wsss.train import MaskedBatch

STRIDE = 4  # image pixels per cell of the two outputs
TAPS = ("conv2", "conv3", "conv4", "conv5", "conv6")


class MeanShift(nn.Module):
    """The mean displacement of the data set, which is subtracted in evaluation mode (D1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.running_mean: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the mean from ``B×C×h×w``, but not in training."""
        return x if self.training else x - self.running_mean.view(1, -1, 1, 1)


def _branch(inputs: int, outputs: int, groups: int, scale: int = 1) -> nn.Sequential:
    """Make a 1×1 convolution, group norm, upsampling and ReLU, in the order of the release."""
    upsample = [nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)] if scale > 1 else []
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(groups, outputs), *upsample, nn.ReLU(inplace=True)
    )


def _cut(x: Tensor, like: Tensor) -> Tensor:
    return x[..., : like.shape[-2], : like.shape[-1]]


class IRNet(nn.Module):
    """The network and its training task. Names of heads are those of the released weights."""

    phases = ("irn",)
    weights_kind = "irn"

    def __init__(self, backbone: backbones.Backbone, settings: IrnTrain):
        super().__init__()
        strides, channels = backbone.strides, backbone.channels
        if strides["conv3"] != STRIDE:
            raise WsssError("irn_train.backbone: IRNet needs a backbone whose tap conv3 has stride 4, such as resnet50")
        self.radius, self.dp_lr_scale = settings["radius"], settings["dp_lr_scale"]
        self.backbone = backbone.requires_grad_(False).eval()
        to_cells = [max(1, strides[tap] // STRIDE) for tap in TAPS]  # upsampling factors
        for k, tap in enumerate(TAPS):
            setattr(self, f"fc_edge{k + 1}", _branch(channels[tap], 32, 4, to_cells[k]))
        self.fc_edge6 = nn.Conv2d(5 * 32, 1, 1)

        c2, c3, c4, c5, c6 = (channels[tap] for tap in TAPS)
        middle = strides["conv4"]
        self.fc_dp1 = _branch(c2, 64, 8)
        self.fc_dp2 = _branch(c3, 128, 16)
        self.fc_dp3 = _branch(c4, 256, 16)
        self.fc_dp4 = _branch(c5, 256, 16, strides["conv5"] // middle)
        self.fc_dp5 = _branch(c6, 256, 16, strides["conv6"] // middle)
        self.fc_dp6 = _branch(768, 256, 16, middle // STRIDE)
        self.fc_dp7 = nn.Sequential(*_branch(448, 256, 16), nn.Conv2d(256, 2, 1, bias=False))
        self.mean_shift = MeanShift(2)

    def train(self, mode: bool = True) -> IRNet:
        """Act as ``nn.Module.train``, but keep the backbone in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def side_outputs(self, images: Tensor) -> list[Tensor]:
        """Compute the five taps of the frozen backbone, none of them finer than stride 4 (D4)."""
        with torch.no_grad():
            taps = self.backbone(images)
        halvings = {tap: (STRIDE // self.backbone.strides[tap]).bit_length() - 1 for tap in TAPS}
        for tap in TAPS:
            for _ in range(halvings[tap]):
                taps[tap] = F.max_pool2d(taps[tap], 3, stride=2, padding=1)
        return [taps[tap] for tap in TAPS]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute boundary logits ``B×h×w`` and displacements ``B×2×h×w`` (dy, dx, in cells) of images ``B×3×H×W``.

        The images are normalised.
        """
        x = self.side_outputs(images)
        edges = [_cut(getattr(self, f"fc_edge{k + 1}")(side), x[1]) for k, side in enumerate(x)]
        edge = self.fc_edge6(torch.cat(edges, 1))

        dp3 = self.fc_dp3(x[2])
        dp456 = self.fc_dp6(torch.cat([dp3, _cut(self.fc_dp4(x[3]), dp3), _cut(self.fc_dp5(x[4]), dp3)], 1))
        dp = self.fc_dp7(torch.cat([self.fc_dp1(x[0]), self.fc_dp2(x[1]), _cut(dp456, x[1])], 1))
        return edge.squeeze(1), self.mean_shift(dp)

    # ---- training task

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """Group the parameters of the boundary branch, and those of the displacement branch.

        The latter learn at ``dp_lr_scale`` times the base rate.
        """
        named = list(self.named_parameters())
        edge, dp = ([p for name, p in named if name.startswith(branch)] for branch in ("fc_edge", "fc_dp"))
        return [
            {"params": edge, "lr_scale": 1.0, "decay_scale": 1.0},
            {"params": dp, "lr_scale": self.dp_lr_scale, "decay_scale": 1.0},
        ]

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Return the one phase."""
        return self.phases

    def losses(self, batch: MaskedBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Compute the five weighted terms of images ``B×3×H×W`` under their labels ``B×h×w`` (255 ignore)."""
        edge, dp = self(batch["image"])
        radius = clamp_radius(self.radius, *edge.shape[1:])  # D6
        marks = pair_marks(batch["label"], radius)
        boundary = cross_entropy_terms(path_affinity(torch.sigmoid(edge.float()), radius), marks)
        displacement = displacement_terms(pair_difference(dp.float(), radius), marks, radius)
        return {**{f"boundary_{name}": value for name, value in boundary.items()}, **displacement}


def build(settings: IrnTrain) -> IRNet:
    """Make IRNet by the section ``irn_train``.

    Raises:
        WsssError: the backbone has no tap ``conv3`` of stride 4.
    """
    return IRNet(backbones.build(settings["backbone"]), settings)


def load(settings: IrnTrain, path: str | Path) -> IRNet:
    """Load the IRNet that stage ``irn_train`` wrote to ``path``, in evaluation mode.

    Raises:
        WsssError: the file cannot be read, or was trained with another backbone.
    """
    return load_model(build(backbones.without_weights(settings)), path, f"IRNet on {settings['backbone']['name']}")


@torch.no_grad()
def boundary_and_displacement(net: IRNet, images: Sequence[Tensor], crop: int) -> tuple[Tensor, Tensor]:
    """Compute boundary probabilities ``B×h×w`` and displacements ``B×2×h×w`` of normalised images ``3×H×W``.

    Zeros at the right and bottom make an image at least ``crop`` wide and high. That is the size that the group norms
    were trained on. A larger image is only padded to the network's stride (D3).

    Args:
        net: the network.
        images: B images with the same number of cells; their sizes in pixels may differ.
        crop: the size of training's crops.
    """
    h, w = cells_of(images[0].shape[1:])
    step = max(STRIDE, net.backbone.stride)
    views = []
    for image in images:
        bottom, right = (max(crop, -(-size // step) * step) - size for size in image.shape[1:])
        views += [F.pad(view, (0, right, 0, bottom)) for view in (image, image.flip(-1))]
    edge, dp = (output[..., :h, :w] for output in net(torch.stack(views)))
    return torch.sigmoid((edge[::2] + edge[1::2].flip(-1)) / 2), dp[::2]


def cells_of(size: Sequence[int]) -> tuple[int, int]:
    """Return h and w of an image of H and W."""
    height, width = size
    return -(-height // STRIDE), -(-width // STRIDE)
