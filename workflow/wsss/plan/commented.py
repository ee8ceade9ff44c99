"""The settings of a YAML file with the comments after them, in which people say where a value comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w\"':.<-]+):(?: (?P<value>.*?))??(?:\s+# (?P<source>.*))?$")
MORE = re.compile(r"^\s*# (?P<source>.*)$")
ANCHOR = re.compile(r"^&(\w+)\s*")


def head(path: Path) -> str:
    """Return the comment at the top of a YAML file: the release."""
    text = path.read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    return " ".join(lines)


def settings(path: Path, below: tuple[str, ...]) -> list[str]:
    """Return a Markdown table of the settings in a YAML file below some keys, with the comment of each line."""
    depth = len(below)
    body = []
    for line in _lines(path):
        if line.keys[:depth] != below:
            continue
        if line.value or line.source:
            keys = line.keys[depth:] or line.keys[-1:]
            name = ".".join(keys)
            body.append(_setting(name, line))
    if not body:
        return []
    return ["| setting | value | source |", "| --- | --- | --- |", *body]


def _setting(name: str, line: _Line) -> str:
    """Return the row of a setting: its name, its value and its source."""
    value = f"`{line.value}`" if line.value else ""
    return f"| `{name}` | {value} | {line.source} |"


class _Line(NamedTuple):
    """A line of a YAML file: the keys of what stands there, its value as a text, and the comment after it."""

    keys: tuple[str, ...]
    value: str
    source: str


class _Outline:
    """The keys around a line of a YAML file, while it is read line by line, and the places of its anchors."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []  # (indent, key)
        self._anchors: dict[str, str] = {}

    def line_of(self, match: re.Match[str]) -> _Line | None:
        """Return what a line with a key says; None where it only gives a name to what is below."""
        key = match["key"]
        value = match["value"] or ""
        keys = self._keys_of(key, len(match["indent"]))
        anchor = ANCHOR.match(value)
        if anchor:
            self._anchors[anchor[1]] = ".".join(keys)
        if key == "<<":
            return None if anchor else _Line(keys, "", f"else {self._like(value)}")
        if value.startswith("*"):
            return _Line(keys, "", self._like(value))
        source = match["source"] or ""
        return _Line(keys, ANCHOR.sub("", value), source)

    def _keys_of(self, key: str, indent: int) -> tuple[str, ...]:
        """Return the keys around a line and its own, and keep them for the lines below."""
        while self._open and self._open[-1][0] >= indent:
            self._open.pop()
        if key != "<<":
            self._open.append((indent, key))
        return tuple(name for _, name in self._open)

    def _like(self, alias: str) -> str:
        """Say which place ``*alias`` stands for."""
        place = self._anchors[alias.removeprefix("*")]
        return f"as `{place}`"


def _lines(path: Path) -> list[_Line]:
    """List the lines of a YAML file that hold settings, in their order. A comment goes on in lines without a key.

    Where a mapping takes its missing keys from another one (``<<: *anchor``), the comment names that one.
    """
    found: list[_Line] = []
    outline = _Outline()
    for text in path.read_text(encoding="utf-8").splitlines():
        more = MORE.match(text) if text.startswith("    ") else None
        if found and more:
            found[-1] = _continued(found[-1], more["source"])
        match = KEY.match(text)
        line = outline.line_of(match) if match else None
        if line:
            found.append(line)
    return found


def _continued(line: _Line, more: str) -> _Line:
    """Return a line whose comment goes on."""
    source = f"{line.source} {more}"
    return line._replace(source=source)
