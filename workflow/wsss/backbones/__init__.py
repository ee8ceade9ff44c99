"""Networks with named taps, and every weight format they come in.

``build(spec)`` makes one; ``import_weights`` and ``export_weights`` speak the official formats.
"""

from __future__ import annotations

import inspect
from functools import partial

from wsss.backbones.base import Backbone
from wsss.backbones.mobilenet_v2 import MobileNetV2
from wsss.backbones.resnet import ResNet
from wsss.backbones.resnet38d import ResNet38d
from wsss.backbones.tiny import Tiny
from wsss.backbones.vgg16 import VGG16
from wsss.backbones.vit import ViT
from wsss.backbones.weights import export_weights, import_weights, initial, load_backbone, without_weights
from wsss.errors import WsssError, choose

__all__ = [
    "BACKBONES",
    "Backbone",
    "build",
    "export_weights",
    "import_weights",
    "initial",
    "load_backbone",
    "without_weights",
]

BACKBONES = {
    "resnet38d": ResNet38d,
    "vgg16": VGG16,
    "resnet18": partial(ResNet, "resnet18"),
    "resnet50": partial(ResNet, "resnet50"),
    "resnet101": partial(ResNet, "resnet101"),
    "wide_resnet50": partial(ResNet, "wide_resnet50_2"),
    "mobilenet_v2": MobileNetV2,
    "tiny": Tiny,
    "vit": ViT,
}


def build(spec: dict) -> Backbone:
    """Make the backbone ``spec["name"]``; ``vit:<name>`` is that network of timm.

    ``weights`` (a file of any known format), ``freeze`` (module names) and ``freeze_norm`` (true, false, statistics)
    suit all; ``output_stride``, ``dropout`` and others are keywords of the class. A value ``None`` means the default.
    """
    options = {key: value for key, value in spec.items() if value is not None}
    if "name" not in options:
        raise WsssError(f"backbone.name is missing: choose one of {', '.join(sorted(BACKBONES))}")
    name, weights = options.pop("name"), options.pop("weights", None)
    freeze, freeze_norm = options.pop("freeze", ()), options.pop("freeze_norm", False)
    name, _, variant = name.partition(":")
    factory = choose(BACKBONES, name, "backbone")
    options |= {"variant": variant} if variant else {}
    known = inspect.signature(factory).parameters
    for key in options:
        if key not in known:
            common = ("name", "weights", "freeze", "freeze_norm")
            raise WsssError(f"backbone.{key}: unknown key; {name} takes {', '.join([*common, *known])}")
    backbone = factory(**options)
    if weights:
        load_backbone(backbone, weights)
    return backbone.fix(freeze, freeze_norm)
