"""ResNets (He et al., arXiv:1512.03385) with torchvision's modules and names and a chosen output stride."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from wsss.backbones.base import Backbone, Stage, limit_stride, offered, probability


class ResNet(Backbone):
    """``edit`` depths: 1 the stem (conv2, 64 channels, stride 4), 2 to 5 layer1 to layer4 (conv3 to conv6).

    Stride 8, 16 or 32. With ``dilate=False`` strides are removed without dilation: IRN's ResNet-50 at stride 16.
    """

    function: str  # of torchvision.models

    def __init__(self, output_stride: int = 16, dropout: float = 0.0, dilate: bool = True):
        super().__init__()
        offered(self.function, output_stride, (8, 16, 32))
        from torchvision import models  # takes seconds to load, which other networks are spared

        network = getattr(models, self.function)(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = network.conv1, network.bn1, network.relu, network.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            network.layer1,
            network.layer2,
            network.layer3,
            network.layer4,
        )
        width = network.fc.in_features
        self.channels = {"conv2": 64, "conv3": width // 8, "conv4": width // 4, "conv5": width // 2, "conv6": width}
        self.strides = {"conv2": 4, "conv3": 4, "conv4": 8, "conv5": min(16, output_stride), "conv6": output_stride}
        self.drop = nn.Dropout2d(probability(dropout))
        limit_stride([self.layer1, self.layer2, self.layer3, self.layer4], 4, output_stride, dilate)

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def stages(self) -> Iterator[Stage]:
        yield "conv2", self._stem
        yield "conv3", self.layer1
        yield "conv4", self.layer2
        yield "conv5", self.layer3
        yield "conv6", lambda x: self.drop(self.layer4(x))


class ResNet18(ResNet):
    """11 M parameters, 512 channels at conv6."""

    function = "resnet18"


class ResNet50(ResNet):
    """24 M parameters, 2048 channels at conv6."""

    function = "resnet50"


class ResNet101(ResNet):
    """43 M parameters, 2048 channels at conv6."""

    function = "resnet101"


class WideResNet50(ResNet):
    """67 M parameters, 2048 channels at conv6; the inner convolutions have twice the channels of ResNet-50."""

    function = "wide_resnet50_2"
