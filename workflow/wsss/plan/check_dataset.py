"""Checks of a data set's entry in the configuration: names that nothing is called would be said in vain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from wsss.errors import choose
from wsss.plan import resolve
from wsss.plan.layers import Raw
from wsss.segment import presets

SHAPES_LISTS = ("train", "val")  # splits of a drawn data set


def check_dataset(name: str, spec: Raw, overrides: Raw, specs: dict[str, Raw]) -> None:
    """Check the names in a data set's entry that settings go by.

    Args:
        name: the data set.
        spec: its entry.
        overrides: settings of every run.
        specs: all paper files, also those that are not configured.

    Raises:
        WsssError: the first name that is unknown.
    """
    where = f"datasets.{name}"
    runs = _runs(specs)
    settings = [*map(resolve.method_settings, resolve.methods()), presets.presets(), runs, overrides, *_own(spec)]
    networks = list(_networks(settings))
    known: dict[str, Iterable[str]] = {
        "stand_ins": {network["name"] for network in networks if network.get("name")},
        "methods": resolve.methods(),
        "runs": runs,
    }
    for key, names in known.items():
        for entry in spec.get(key, {}):
            choose(dict.fromkeys(names), entry, f"name in {where}.{key}")
    for role, split in spec["splits"].items():
        choose(_lists(spec), split, f"split in {where}.splits.{role}")
    _check_keys(spec.get("stand_ins", {}), networks, where)


def _check_keys(stand_ins: Raw, networks: list[Raw], where: str) -> None:
    """Check the keys of networks that take the place of others."""
    known: dict[str, None] = {}
    for network in networks:
        known |= dict.fromkeys(network)
    for network, entry in stand_ins.items():
        for key in entry:
            choose(known, key, f"key of {where}.stand_ins.{network}")


def _runs(specs: dict[str, Raw]) -> Raw:
    """Return every run of every paper, by ``<paper>/<run>``."""
    found = {}
    for paper, spec in specs.items():
        for run, said in spec.get("runs", {}).items():
            found[f"{paper}/{run}"] = said
    return found


def _own(spec: Raw) -> list[Raw]:
    """Return the parts of a data set's entry that hold settings."""
    return [spec.get(key, {}) for key in ("overrides", "pretraining", "methods", "runs")]


def _lists(spec: Raw) -> Raw:
    options = spec["options"]
    return options.get("lists", options.get("sets", dict.fromkeys(SHAPES_LISTS)))


def _networks(settings: Any) -> Iterator[Raw]:
    """Yield every ``backbone`` mapping in nested settings."""
    if isinstance(settings, dict):
        if isinstance(settings.get("backbone"), dict):
            yield settings["backbone"]
        settings = list(settings.values())
    for inner in settings if isinstance(settings, list) else ():
        yield from _networks(inner)
