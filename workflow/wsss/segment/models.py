"""Segmentation networks: a backbone with taps and a DeepLab head.

B batch, K classes with background, H W image size, h w size of the logits.

| network        | head on conv6                                        | source                                       |
| largefov_aeft  | two 3×3 of dilation 12                               | AEFT, Net_dl, networks/resnet38d.py          |
| largefov_seam  | 3×3 of dilation 12, 1×1, both with batch norm; 1×1   | YudeWang's codebase, seamv1-pseudovoc        |
| largefov_vgg16 | 1×1; if the backbone is no VGG16, fc6 and fc7 before | DeepLab-LargeFOV, arXiv:1412.7062            |
| deeplab_v2     | sum of four 3×3 of dilation 6, 12, 18, 24            | arXiv:1606.00915; kazuto1011/deeplab-pytorch |
| deeplab_v3plus | pyramid, then fusion with conv3 of stride 4          | arXiv:1802.02611; decoder of smp             |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones
from wsss.backbones.base import TAPS, Backbone, resize
from wsss.errors import WsssError, choose

if TYPE_CHECKING:
    from wsss.settings.sections import DeepLab


def _conv(inputs: int, outputs: int, dilation: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


def _start_small(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


class Segmenter(nn.Module):
    """A network from normalised images ``B×3×H×W`` to logits ``B×K×h×w`` at its own stride.

    ``align_corners`` says how the logits are meant to be upsampled. All modules besides ``backbone`` are new and
    trained at ``deeplab.new_lr`` times its rate.
    """

    align_corners = False

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.input = backbone.input

    def heads(self) -> list[nn.Module]:
        """List the new modules."""
        return [module for name, module in self.named_children() if name != "backbone"]


class LargeFovAeft(Segmenter):
    """AEFT's head. Layers have their official names, by which a test compares it with AEFT's."""

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        self.b8 = _conv(backbone.channels["conv6"], 512, 12)
        self.b9 = _conv(512, n, 12)
        for conv in (self.b8, self.b9):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.b9(F.relu(self.b8(self.backbone(images)["conv6"])))
        return logits


class LargeFovSeam(Segmenter):
    """The head of YudeWang's codebase, with its initial values: Kaiming's of the outputs (fan-out).

    They are large: the first cross entropy of 21 labels is about 13, not 3.
    """

    align_corners = True

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        self.head = nn.Sequential(
            *(_conv(backbone.channels["conv6"], 512, 12, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True)),
            *(nn.Conv2d(512, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True)),
            *(nn.Dropout(0.5), nn.Conv2d(512, n, 1)),
        )
        for module in self.head:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images)["conv6"])
        return logits


class LargeFovVGG16(Segmenter):
    """DeepLab-LargeFOV's head. VGG16 has pretrained fc6 and fc7 of its own; on other backbones they are new."""

    align_corners = True

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        width = backbone.channels["conv6"]
        if backbone.name != "vgg16":
            self.fc6, self.fc7 = _conv(width, 1024, 12), nn.Conv2d(1024, 1024, 1)
            width = 1024
        self.drop = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(width, n, 1)
        _start_small(self.fc8)

    def forward(self, images: Tensor) -> Tensor:
        x = self.backbone(images)["conv6"]
        if hasattr(self, "fc6"):
            x = F.relu(self.fc7(self.drop(F.relu(self.fc6(x)))))
        logits: Tensor = self.fc8(self.drop(x))
        return logits


class DeepLabV2(Segmenter):
    """The sum of four branches with different dilations."""

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        branches = [_conv(backbone.channels["conv6"], n, rate) for rate in (6, 12, 18, 24)]
        for conv in branches:
            _start_small(conv)
        self.aspp = nn.ModuleList(branches)

    def forward(self, images: Tensor) -> Tensor:
        x = self.backbone(images)["conv6"]
        logits: Tensor = sum(conv(x) for conv in self.aspp)
        return logits


class DeepLabV3Plus(Segmenter):
    """The decoder of segmentation_models_pytorch (smp). It fuses features of images of any size, not only of 16·n.

    It is 256 channels wide, as published. On a backbone of fewer than 512 channels it has half as many as the backbone.
    """

    align_corners = True

    def __init__(self, backbone: Backbone, n: int):
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder  # takes seconds

        super().__init__(backbone)
        stride = backbone.stride
        if backbone.strides["conv3"] != 4 or stride not in (8, 16):
            raise WsssError("deeplab.backbone: DeepLab v3+ needs stride 4 at conv3 and output_stride 8 or 16")
        width = min(256, backbone.channels["conv6"] // 2)
        rates = [rate * 16 // stride for rate in (6, 12, 18)]
        channels = [3, *(backbone.channels[tap] for tap in TAPS)]
        self.decoder = DeepLabV3PlusDecoder(channels, 5, width, rates, stride, aspp_separable=True, aspp_dropout=0.1)
        self.decoder.up = None  # its factor of 4 fits only images of a multiple of 16 pixels
        self.head = nn.Conv2d(width, n, 1)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) == 1:
            raise WsssError("deeplab.train: DeepLab v3+ needs two images per (micro-)batch; raise batch_size")
        taps = self.backbone(images)
        fine = self.decoder.block1(taps["conv3"])
        coarse = resize(self.decoder.aspp(taps["conv6"]), fine.shape[2:], align_corners=True)
        logits: Tensor = self.head(self.decoder.block2(torch.cat([coarse, fine], 1)))
        return logits


MODELS: dict[str, Callable[[Backbone, int], Segmenter]] = {
    "largefov_aeft": LargeFovAeft,
    "largefov_seam": LargeFovSeam,
    "largefov_vgg16": LargeFovVGG16,
    "deeplab_v2": DeepLabV2,
    "deeplab_v3plus": DeepLabV3Plus,
}


def build(settings: DeepLab, n_classes: int) -> Segmenter:
    """Make the network ``model`` of section ``deeplab`` on its ``backbone``, for ``n_classes`` foreground classes.

    Raises:
        WsssError: the model or the backbone is unknown, or they do not fit together.
    """
    model = choose(MODELS, settings["model"], "deeplab.model")
    spec: Any = settings["backbone"]
    if model is LargeFovVGG16 and spec["name"] == "vgg16":
        spec = {"fc6_dilation": 12, "pool5": True, **spec}
    network = model(backbones.build(spec), n_classes + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = settings["norm_momentum"]
    return network
