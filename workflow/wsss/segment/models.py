"""Segmentation networks: a backbone with taps and a DeepLab head.

B batch, K classes with background, H W image size, h w = size of the logits, D channels of the tap conv6.

| network        | head on conv6                                        | source                                       |
| largefov_aeft  | two 3×3 of dilation 12                               | AEFT, Net_dl, networks/resnet38d.py          |
| largefov_seam  | 3×3 of dilation 12, 1×1, both with batch norm; 1×1   | YudeWang's codebase, seamv1-pseudovoc        |
| largefov_vgg16 | pools, 3×3 of dilation 12 (fc6), 1×1 (fc7), 1×1      | DeepLab-LargeFOV, arXiv:1412.7062            |
| deeplab_v2     | sum of four 3×3 of dilation 6, 12, 18, 24            | arXiv:1606.00915; kazuto1011/deeplab-pytorch |
| deeplab_v3plus | pyramid, then fusion with conv3 of stride 4          | arXiv:1802.02611; decoder of smp             |
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones
from wsss.backbones.base import Backbone, resize
from wsss.errors import WsssError, choose
from wsss.segment.encoders import TAPS, build_backbone


def _conv(inputs: int, outputs: int, dilation: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


class Segmenter(nn.Module):
    """``forward``: normalised images ``B×3×H×W`` -> logits ``B×K×h×w`` at the network's own stride.

    ``align_corners`` says how these are meant to be upsampled. Everything beside ``backbone`` is new, and trained at a
    higher rate.
    """

    align_corners = False

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.input = backbone.input

    def heads(self) -> list[nn.Module]:
        return [module for name, module in self.named_children() if name != "backbone"]


class LargeFovAeft(Segmenter):
    """Layers have their official names, so that official weights load."""

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        self.b8 = _conv(backbone.channels["conv6"], 512, 12)
        self.b9 = _conv(512, n, 12)
        for conv in self.heads():
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.b9(F.relu(self.b8(self.backbone(images)["conv6"])))


class LargeFovSeam(Segmenter):
    align_corners = True

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        self.head = nn.Sequential(
            *(_conv(backbone.channels["conv6"], 512, 12, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True)),
            *(nn.Conv2d(512, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(inplace=True)),
            *(nn.Dropout(0.5), nn.Conv2d(512, n, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)["conv6"])


class LargeFovVGG16(Segmenter):
    """VGG16 brings fc6 and fc7 itself, pretrained; behind other backbones they are new."""

    align_corners = True

    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        width = backbone.channels["conv6"]
        if not isinstance(backbone, backbones.BACKBONES["vgg16"]):
            self.fc6, self.fc7 = _conv(width, 1024, 12), nn.Conv2d(1024, 1024, 1)
            width = 1024
        self.drop = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(width, n, 1)
        nn.init.normal_(self.fc8.weight, std=0.01)
        nn.init.zeros_(self.fc8.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.backbone(images)["conv6"]
        if hasattr(self, "fc6"):
            x = F.relu(self.fc7(self.drop(F.relu(self.fc6(x)))))
        return self.fc8(self.drop(x))


class DeepLabV2(Segmenter):
    def __init__(self, backbone: Backbone, n: int):
        super().__init__(backbone)
        self.aspp = nn.ModuleList(_conv(backbone.channels["conv6"], n, rate) for rate in (6, 12, 18, 24))
        for conv in self.aspp:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.backbone(images)["conv6"]
        return sum(conv(x) for conv in self.aspp)


class DeepLabV3Plus(Segmenter):
    """The decoder of segmentation_models_pytorch (smp); features of any size are fused, not only multiples of 16."""

    align_corners = True

    def __init__(self, backbone: Backbone, n: int, width: int = 256):
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder  # takes seconds

        super().__init__(backbone)
        stride = backbone.stride
        if backbone.strides["conv3"] != 4 or stride not in (8, 16):
            raise WsssError("segment.backbone: DeepLab v3+ needs stride 4 at conv3 and output_stride 8 or 16")
        rates = [rate * 16 // stride for rate in (6, 12, 18)]
        channels = [3, *(backbone.channels[tap] for tap in TAPS)]
        self.decoder = DeepLabV3PlusDecoder(channels, 5, width, rates, stride, aspp_separable=True, aspp_dropout=0.1)
        self.decoder.up = None  # its factor of 4 fits only images of a multiple of 16 pixels
        self.head = nn.Conv2d(width, n, 1)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and len(images) == 1:
            raise WsssError("segment.train: DeepLab v3+ needs two images per (micro-)batch; raise batch_size")
        taps = self.backbone(images)
        fine = self.decoder.block1(taps["conv3"])
        coarse = resize(self.decoder.aspp(taps["conv6"]), fine.shape[2:], align_corners=True)
        return self.head(self.decoder.block2(torch.cat([coarse, fine], 1)))


MODELS = {
    "largefov_aeft": LargeFovAeft,
    "largefov_seam": LargeFovSeam,
    "largefov_vgg16": LargeFovVGG16,
    "deeplab_v2": DeepLabV2,
    "deeplab_v3plus": DeepLabV3Plus,
}


def build(segment: dict, n_classes: int) -> Segmenter:
    """The network ``segment["model"]`` on ``segment["backbone"]`` for ``n_classes`` foreground classes."""
    model, spec = choose(MODELS, segment["model"], "segment.model"), segment["backbone"]
    if model is LargeFovVGG16 and spec["name"] == "vgg16":
        spec = {"fc6_dilation": 12, "pool5": True, **spec}
    network = model(build_backbone(spec), n_classes + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = segment["norm_momentum"]
    return network
