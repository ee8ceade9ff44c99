"""Resolve a run: put its settings together from all places that give some.

    defaults.yaml <- methods/<method>.yaml <- data set <- data set, this method <- the paper's run
                  <- data set, this run <- command line

DeepLab's settings are then completed by the preset that ``deeplab.preset`` names. Sizes are shrunk and networks
replaced as the data set says. Finally, every value is checked.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsss import stages
from wsss.errors import WsssError
from wsss.plan.layers import Layer, Raw, blame, overlay
from wsss.plan.references import is_reference
from wsss.plan.written import read
from wsss.segment import presets
from wsss.settings.check import check

PACKAGE = Path(__file__).parent.parent
ORDERED = (  # settings of which the first may not be above the second
    (("affinity", "low_alpha"), ("affinity", "high_alpha")),
    (("irn_marks", "bg_threshold"), ("irn_marks", "fg_threshold")),
)
PIXEL_KEYS = {"crop", "long_side", "translation", "sxy"}  # sizes that shrink with the images of a small data set


@functools.cache
def methods() -> tuple[str, ...]:
    """Return the names of all methods: those with a settings file."""
    files = (PACKAGE / "methods").glob("*.yaml")
    return tuple(sorted(file.stem for file in files))


@functools.cache
def _package_layer(name: str) -> Layer:
    """Return a file of the package as a layer."""
    path = PACKAGE / name
    return Layer(path.name, read(path), (path,))


def _own_layers(method: str) -> list[Layer]:
    """Return the layers that the package itself has for a method."""
    known = methods()
    if method not in known:
        raise WsssError(f"unknown method '{method}': choose one of {', '.join(known)}")
    return [
        _package_layer("defaults.yaml"),
        _package_layer(f"methods/{method}.yaml"),
    ]


def method_settings(method: str) -> Raw:
    """Put the released settings of ``method`` on top of the defaults."""
    return copy.deepcopy(_released(method))


@functools.cache
def _released(method: str) -> Raw:
    """Return the released settings of a method, which all runs share."""
    defaults, own = _own_layers(method)
    settings = overlay(defaults.says or {}, own, new_keys=True)
    named = {"name": method, **settings.get("method", {})}
    return {**settings, "method": named}


def method_of(run: Raw) -> str:
    """Return the name of the method in a run's entry, which is a name or a mapping with one."""
    method = run.get("method", "cam")
    if isinstance(method, dict):
        return str(method["name"])
    return str(method)


def paper_layer(
    name: str,
    run: Raw,
    file: Path | None,
    keys: tuple[str, ...],
) -> Layer:
    """Make the layer of a paper's run.

    Args:
        name: what the run is called in errors.
        run: its entry: ``method`` and overrides, section by section.
        file: the paper file, if there is one.
        keys: where in the file the run stands.
    """
    says = _without(run, "method", "note")
    method = run.get("method", "cam")
    if isinstance(method, dict):
        says["method"] = _without(method, "name")
    files = (file,) if file else ()
    return Layer(name, says, files, keys)


def _without(value: Raw, *keys: str) -> Raw:
    """Copy a mapping without some of its keys."""
    found = {}
    for key, inner in value.items():
        if key not in keys:
            found[key] = inner
    return found


def resolve(
    method: str,
    layers: Sequence[Layer],
    pixels: float = 1.0,
    networks: Raw | None = None,
) -> Raw:
    """Resolve all sections of one run, complete and checked, without its seed.

    Args:
        method: the name of the run's method.
        layers: what is said of the run beyond the package's own settings, the weakest first.
        pixels: the factor of all sizes in pixels.
        networks: replacements of networks by name, see :func:`stand_in`.

    Raises:
        WsssError: an unknown key or a wrong value; names the layer that says it.
    """
    config = _released(method)
    for layer in layers:
        config = overlay(config, layer)
    every = [*_own_layers(method), *layers]
    _refuse_references(config, every)
    config = _with_learnable(config)
    config = _with_preset(config, every)
    config = shrink(config, pixels)
    config = stand_in(config, networks or {})
    for finding in check(config):
        raise blame(every, finding.path, finding.message)
    _refuse_wrong_order(config, every)
    _refuse_impossible_deeplab(config, every)
    return config


def _refuse_wrong_order(config: Raw, layers: list[Layer]) -> None:
    """Refuse two settings in the wrong order; the error is of the strongest layer that gives one of them."""
    for low, high in ORDERED:
        lower, higher = (config[section][key] for section, key in (low, high))
        if lower <= higher:
            continue
        given = [(layer, path) for layer in layers for path in (low, high) if layer.has(path)]
        layer, path = given[-1]
        names = f"{'.'.join(low)} ({lower}) is above {'.'.join(high)} ({higher})"
        raise layer.wrong(path, f"is {config[path[0]][path[1]]}: {names}; give the former the lower value")


