"""Networks with named taps, and every weight format they come in.

``build(spec)`` makes one; ``import_weights`` and ``export_weights`` speak the official formats.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from wsss.backbones.base import Backbone
from wsss.backbones.weights import (
    export_weights,
    import_weights,
    initial,
    load_backbone,
    load_whole,
    without_weights,
)
from wsss.errors import WsssError
from wsss.registry import Registry, load

__all__ = [
    "BACKBONES",
    "Backbone",
    "build",
    "export_weights",
    "import_weights",
    "initial",
    "load_backbone",
    "load_whole",
    "without_weights",
]

BACKBONES: Registry[str] = {
    "resnet38d": "wsss.backbones.resnet38d:ResNet38d",
    "vgg16": "wsss.backbones.vgg16:VGG16",
    "resnet18": "wsss.backbones.resnet:ResNet18",
    "resnet50": "wsss.backbones.resnet:ResNet50",
    "resnet101": "wsss.backbones.resnet:ResNet101",
    "wide_resnet50": "wsss.backbones.resnet:WideResNet50",
    "mobilenet_v2": "wsss.backbones.mobilenet_v2:MobileNetV2",
    "tiny": "wsss.backbones.tiny:Tiny",
    "vit": "wsss.backbones.vit:ViT",
    "timm": "wsss.backbones.timm_encoder:TimmEncoder",
}
COMMON = ("name", "weights", "freeze", "freeze_norm")  # keys that all networks take


def build(spec: Mapping[str, Any]) -> Backbone:
    """Make the backbone ``spec["name"]``; ``timm:<name>`` and ``vit:<name>`` are networks of timm.

    ``weights`` (a file of any known format, or ``package:<name>``), ``freeze`` (module names) and ``freeze_norm``
    (true, false, statistics) suit all; ``output_stride``, ``dropout`` and others are keywords of the class. A value
    ``None`` means the default.

    Raises:
        WsssError: a name or key is unknown, a value does not fit the network, or the weights are of another network.
    """
    options = {key: value for key, value in spec.items() if value is not None}
    if "name" not in options:
        raise WsssError(f"backbone.name is missing: choose one of {', '.join(sorted(BACKBONES))}")
    full_name, weights = options.pop("name"), options.pop("weights", None)
    freeze, freeze_norm = options.pop("freeze", ()), options.pop("freeze_norm", False)
    name, _, variant = full_name.partition(":")
    factory = load(BACKBONES, name, "backbone")
    options |= {"variant": variant} if variant else {}
    known = inspect.signature(factory).parameters
    for key in options:
        if key not in known:
            raise WsssError(f"backbone.{key}: unknown key; {name} takes {', '.join([*COMMON, *known])}")
    backbone: Backbone = factory(**options)
    backbone.name = full_name
    if weights:
        load_backbone(backbone, weights)
    return backbone.fix(freeze, freeze_norm)
