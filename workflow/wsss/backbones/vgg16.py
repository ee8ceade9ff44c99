"""VGG16 in DeepLab's "20M" form (arXiv:1412.7062) as PSA uses it: stride 8, fc6 and fc7 as convolutions.

Module names are those of the published weights (conv1_1 ... conv5_3, fc6, fc7). 3×3 pools; pool4 keeps the size and
conv5 is dilated by 2. PSA leaves out pool5 and pool5a, which DeepLab has before fc6. Input: BGR minus (104.008,
116.669, 122.675), not scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import Backbone, Stage, offered, probability

GROUPS = {"conv1": (2, 64), "conv2": (2, 128), "conv3": (3, 256), "conv4": (3, 512), "conv5": (3, 512)}


class VGG16(Backbone):
    """``edit`` depths 1 to 5 are conv1_2 to conv5_3 after ReLU, 6 is fc7 after ReLU (conv6, 1024 channels).

    ``fc6_dilation``: 1 in PSA's classifier, 4 in its AffinityNet, 12 in DeepLab-LargeFOV. Dropout is after fc6.
    ``pool5``: a maximum and a mean over 3×3 cells before fc6, as in DeepLab; the size stays.
    """

    input = "vgg_bgr"
    channels: dict[str, int] = {"conv2": 128, "conv3": 256, "conv4": 512, "conv5": 512, "conv6": 1024}  # noqa: RUF012
    strides: dict[str, int] = {"conv2": 2, "conv3": 4, "conv4": 8, "conv5": 8, "conv6": 8}  # noqa: RUF012

    def __init__(self, output_stride: int = 8, dropout: float = 0.5, fc6_dilation: int = 1, pool5: bool = False):
        super().__init__()
        self.pool5 = pool5
        offered("vgg16", output_stride, (8,))
        inputs = 3
        for group, (layers, outputs) in GROUPS.items():
            dilation = 2 if group == "conv5" else 1
            for layer in range(1, layers + 1):
                conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
                setattr(self, f"{group}_{layer}", conv)
                inputs = outputs
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=fc6_dilation, dilation=fc6_dilation)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.drop = nn.Dropout2d(probability(dropout))

    def _group(self, group: str, x: Tensor) -> Tensor:
        if group != "conv1":
            x = F.max_pool2d(x, 3, stride=1 if group == "conv5" else 2, padding=1)
        for layer in range(1, GROUPS[group][0] + 1):
            x = F.relu(getattr(self, f"{group}_{layer}")(x), inplace=True)
        return x

    def _top(self, x: Tensor) -> Tensor:
        if self.pool5:
            x = F.avg_pool2d(F.max_pool2d(x, 3, stride=1, padding=1), 3, stride=1, padding=1)
        return F.relu(self.fc7(self.drop(F.relu(self.fc6(x), inplace=True))), inplace=True)

    def stages(self) -> Iterator[Stage]:
        for group in GROUPS:
            yield (group if group in self.channels else None), partial(self._group, group)
        yield "conv6", self._top
