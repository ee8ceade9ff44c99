"""Write settings as YAML beside results, and read them again to compare them with the current ones.

This happens for every stage of every run before a workflow starts, so libyaml is used where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from wsss.errors import WsssError
from wsss.files import Constructor, read_text, read_yaml

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(Constructor, Parser):
    """The loader of ``files.read_yaml``, with libyaml where it is installed."""


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
        WsssError: there is no such file, it cannot be read, or it is not YAML.
    """
    try:
        return yaml.load(read_text(path), Loader=Loader)
    except (OSError, yaml.YAMLError, RecursionError):
        return read_yaml(path)  # which says what is wrong, and where


def read_by_hand(path: str | Path) -> Any:
    """Read a YAML file with keys that a person has written. A key that is given twice is refused: YAML takes the last.

    Raises:
        WsssError: there is no such file, it is not YAML, it has no keys, or a mapping has a key twice.
    """
    found = read(path)
    if not isinstance(found, dict):
        holds = "is empty" if found is None else "holds no mapping"
        raise WsssError(f"{path}: {holds}; write keys and values, such as 'key: value'")
    document = yaml.compose(read_text(path), Loader=Loader)
    for key in _repeated(document, set()):
        line = key.start_mark.line + 1
        raise WsssError(f"{path}: '{key.value}' is given twice in one place; keep one of them (line {line})")
    return found


def _repeated(node: yaml.Node | None, known: set[int]) -> Iterator[yaml.Node]:
    """Yield each key that repeats an earlier one of its mapping. Nodes that are ``known`` have been looked at."""
    if id(node) in known:
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _repeated(inner, known)
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            yield key
        seen.add(key.value)
        yield from _repeated(value, known)
