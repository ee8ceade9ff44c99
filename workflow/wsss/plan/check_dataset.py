"""Check the names in a data set's entry: a setting for a name that does not exist would have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wsss.plan import resolve
from wsss.plan.layers import Layer, Raw
from wsss.segment import presets
from wsss.settings.base import Backbone
from wsss.settings.check import check

SHAPES_LISTS = ("train", "measured", "val", "icons")  # splits of builder shapes, which draws its images


def check_dataset(
    name: str,
    spec: Raw,
    overrides: Raw,
    specs: dict[str, Raw],
    files: Sequence[Path] = (),
) -> None:
    """Check the names of methods, runs, networks and splits in a data set's entry.

    Args:
        name: the data set.
        spec: its entry.
        overrides: settings of every run.
        specs: all paper files, also those that are not configured.
        files: the files that the configuration comes from.

    Raises:
        WsssError: the first name that is unknown, with file and line if a file has it.
    """
    entry = Layer(f"configuration, datasets.{name}", spec, tuple(files), ("datasets", name))
    methods = resolve.methods()
    runs = _runs(specs)
    settings = [
        *map(resolve.method_settings, methods),
        presets.presets(),
        runs,
        overrides,
        *_own(spec),
    ]
    networks = _networks(settings)
    _check_names(entry, "stand_ins", _names(networks))
    _check_names(entry, "methods", methods)
    _check_names(entry, "runs", runs)
    _check_splits(entry, spec)
    _check_networks(entry, spec.get("stand_ins", {}))


def _names(networks: Iterable[Raw]) -> list[str]:
    """Return the names of networks, as far as they have one."""
    return [network["name"] for network in networks if network.get("name")]


def _check_names(entry: Layer, key: str, known: Iterable[str]) -> None:
    """Check that what the data set's entry names under a key is known."""
    choices = set(known)
    said: Raw = entry.says or {}
    for name in said.get(key, {}):
        if name not in choices:
            raise entry.wrong((key, name), f"is an unknown name: choose one of {', '.join(sorted(choices))}")


def _check_splits(entry: Layer, spec: Raw) -> None:
    """Check that every split which is named has a list of images."""
    named = {("splits", role): split for role, split in spec["splits"].items()}
    own = spec.get("pretraining", {})
    if "images" in own:
        named["pretraining", "images"] = own["images"]
    lists = sorted(_lists(spec))
    for place, split in named.items():
        if split not in lists:
            raise entry.wrong(place, f"is '{split}', which is no split: choose one of {', '.join(lists)}")


def _check_networks(entry: Layer, stand_ins: Raw) -> None:
    """Check the settings of networks that take the place of others. What an entry leaves out is not looked at."""
    for replaced, said in stand_ins.items():
        network = {**dict.fromkeys(Backbone.__annotations__), "name": replaced, **said}
        for finding in check({"backbone": network}):
            _, *keys = finding.path
            raise entry.wrong(("stand_ins", replaced, *keys), finding.message)


def _runs(specs: dict[str, Raw]) -> Raw:
    """Return every run of every paper, by ``<paper>/<run>``."""
    found = {}
    for paper, spec in specs.items():
        runs = spec.get("runs", {})
        for run, said in runs.items():
            found[f"{paper}/{run}"] = said
    return found


def _own(spec: Raw) -> list[Raw]:
    """Return the parts of a data set's entry that hold settings."""
    keys = ("overrides", "pretraining", "methods", "runs")
    return [spec.get(key, {}) for key in keys]


def _lists(spec: Raw) -> Raw:
    """Return the splits that a data set has lists of, as keys."""
    options = spec["options"]
    for key in ("lists", "sets"):
        if key in options:
            return dict(options[key])
    return dict.fromkeys(SHAPES_LISTS)


def _networks(settings: Any) -> Iterator[Raw]:
    """Yield every ``backbone`` mapping in nested settings."""
    if isinstance(settings, dict):
        backbone = settings.get("backbone")
        if isinstance(backbone, dict):
            yield backbone
        settings = list(settings.values())
    for inner in settings if isinstance(settings, list) else ():
        yield from _networks(inner)
