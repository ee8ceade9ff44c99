"""A small residual network for images of 96 to 128 pixels, trained from scratch on a CPU in minutes."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import Backbone, Stage, limit_stride, offered, probability


class Unit(nn.Module):
    """3×3 convolution, then a residual 3×3 convolution, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(x + self.bn2(self.conv2(x)), inplace=True)


class Tiny(Backbone):
    """Stride 8 (or 4). ``edit`` depths 1 to 5 are conv2 to conv6. The last unit is dilated to see about 130 pixels."""

    channels: dict[str, int] = {"conv2": 16, "conv3": 32, "conv4": 64, "conv5": 96, "conv6": 128}  # noqa: RUF012

    def __init__(self, output_stride: int = 8, dropout: float = 0.0):
        super().__init__()
        offered("tiny", output_stride, (4, 8))
        self.strides = {"conv2": 2, "conv3": 4, **dict.fromkeys(("conv4", "conv5", "conv6"), output_stride)}
        self.conv2 = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.conv3 = Unit(16, 32, stride=2)
        self.conv4 = Unit(32, 64, stride=2)
        self.conv5 = Unit(64, 96)
        self.conv6 = Unit(96, 128, dilation=2)
        self.drop = nn.Dropout2d(probability(dropout))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        limit_stride([self.conv2, self.conv3, self.conv4, self.conv5, self.conv6], 1, output_stride)

    def stages(self) -> Iterator[Stage]:
        yield from ((name, getattr(self, name)) for name in ("conv2", "conv3", "conv4", "conv5"))
        yield "conv6", lambda x: self.drop(self.conv6(x))