def _refuse_impossible_deeplab(config: Raw, layers: list[Layer]) -> None:
    """Refuse settings of DeepLab's training that its job, after all others, would refuse."""
    path, train = ("deeplab", "train"), config["deeplab"]["train"]
    if train["weights"]:
        message = "is given, but authors publish no DeepLab in a known format; set it to null"
        raise blame(layers, (*path, "weights"), message)
    if train["scale"] and train["long_side"]:
        message = "is given, and scale is, too: set one to false; null is the preset's value"
        raise blame(layers, (*path, "long_side"), message)
    if train["long_side"] and not train["antialias"]:
        message = "needs antialias: true. Without it only scale can vary sizes, so set long_side to false"
        raise blame(layers, (*path, "long_side"), message)


def _with_preset(config: Raw, layers: list[Layer]) -> Raw:
    """Complete DeepLab's settings by the preset they name; for an unknown one the error names the layer."""
    preset = config["deeplab"]["preset"]
    known = presets.presets()
    if preset not in known:
        message = f"is '{preset}': choose one of {', '.join(known)}"
        raise blame(layers, ("deeplab", "preset"), message)
    return presets.resolve(config)


def _refuse_references(config: Raw, layers: list[Layer]) -> None:
    """Refuse another run as official weights, which are a file; a training may start from another run."""
    for name in stages.TRAINED:
        if name == "deeplab":
            continue
        weights = stages.official_weights(name, config)
        if is_reference(weights):
            path = _path_of_weights(name)
            start = ".".join((*path[:-1], "start"))
            message = f"takes a file of official weights, not another run: to start from that, use {start}"
            raise blame(layers, path, message)


def _path_of_weights(stage: str) -> tuple[str, ...]:
    """Return the path of the setting that names the official weights of a stage."""
    if stage == "train":
        return ("train", "weights")
    own = stages.STAGES[stage].sections[-1]
    return (own, "train", "weights")


def _with_learnable(config: Raw) -> Raw:
    """Add to the CRF's exponents the two that AffinityNet learns from, which a data set's own list may lack."""
    affinity = config["affinity"]
    needed = {affinity["low_alpha"], affinity["high_alpha"]}
    crf = dict(config["crf"])
    crf["alphas"] = sorted(needed.union(crf["alphas"]))
    return {**config, "crf": crf}


def shrink(value: Any, factor: float) -> Any:
    """Copy nested settings with every size in pixels multiplied by ``factor`` and rounded, but to no less than 1."""
    if factor == 1.0 or not isinstance(value, dict):
        return value
    found = {}
    for key, inner in value.items():
        smaller = _scaled if key in PIXEL_KEYS else shrink
        found[key] = smaller(inner, factor)
    return found


def _scaled(size: Any, factor: float) -> Any:
    """Return a size, or each of a list of sizes, multiplied by ``factor``; 0 and None stay."""
    if isinstance(size, list):
        return [_scaled(inner, factor) for inner in size]
    if not size:
        return size
    scaled = round(size * factor)
    return max(1, scaled)


def stand_in(value: Any, table: Raw) -> Any:
    """Copy nested settings and overlay every ``backbone`` whose name is in ``table`` by that entry.

    A small data set trains small networks in place of the papers'. An entry that names another network replaces the
    whole mapping: a key that it does not give has that network's own value. What was said of the old network
    (``freeze`` lists its modules) does not hold for the new one.
    """
    if not isinstance(value, dict):
        return value
    replaced = {}
    for key, inner in value.items():
        replaced[key] = stand_in(inner, table)
    backbone = replaced.get("backbone")
    if isinstance(backbone, dict):
        replaced["backbone"] = _perhaps_replaced(backbone, table)
    return replaced


def _perhaps_replaced(backbone: Raw, table: Raw) -> Raw:
    """Return a network's mapping, or its stand-in if it has one."""
    name = backbone.get("name")
    if name not in table:
        return backbone
    return _replaced(backbone, table[name])


def _replaced(backbone: Raw, entry: Raw) -> Raw:
    """Put a stand-in over one network's mapping. Weights that a run trained stay."""
    name = backbone["name"]
    same = entry.get("name", name) == name
    base = backbone if same else dict.fromkeys(backbone)
    found = {**base, **entry}
    weights = backbone.get("weights")
    if is_reference(weights):
        found["weights"] = weights
    return found
