"""The settings of a YAML file with the comments after them, in which people say where a value comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w\"':.<-]+):(?: (?P<value>.*?))??(?:\s+# (?P<source>.*))?$")
MORE = re.compile(r"^\s*# (?P<source>.*)$")
ANCHOR = re.compile(r"^&(\w+)\s*")
MERGED = "<<"  # YAML's key for a mapping whose keys count where the mapping around it lacks them


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
    for line in _effective(_lines(path)):
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
    """A line of a YAML file: the keys of what stands there, its value as a text, and the comment after it.

    ``MERGED`` is one of the keys of what a mapping merges in under a name of its own (``<<: &anchor``). A line that
    merges this in elsewhere (``<<: *anchor``) has the keys of that place as its ``like``.
    """

    keys: tuple[str, ...]
    value: str
    source: str
    like: tuple[str, ...] = ()


class _Outline:
    """The keys around a line of a YAML file, while it is read line by line, and the places of its anchors."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []  # (indent, key)
        self._anchors: dict[str, tuple[str, ...]] = {}

    def line_of(self, match: re.Match[str]) -> _Line | None:
        """Return what a line with a key says; None where it only gives a name to what is below."""
        key = match["key"]
        value = match["value"] or ""
        keys = self._keys_of(key, len(match["indent"]))
        anchor = ANCHOR.match(value)
        if anchor:
            self._anchors[anchor[1]] = keys
        if key == MERGED:
            return None if anchor else self._merged(keys, value)
        if value.startswith("*"):
            return _Line(keys, "", self._as(value))
        source = match["source"] or ""
        return _Line(keys, ANCHOR.sub("", value), source)

    def _merged(self, keys: tuple[str, ...], alias: str) -> _Line:
        """Return the line that merges in what ``*alias`` stands for."""
        place = self._anchors[alias.removeprefix("*")]
        if place[-1] == MERGED:
            return _Line(keys, "", "", like=place)
        return _Line(keys[:-1], "", f"else {self._as(alias)}")

    def _keys_of(self, key: str, indent: int) -> tuple[str, ...]:
        """Return the keys around a line and its own, and keep them for the lines below."""
        while self._open and self._open[-1][0] >= indent:
            self._open.pop()
        self._open.append((indent, key))
        return tuple(name for _, name in self._open)

    def _as(self, alias: str) -> str:
        """Say which place ``*alias`` stands for."""
        place = ".".join(self._anchors[alias.removeprefix("*")])
        return f"as `{place}`"


def _effective(lines: list[_Line]) -> list[_Line]:
    """Return the lines with what they merge in written out, without what a mapping gives anew."""
    written = []
    for line in lines:
        written += _written_out(line, lines) if line.like else [line]
    own = {line.keys[:depth] for line in written if MERGED not in line.keys for depth in range(len(line.keys) + 1)}
    found = []
    for line in written:
        keys = tuple(key for key in line.keys if key != MERGED)
        if MERGED in line.keys and keys[: line.keys.index(MERGED) + 1] in own:
            continue
        found.append(line._replace(keys=keys))
    return found


def _written_out(line: _Line, lines: list[_Line]) -> list[_Line]:
    """Return what a line merges in, as lines of the mapping that it stands in."""
    depth = len(line.like)
    return [other._replace(keys=line.keys + other.keys[depth:]) for other in lines if other.keys[:depth] == line.like]


def _lines(path: Path) -> list[_Line]:
    """List the lines of a YAML file that hold settings, in their order. A comment goes on in lines without a key.

    Where a mapping takes its missing keys from a whole other one (``<<: *anchor``), the comment names that one.
    """
    found: list[_Line] = []
    outline = _Outline()
    for text in _whole(path.read_text(encoding="utf-8").splitlines()):
        more = MORE.match(text) if text.startswith("    ") else None
        if found and more:
            found[-1] = _continued(found[-1], more["source"])
        match = KEY.match(text)
        line = outline.line_of(match) if match else None
        if line:
            found.append(line)
    return found


def _whole(lines: list[str]) -> list[str]:
    """Put each value in brackets on one line, behind its key."""
    found: list[str] = []
    unfinished = False
    for text in lines:
        if unfinished or text.strip().startswith(("{", "[")):
            found[-1] = _on_one_line(found[-1], text)
        else:
            found.append(text)
        value, _ = _apart(found[-1])
        unfinished = sum(map(value.count, "{[")) > sum(map(value.count, "}]"))
    return found


def _on_one_line(one: str, other: str) -> str:
    """Join two lines: their values, then their comments."""
    values, comments = zip(_apart(one), _apart(other), strict=True)
    first, second = values
    comment = " ".join(filter(None, comments))
    joined = f"{first} {second.strip()}"
    return f"{joined}  # {comment}" if comment else joined


def _apart(text: str) -> tuple[str, str]:
    """Return a line without its comment, and the comment."""
    value, _, comment = text.partition(" # ")
    return value.rstrip(), comment


def _continued(line: _Line, more: str) -> _Line:
    """Return a line whose comment goes on."""
    source = f"{line.source} {more}"
    return line._replace(source=source)
