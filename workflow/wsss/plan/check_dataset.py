"""Check the names in a data set's entry: a setting for a name that does not exist would have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from wsss.errors import WsssError, choose
from wsss.plan import resolve
from wsss.plan.layers import Raw
from wsss.segment import presets
from wsss.settings.base import Backbone
from wsss.settings.check import check

SHAPES_LISTS = ("train", "measured", "val", "icons")  # splits of builder shapes, which draws its images


def check_dataset(
    name: str,
    spec: Raw,
    overrides: Raw,
    specs: dict[str, Raw],
) -> None:
    """Check the names of methods, runs, networks and splits in a data set's entry.

    Args:
        name: the data set.
        spec: its entry.
        overrides: settings of every run.
        specs: all paper files, also those that are not configured.

    Raises:
        WsssError: the first name that is unknown.
    """
    where = f"datasets.{name}"
    stand_ins = spec.get("stand_ins", {})
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
    _check_names(stand_ins, _names(networks), f"{where}.stand_ins")
    _check_names(spec.get("methods", {}), methods, f"{where}.methods")
    _check_names(spec.get("runs", {}), runs, f"{where}.runs")
    _check_splits(spec, where)
    _check_networks(stand_ins, f"{where}.stand_ins")


def _names(networks: Iterable[Raw]) -> list[str]:
    """Return the names of networks, as far as they have one."""
    return [network["name"] for network in networks if network.get("name")]


def _check_names(entries: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that what an entry names is known."""
    choices = dict.fromkeys(known)
    for entry in entries:
        choose(choices, entry, f"name in {where}")


def _check_splits(spec: Raw, where: str) -> None:
    """Check that every split which is named has a list of images."""
    lists = _lists(spec)
    for role, split in spec["splits"].items():
        choose(lists, split, f"split in {where}.splits.{role}")
    own = spec.get("pretraining", {})
    if "images" in own:
        choose(lists, own["images"], f"split in {where}.pretraining.images")


def _check_networks(stand_ins: Raw, where: str) -> None:
    """Check the settings of networks that take the place of others. What an entry leaves out is not looked at."""
    for replaced, entry in stand_ins.items():
        network = {**dict.fromkeys(Backbone.__annotations__), "name": replaced, **entry}
        for finding in check({"backbone": network}):
            _, *keys = finding.path
            place = ".".join([where, replaced, *keys])
            raise WsssError(f"{place} {finding.message}")


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
