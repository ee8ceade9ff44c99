"""Settings of the segmentation networks, by name: ``presets.yaml``. Imports no torch: the plan reads them, too."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from wsss.errors import WsssError, choose
from wsss.files import read_yaml

FILE = Path(__file__).parent / "presets.yaml"
SECTIONS = ("segment", "predict")
OWN = ("labels", "preset")  # keys of a run, not of a preset


def resolve(config: dict) -> dict:
    """``config`` with its sections ``segment`` and ``predict`` completed by the preset that ``segment`` names.

    A value of null, and a key that is not there, is the preset's. Complete sections name no preset any more, so a
    second call changes nothing.

    Raises:
        WsssError: the preset, or a key, is unknown.
    """
    if "preset" not in config["segment"]:
        return config
    preset = choose(presets(), config["segment"]["preset"], "segment.preset")
    labels = {key: value for key, value in config["segment"].items() if key == "labels"}
    given = {name: {k: v for k, v in config[name].items() if k not in OWN} for name in SECTIONS if name in config}
    complete = {name: _filled(preset[name], given[name], name) for name in given}
    complete["segment"] |= labels
    return {**config, **complete}


@cache
def presets() -> dict:
    """All of them, by name."""
    return read_yaml(FILE)


def _filled(preset: dict, given: dict, where: str) -> dict:
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
