"""Write settings as YAML beside results, and read them again to compare them with the current ones.

This happens for every stage of every run before a workflow starts, so libyaml is used where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from wsss.errors import WsssError
from wsss.files import read_text, read_yaml

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def as_yaml(value: Any) -> str:
    """Write settings as YAML, in the same bytes with and without libyaml: other bytes would make results stale."""
    text = str(yaml.dump(value, Dumper=Dumper))
    if "\\" in text:  # libyaml breaks lines elsewhere in texts with escapes
        return yaml.safe_dump(value)
    return text


_sections: dict[tuple[str, str], str] = {}  # what was written of sections, by name and content


def sections_as_yaml(value: dict[str, Any]) -> str:
    """Write settings as :func:`as_yaml` does, but each section once: stages and seeds of runs share most of them.

    Where one object stands in two places, YAML writes an alias, and the sections cannot be written one by one.
    """
    inner = _containers(value)
    if len(set(inner)) < len(inner):
        return as_yaml(value)
    parts = [_section(name, value[name]) for name in sorted(value)]
    return "".join(parts)


def _section(name: str, content: Any) -> str:
    """Write one section, or return what was written of an equal one."""
    key = (name, repr(content))
    if key not in _sections:
        _sections[key] = as_yaml({name: content})
    return _sections[key]


def _containers(value: Any) -> list[int]:
    """List the identity of every mapping and list in nested settings."""
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list | tuple):
            found.append(id(each))
            waiting += each.values() if isinstance(each, dict) else each
    return found


def read(path: str | Path) -> Any:
    """Read a YAML file, as ``files.read_yaml`` does.

    Raises:
        WsssError: there is no such file, or it is not YAML.
    """
    try:
        return yaml.load(read_text(path), Loader=Loader)
    except (FileNotFoundError, yaml.YAMLError):
        return read_yaml(path)  # which says what is wrong, and where


def read_by_hand(path: str | Path) -> Any:
    """Read a YAML file that a person has written. A key that is given twice is refused: YAML would take the last one.

    Raises:
        WsssError: there is no such file, it is not YAML, or a mapping has a key twice.
    """
    found = read(path)
    document = yaml.compose(read_text(path), Loader=Loader)
    for key in _repeated(document):
        line = key.start_mark.line + 1
        raise WsssError(f"{path}: '{key.value}' is given twice in one place; keep one of them (line {line})")
    return found


def _repeated(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield each key that repeats an earlier one of its mapping."""
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _repeated(inner)
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            yield key
        seen.add(key.value)
        yield from _repeated(value)
