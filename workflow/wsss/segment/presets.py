"""Settings of the segmentation networks, by name: ``presets.yaml``. Imports no torch: the plan reads them, too."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from wsss.errors import WsssError, choose
from wsss.files import read_yaml

FILE = Path(__file__).parent / "presets.yaml"
SECTIONS = ("deeplab", "predict")
OWN = ("labels", "preset")  # keys of a run, not of a preset


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the sections ``deeplab`` and ``predict`` of ``config`` by the preset that ``deeplab`` names.

    A value of null, and a key that is not there, is the preset's. Complete sections name no preset any more, so a
    second call changes nothing.

    Raises:
        WsssError: the preset, or a key, is unknown.
    """
    if "preset" not in config["deeplab"]:
        return dict(config)
    preset = choose(presets(), config["deeplab"]["preset"], "deeplab.preset")
    labels = {key: value for key, value in config["deeplab"].items() if key == "labels"}
    given = {name: {k: v for k, v in config[name].items() if k not in OWN} for name in SECTIONS if name in config}
    complete = {name: _filled(preset[name], given[name], name) for name in given}
    complete["deeplab"] |= labels
    return {**config, **complete}


@cache
def presets() -> dict[str, Any]:
    """Return all presets, by name."""
    found: dict[str, Any] = read_yaml(FILE)
    return found


def _filled(preset: dict[str, Any], given: dict[str, Any], where: str) -> dict[str, Any]:
    filled = copy.deepcopy(preset)
    for key, value in given.items():
        if key not in preset:
            raise WsssError(f"unknown key '{where}.{key}': choose one of {', '.join(preset)}")
        if isinstance(preset[key], dict):
            if not isinstance(value, dict | None):
                raise WsssError(f"{where}.{key}: give a mapping with some of {', '.join(preset[key])}, not '{value}'")
            filled[key] = _filled(preset[key], value or {}, f"{where}.{key}")
        elif value is not None:
            filled[key] = value
    return filled
