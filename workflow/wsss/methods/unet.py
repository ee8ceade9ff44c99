"""ACR's decoder: a U-Net (arXiv:1505.04597) in the manner of pix2pix (Isola et al., CVPR 2017, arXiv:1611.07004).

Level k halves the image k times. Going down, ``down<k>`` makes it, with min(2^(k-1), 8) times ``width`` channels; going
up, ``up<j>`` returns to level depth - j and joins what ``down<depth-j>`` made. Module names are those of ACR's release.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsss.errors import WsssError

DROPOUT_FROM = 4  # the first level with dropout, on the way down and up (pix2pix has it in its inner decoder only)
DROPOUT = 0.5
SLOPE = 0.2  # of LeakyReLU


class Down(nn.Module):
    """Halve an image: 4×4 convolution, instance norm without affine part, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, norm: bool, dropout: bool):
        super().__init__()
        layers = [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), *[nn.InstanceNorm2d(outputs)] * norm]
        self.model = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), *[nn.Dropout(DROPOUT)] * dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``B×inputs×H×W`` -> ``B×outputs×H/2×W/2``."""
        halved: Tensor = self.model(x)
        return halved


class Up(nn.Module):
    """Double an image: 4×4 transposed convolution, instance norm, ReLU; then join the skip connection."""

    def __init__(self, inputs: int, outputs: int, dropout: bool):
        super().__init__()
        layers = [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.InstanceNorm2d(outputs), nn.ReLU()]
        self.model = nn.Sequential(*layers, *[nn.Dropout(DROPOUT)] * dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join ``B×inputs×h×w`` and the skip connection, twice as large, along the channels."""
        return torch.cat((self.model(x), skip), 1)


class UNet(nn.Module):
    """A U-Net from ``B×inputs×H×W`` to ``B×outputs×H×W``, unbounded. H and W are multiples of 2^depth.

    It has 55 M parameters in ACR.
    """

    def __init__(self, inputs: int, outputs: int = 3, depth: int = 8, width: int = 64):
        super().__init__()
        if depth < 2:
            raise WsssError(f"method.unet_depth: {depth} levels are too few, take at least 2")
        self.depth = depth
        channels = [inputs, *(width * min(2 ** (level - 1), 8) for level in range(1, depth + 1))]
        for level in range(1, depth + 1):  # no norm at the ends: the deepest map may be a single cell
            down = Down(channels[level - 1], channels[level], 1 < level < depth, level >= DROPOUT_FROM)
            setattr(self, f"down{level}", down)
        for level in range(depth - 1, 0, -1):
            joined = channels[depth] if level == depth - 1 else 2 * channels[level + 1]
            setattr(self, f"up{depth - level}", Up(joined, channels[level], dropout=level >= DROPOUT_FROM))
        self.final = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2 * channels[1], outputs, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height % 2**self.depth or width % 2**self.depth:
            raise WsssError(
                f"method.unet_depth: {self.depth} halvings need sides that are multiples of {2**self.depth}, "
                f"not {height}×{width}; change train.crop or method.unet_depth"
            )
        levels = [x]
        for level in range(1, self.depth + 1):
            levels.append(self.get_submodule(f"down{level}")(levels[-1]))
        x = levels[-1]
        for level in range(self.depth - 1, 0, -1):
            x = self.get_submodule(f"up{self.depth - level}")(x, levels[level])
        image: Tensor = self.final(x)
        return image
