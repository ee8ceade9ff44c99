"""Vision Transformers (ViT, arXiv:2010.11929; DeiT, arXiv:2012.12877) of timm as backbones with maps of tokens.

The tokens of all patches form a map; the class token travels beside it and is seen by attention alone. Images of any
size: zeros to the right and below fill the last patches, the position embedding is interpolated (bicubic).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import Backbone, Stage, offered, probability
from wsss.errors import WsssError

PATCH = 16
TAPS = ("conv3", "conv4", "conv5", "conv6")


class ViT(Backbone):
    """``variant``: a plain ViT of timm with patches of 16 pixels and a class token. Names of modules are timm's.

    ``edit`` depths: 1 the embedded patches (conv2), 2 to 5 a quarter of the blocks each (conv3 to conv6). All taps have
    stride 16 and D channels; conv6 comes after the last norm.
    """

    def __init__(self, output_stride: int = PATCH, dropout: float = 0.0, variant: str = "deit_small_patch16_224"):
        super().__init__()
        offered("vit", output_stride, (PATCH,))
        network = _plain_vit(variant)
        self.patch_embed: Any = network.patch_embed
        self.norm_pre, self.norm = network.norm_pre, network.norm
        self.blocks: nn.Sequential = network.blocks
        self.cls_token: nn.Parameter = network.cls_token  # 1 1 D
        self.pos_embed: nn.Parameter = network.pos_embed  # 1 1+h'w' D, h' w' of pretraining
        self.drop = nn.Dropout2d(probability(dropout))
        self.channels = dict.fromkeys(("conv2", *TAPS), network.embed_dim)
        self.strides = dict.fromkeys(("conv2", *TAPS), PATCH)

    def stages(self) -> Iterator[Stage]:
        beside: dict[str, Tensor] = {}  # the class token of this pass, B 1 D

        def embed(x: Tensor) -> Tensor:
            bottom, right = (-size % PATCH for size in x.shape[2:])
            maps = self.patch_embed.proj(F.pad(x, (0, right, 0, bottom)))  # B D h w
            first, places = self._places(maps.shape[2:])
            beside["token"] = self.norm_pre(self.cls_token + first).expand(len(x), -1, -1)
            return _maps(self.norm_pre(_tokens(maps + places)), maps.shape[2:])

        def attend(x: Tensor, blocks: nn.Module, last: bool) -> Tensor:
            tokens = blocks(torch.cat([beside["token"].to(x.dtype), _tokens(x)], 1))  # B 1+hw D
            tokens = self.norm(tokens) if last else tokens
            beside["token"] = tokens[:, :1]
            maps = _maps(tokens[:, 1:], x.shape[2:])
            return self.drop(maps) if last else maps

        yield "conv2", embed
        ends = [-(-len(self.blocks) * quarter // len(TAPS)) for quarter in range(len(TAPS) + 1)]
        for tap, (begin, end) in zip(TAPS, pairwise(ends), strict=True):
            yield tap, partial(attend, blocks=self.blocks[begin:end], last=tap == "conv6")

    def _places(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the position embeddings of the class token, ``1×1×D``, and of a map of this size, ``1×D×h×w``."""
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        maps = _maps(grid, self.patch_embed.grid_size)
        if maps.shape[2:] != tuple(size):
            options: Any = {"mode": "bicubic", "antialias": True, "align_corners": False}
            maps = F.interpolate(maps.float(), tuple(size), **options).to(grid.dtype)
        return first, maps


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # B D h w -> B hw D


def _maps(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, size)  # B hw D -> B D h w


def _plain_vit(variant: str) -> Any:
    import timm  # takes a second, and few runs need it
    from timm.models.vision_transformer import VisionTransformer

    try:
        network = timm.create_model(variant, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise WsssError(f"backbone.name: 'vit:{variant}' is no network of timm ({str(error)[:60]})") from None
    plain = isinstance(network, VisionTransformer) and network.pos_embed is not None and network.num_prefix_tokens == 1
    if not plain or network.cls_token is None or network.patch_embed.patch_size != (PATCH, PATCH):
        raise WsssError(f"backbone.name: 'vit:{variant}' is no plain ViT with patches of {PATCH} and a class token")
    return network
