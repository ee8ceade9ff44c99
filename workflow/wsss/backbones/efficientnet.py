"""EfficientNets of the first port to PyTorch (lukemelas/EfficientNet-PyTorch) under the names that timm gives them.

The port numbers its blocks from first to last. timm numbers them within stages; the blocks of a stage have one width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
EXPANDING = SQUEEZE | {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
PLAIN = SQUEEZE | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def is_port(state: Mapping[str, Tensor]) -> bool:
    """Return true if the names are those of the port."""
    return "_conv_stem.weight" in state


def timm_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each name of a file of the port to timm's, for example ``_blocks.2._bn0.bias`` to ``blocks.1.1.bn1.bias``.

    Other names stay.
    """
    places = _places(state)
    return {name: _timm_name(name, places, state) for name in state}


def _places(state: Mapping[str, Tensor]) -> dict[int, str]:
    """Map the number of a block to its stage and its place there."""
    widths = {}
    for name, value in state.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\._project_conv\.weight", name):
            widths[int(match[1])] = value.shape[:1]
    places = {}
    stage, place, before = -1, 0, None
    for number, width in sorted(widths.items()):
        stage, place = (stage, place + 1) if width == before else (stage + 1, 0)
        places[number], before = f"blocks.{stage}.{place}", width
    return places


def _timm_name(name: str, places: Mapping[int, str], state: Mapping[str, Tensor]) -> str:
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, layer, leaf = int(match[1]), match[2], match[3]
        layers = EXPANDING if f"_blocks.{number}._expand_conv.weight" in state else PLAIN
        known = number in places and layer in layers
        return f"{places[number]}.{layers[layer]}.{leaf}" if known else name
    layer, _, leaf = name.partition(".")
    return f"{OUTSIDE[layer]}.{leaf}" if layer in OUTSIDE else name
