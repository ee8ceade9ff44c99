"""MobileNetV2 (Sandler et al., arXiv:1801.04381) with torchvision's module names and a chosen output stride."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import Backbone, Stage, limit_stride, offered, probability

# For each tap: its last block in ``features``, its channels, and its stride in the undilated network.
TAPS = {"conv2": (1, 16, 2), "conv3": (3, 24, 4), "conv4": (6, 32, 8), "conv5": (13, 96, 16), "conv6": (18, 1280, 32)}


class TensorFlowConv2d(nn.Conv2d):
    """A stride-2 3×3 convolution padded as TensorFlow does: on even sizes nothing left and top, two right and bottom.

    (The second of the two is read only where the stride was traded for dilation.) Odd sizes are padded symmetrically.
    """

    def forward(self, x: Tensor) -> Tensor:
        rate = self.dilation[0]
        padding = []
        for size in (x.shape[3], x.shape[2]):
            even = -(-size // rate) % 2 == 0
            padding += [0, 2 * rate] if even else [rate, rate]
        return F.conv2d(F.pad(x, padding), self.weight, None, self.stride, 0, self.dilation, self.groups)


class MobileNetV2(Backbone):
    """Stride 8, 16 or 32. ``edit`` depths 1 to 5 are conv2 to conv6 (16, 24, 32, 96, 1280 channels).

    ``tf_padding`` is for weights that were trained in TensorFlow.
    """

    channels: dict[str, int] = {tap: channels for tap, (_, channels, _) in TAPS.items()}  # noqa: RUF012

    def __init__(self, output_stride: int = 16, dropout: float = 0.0, tf_padding: bool = False):
        from torchvision.models import mobilenet_v2  # takes seconds to load, which other networks are spared

        super().__init__()
        offered("mobilenet_v2", output_stride, (8, 16, 32))
        self.strides = {tap: min(stride, output_stride) for tap, (_, _, stride) in TAPS.items()}
        self.features = mobilenet_v2(weights=None).features
        self.drop = nn.Dropout2d(probability(dropout))
        if tf_padding:
            self._pad_like_tensorflow()
        limit_stride(self.features, 1, output_stride)

    def _pad_like_tensorflow(self) -> None:
        for block in [module for module in self.features.modules() if isinstance(module, nn.Sequential)]:
            for name, conv in block.named_children():
                if isinstance(conv, nn.Conv2d) and conv.stride[0] == 2:
                    new = TensorFlowConv2d(conv.in_channels, conv.out_channels, 3, 2, 1, groups=conv.groups, bias=False)
                    new.weight = conv.weight
                    setattr(block, name, new)

    def stages(self) -> Iterator[Stage]:
        start = 0
        for tap, (last, _, _) in TAPS.items():
            blocks = self.features[start : last + 1]
            yield tap, (blocks if tap != "conv6" else nn.Sequential(blocks, self.drop))
            start = last + 1
