"""Encoders of segmentation_models_pytorch and timm as backbones, for networks that the project does not have itself."""

from __future__ import annotations

import re

from torch import Tensor

from wsss import backbones
from wsss.backbones.base import Backbone, offered
from wsss.backbones.formats import read_state
from wsss.backbones.naming import Naming
from wsss.backbones.weights import load_official
from wsss.errors import WsssError

TAPS = ("conv2", "conv3", "conv4", "conv5", "conv6")


class Encoder(Backbone):
    """An encoder of segmentation_models_pytorch, or with ``tu-`` before its name one of timm, as a backbone."""

    def __init__(self, name: str, output_stride: int = 16):
        from segmentation_models_pytorch.encoders import get_encoder  # takes seconds, and few runs need it

        super().__init__()
        offered(name, output_stride, (8, 16, 32))
        try:
            self.encoder = get_encoder(name, depth=5, weights=None, output_stride=output_stride)
        except (KeyError, RuntimeError, NotImplementedError, ValueError) as error:
            known = ", ".join(sorted(backbones.BACKBONES))
            raise WsssError(
                f"segment.backbone.name: '{name}' is none of {known}, and no encoder of "
                f"segmentation_models_pytorch with stride {output_stride} ({str(error)[:60]})"
            ) from None
        self.channels = dict(zip(TAPS, self.encoder.out_channels[1:], strict=True))
        self.strides = {tap: min(2 ** (i + 1), output_stride) for i, tap in enumerate(TAPS)}

    def forward(self, x: Tensor, edit=None) -> dict[str, Tensor]:
        return dict(zip(TAPS, self.encoder(x)[1:], strict=True))


def build_backbone(spec: dict) -> Backbone:
    """One of the project's backbones, or an encoder; see ``backbones.build`` for ``spec``."""
    if spec["name"] in backbones.BACKBONES:
        return backbones.build(spec)
    if spec.get("dropout"):
        raise WsssError(f"segment.backbone.dropout: '{spec['name']}' has none; set it to null")
    encoder = Encoder(spec["name"], spec.get("output_stride") or 16)
    if spec.get("weights"):
        naming = Naming(_official)
        load_official(encoder.encoder, read_state(spec["weights"]), naming, str(spec["weights"]))
    return encoder.fix(spec.get("freeze") or (), spec.get("freeze_norm") or False)


def _official(name: str) -> str:
    """timm's own name of a tensor, whose wrapper says ``model.blocks_0.`` for ``blocks.0.``; others keep theirs."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name.removeprefix("model."))
