"""Layers of settings: who says what, and where it stands.

The settings of a run come about layer by layer, and the later layer is the stronger. A fault is reported for the
strongest layer that says the faulty value, with its file and line.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wsss.errors import WsssError

Raw = dict[str, Any]  # a mapping as YAML has it
Keys = Sequence[str | int]
NOTHING = object()  # in place of a value that is not there
AS_TEXT = (
    "YAML reads 2e-3 as text: write 2.0e-3; Snakemake reads numbers inside --config key={...} as text: use --configfile"
)


@dataclass(frozen=True)
class Layer:
    """The settings of a run that one place gives.

    Args:
        name: what the place is called in errors.
        says: the mapping of settings; None for nothing.
        files: YAML files that may hold it, the stronger ones later. The last that gives the setting its value is named.
        keys: where in the file the mapping stands.
    """

    name: str
    says: Raw | None
    files: tuple[Path, ...] = ()
    keys: tuple[str | int, ...] = ()

    def has(self, path: Keys) -> bool:
        """Tell whether this layer gives the setting at ``path``, or a part of it."""
        value: Any = self.says
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    def wrong(self, path: Keys, message: str) -> WsssError:
        """Return the error for a setting that this layer gives."""
        key = ".".join(map(str, path))
        place = self._line(path)
        return WsssError(f"{self.name}: '{key}' {message}{place}")

    def _line(self, path: Keys) -> str:
        """Say in which file and line a setting stands; nothing where that is not known, as on the command line."""
        keys = [*self.keys, *path]
        said = _at(self.says, path)
        for file in reversed(self.files):
            line = line_of(file, keys, exactly=True)
            if line and _may_be(said, _at(yaml.safe_load(file.read_text(encoding="utf-8")), keys)):
                return f" ({file.name}, line {line})"
        return ""


def blame(layers: Iterable[Layer], path: Keys, message: str) -> WsssError:
    """Return the error for a wrong setting, with the strongest layer that gives it."""
    found = list(layers)
    for end in range(len(path), 0, -1):
        part = path[:end]
        for layer in reversed(found):
            if layer.has(part):
                return layer.wrong(path, message)
    strongest = found[-1]
    return strongest.wrong(path, message)


def overlay(base: Raw, layer: Layer, *, new_keys: bool = False) -> Raw:
    """Put a layer on top of ``base``, which stays as it is.

    Mappings merge key by key. All else is replaced, also schedules, which are mappings from epochs. What the layer does
    not touch is shared with ``base``, so settings are never changed in place.

    Args:
        base: the settings so far.
        layer: what goes on top.
        new_keys: whether the layer may bring keys that ``base`` does not have.

    Raises:
        WsssError: the layer has an unknown key, or a text in place of a number.
    """
    merge = _Merge(layer, new_keys)
    return merge.merged(base, layer.says or {}, ())


@dataclass(frozen=True)
class _Merge:
    """The rules by which a layer is put on top of settings."""

    layer: Layer
    new_keys: bool

    def merged(self, base: Raw, over: Raw, path: tuple[str | int, ...]) -> Raw:
        """Return the part of the settings at ``path`` with that of the layer on top."""
        found = dict(base)
        for key, value in over.items():
            here = (*path, key)
            self.check(base, here, value)
            below = base.get(key)
            if _merges(below, value):
                value = self.merged(base[key], value, here)
            found[key] = value
        return found

    def check(self, base: Raw, path: tuple[str | int, ...], value: Any) -> None:
        """Refuse an unknown key at ``path``, and a text in place of a number."""
        key: Any = path[-1]
        if key not in base and not self.new_keys:
            known = ", ".join(map(str, base))
            raise self.layer.wrong(path, f"is an unknown key: choose one of {known}")
        is_number = type(base.get(key)) in (int, float)
        if is_number and isinstance(value, str):
            message = f"is a number, not the text '{value}' ({AS_TEXT})"
            raise self.layer.wrong(path, message)


def _merges(below: Any, above: Any) -> bool:
    """Tell whether both are mappings of settings, and the upper one is no schedule."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return False
    return not is_schedule(above)


def is_schedule(value: Raw) -> bool:
    """Tell whether a mapping is one from epochs to values."""
    return any(isinstance(key, int) for key in value)


# ---- lines of YAML files


@functools.cache
def _composed(path: Path, _: int) -> yaml.Node | None:
    """Read the nodes of a YAML file. The second argument is its time of change, so an unchanged file is read once."""
    text = path.read_text(encoding="utf-8")
    return yaml.compose(text)


def line_of(path: str | Path, keys: Keys, exactly: bool = False) -> int:
    """Find the line of a YAML file where the entry at ``keys`` (names and list positions) stands.

    For an entry that is not there it is the line of the nearest parent; with ``exactly`` it is 0.
    """
    path = Path(path)
    if not path.is_file():
        return 0
    changed = path.stat().st_mtime_ns
    node: Any = _composed(path, changed)
    line = node.start_mark.line
    for key in keys:
        found = _entry(node, key)
        if found is None:
            return 0 if exactly else line + 1
        line, node = found
    return line + 1


def _at(value: Any, path: Keys) -> Any:
    """Return what stands at ``path`` in nested mappings and lists; ``NOTHING`` if nothing does."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return NOTHING
    return value


def _may_be(said: Any, of_file: Any) -> bool:
    """Tell whether a setting can be that of a file; a mapping may be put together from several files."""
    return said is NOTHING or isinstance(said, dict) or said == of_file


def _entry(node: Any, key: str | int) -> tuple[int, Any] | None:
    """Find an entry of a YAML node: its line, and the entry."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        entry = node.value[key]
        return entry.start_mark.line, entry
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.value == str(key):
            return name.start_mark.line, value
    return _merged_entry(node, key)


def _merged_entry(node: yaml.MappingNode, key: str | int) -> tuple[int, Any] | None:
    """Find an entry in the mappings that ``<<: *anchor`` merges into a node."""
    for name, value in node.value:
        if name.value != "<<":
            continue
        found = _entry(value, key)
        if found:
            return found
    return None
