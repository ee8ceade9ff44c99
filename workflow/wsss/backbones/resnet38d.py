"""ResNet38d: "wider or deeper" model A1 (Wu et al., arXiv:1611.10080) with stride 8, as PSA and all its heirs use it.

Pre-activation units without max pooling; module names are those of the published weights (conv1a, b2, b2_1, ..., bn7).

| stage (depth of ``edit``) | units            | stride | channels | tap: the activated input of the next stage |
| 1 conv1a                  | 3×3 convolution  | 1      | 64       |                                            |
| 2 b2, b2_1, b2_2          | basic            | 2      | 128      | conv2                                      |
| 3 b3, b3_1, b3_2          | basic            | 4      | 256      | conv3                                      |
| 4 b4, b4_1 ... b4_5       | basic            | 8      | 512      | conv4                                      |
| 5 b5, b5_1, b5_2          | basic, dilated 2 | 8      | 1024     | conv5                                      |
| 6 b6                      | bottleneck, 4    | 8      | 2048     |                                            |
| 7 b7                      | bottleneck, 4    | 8      | 4096     | conv6                                      |

The depths are the masking depths d_m of OC-CSE (supplement, Figure I); ``edit`` sees the residual sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import Backbone, Edit, offered, probability
from wsss.errors import WsssError

STAGES = (
    ("b2", "b2_1", "b2_2"),
    ("b3", "b3_1", "b3_2"),
    ("b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"),
    ("b5", "b5_1", "b5_2"),
    ("b6",),
    ("b7",),
)
TAP_ENTERING = {"b3": "conv2", "b4": "conv3", "b5": "conv4", "b6": "conv5"}


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=dilation * (size // 2), dilation=dilation, bias=False)


def _activate(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.relu(norm(x), inplace=True)


class Basic(nn.Module):
    """Two 3×3 convolutions; the shortcut leaves from the activated input where the shape changes."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int = 1, dilations: tuple[int, int] = (1, 1)):
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv(inputs, middle, 3, stride, dilations[0])
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = _conv(middle, outputs, 3, 1, dilations[1])
        self.conv_branch1 = None if inputs == outputs and stride == 1 else _conv(inputs, outputs, 1, stride)

    def enter(self, x: Tensor) -> Tensor:
        """Return the activated input, which is what a tap shows."""
        return _activate(self.bn_branch2a, x)

    def forward(self, x: Tensor, activated: Tensor | None = None) -> Tensor:
        activated = self.enter(x) if activated is None else activated
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(activated)
        return shortcut + self.conv_branch2b1(_activate(self.bn_branch2b1, self.conv_branch2a(activated)))


class Bottleneck(nn.Module):
    """1×1, dilated 3×3, 1×1; dropout before the second and the third."""

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float):
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv(inputs, outputs // 4, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv(outputs // 4, outputs // 2, 3, 1, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _conv(outputs // 2, outputs, 1)
        self.conv_branch1 = _conv(inputs, outputs, 1)

    def enter(self, x: Tensor) -> Tensor:
        return _activate(self.bn_branch2a, x)

    def forward(self, x: Tensor, activated: Tensor | None = None) -> Tensor:
        activated = self.enter(x) if activated is None else activated
        y = self.conv_branch2a(activated)
        y = self.conv_branch2b1(self.dropout_2b1(_activate(self.bn_branch2b1, y)))
        y = self.conv_branch2b2(self.dropout_2b2(_activate(self.bn_branch2b2, y)))
        return self.conv_branch1(activated) + y


class ResNet38d(Backbone):
    """105 M parameters. ``dropout``: probabilities of b6 and b7 (PSA .3 .5; AEFT and ACR .2 .2), or one for both."""

    channels: dict[str, int] = {"conv2": 128, "conv3": 256, "conv4": 512, "conv5": 1024, "conv6": 4096}  # noqa: RUF012
    strides: dict[str, int] = {"conv2": 2, "conv3": 4, "conv4": 8, "conv5": 8, "conv6": 8}  # noqa: RUF012

    def __init__(self, output_stride: int = 8, dropout: float | Sequence[float] = (0.3, 0.5)):
        super().__init__()
        offered("resnet38d", output_stride, (8,))
        drop6, drop7 = _pair(dropout)
        self.conv1a = _conv(3, 64, 3)
        plan = (
            ("2", 3, 64, 128, 128, 2, (1, 1), (1, 1)),
            ("3", 3, 128, 256, 256, 2, (1, 1), (1, 1)),
            ("4", 6, 256, 512, 512, 2, (1, 1), (1, 1)),
            ("5", 3, 512, 512, 1024, 1, (1, 2), (2, 2)),
        )
        for stage, units, inputs, middle, outputs, stride, first, others in plan:
            setattr(self, f"b{stage}", Basic(inputs, middle, outputs, stride, first))
            for unit in range(1, units):
                setattr(self, f"b{stage}_{unit}", Basic(outputs, middle, outputs, 1, others))
        self.b6 = Bottleneck(1024, 2048, 4, drop6)
        self.b7 = Bottleneck(2048, 4096, 4, drop7)
        self.bn7 = nn.BatchNorm2d(4096)

    def forward(self, x: Tensor, edit: Edit | None = None) -> dict[str, Tensor]:
        edit = edit or (lambda depth, feature: feature)
        taps = {}
        x = edit(1, self.conv1a(edit(0, x)))  # B×64×H×W
        for depth, (first, *others) in enumerate(STAGES, start=2):
            unit = getattr(self, first)
            activated = unit.enter(x)
            if first in TAP_ENTERING:
                taps[TAP_ENTERING[first]] = activated
            x = unit(x, activated)
            for name in others:
                x = getattr(self, name)(x)
            x = edit(depth, x)
        taps["conv6"] = _activate(self.bn7, x)  # B×4096×⌈H/8⌉×⌈W/8⌉
        return taps


def _pair(dropout: float | Sequence[float]) -> tuple[float, float]:
    pair = tuple(dropout) if isinstance(dropout, Sequence) and not isinstance(dropout, str) else (dropout, dropout)
    if len(pair) != 2:
        raise WsssError(f"backbone.dropout: resnet38d takes one probability or two (b6, b7), not {len(pair)}")
    return probability(pair[0]), probability(pair[1])
