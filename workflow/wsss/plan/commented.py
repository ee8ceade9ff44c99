"""The settings of a YAML file with the comments after them, in which people say where a value comes from.

A comment stands at the end of its key's line, and goes on in indented lines below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

COMMENT = re.compile(r"(?:^|\s)# (.*)$")
MORE = re.compile(r"^\s+# ")
ANCHOR = re.compile(r"^&\S+\s*")
MERGE = "tag:yaml.org,2002:merge"  # of the key <<

Keys = tuple[str, ...]


def head(path: Path) -> str:
    """Return the comment at the top of a YAML file: the release."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("# "))
    return _said(lines[:end])


def above(path: Path, key: str) -> str:
    """Return the comment right above a key at the top level of a YAML file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    start = end
    while start and lines[start - 1].startswith("# "):
        start -= 1
    return _said(lines[start:end])


def settings(path: Path, below: Keys) -> list[str]:
    """Return a Markdown table of the settings in a YAML file below some keys, with the comment of each line.

    A mapping that repeats an earlier one is not written out; its row names the keys of the earlier one. So does the row
    of ``<<: *name``. There is one exception: if the anchor itself stands at a merge (``<<: &name``), the earlier
    mapping has no key that a row could name, and its settings are written out.
    """
    reader = _Reader(path.read_text(encoding="utf-8"))
    depth = len(below)
    body = []
    for row in reader.all():
        if row.keys[:depth] == below and (row.value or row.source):
            keys = row.keys[depth:] or row.keys[-1:]
            body.append(_line(".".join(keys), row))
    if not body:
        return []
    return ["| setting | value | source |", "| --- | --- | --- |", *body]


def _line(name: str, row: _Row) -> str:
    """Return the line of a setting: its name, its value and its source, with nothing that Markdown would swallow."""
    value = f"`{row.value}`" if row.value else ""
    source = row.source.replace("<", "\\<")
    cells = (cell.replace("|", "\\|") for cell in (f"`{name}`", value, source))
    return f"| {' | '.join(cells)} |"


class _Row(NamedTuple):
    """A setting: its keys, its value as a text (none if its parts have rows of their own), and its comment."""

    keys: Keys
    value: str
    source: str


class _Reader:
    """The rows of a YAML text, from its nodes. A node that an alias repeats is the same object."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.splitlines()
        self._places: dict[int, Keys] = {}  # id of a mapping -> where it stands first
        self._placeless: set[int] = set()  # ids of mappings that stand first behind <<

    def all(self) -> Iterator[_Row]:
        """Yield all settings."""
        node = yaml.compose(self._text)
        if isinstance(node, yaml.MappingNode):
            yield from self.rows(node, ())

    def rows(self, mapping: yaml.MappingNode, keys: Keys, given: frozenset[str] = frozenset()) -> Iterator[_Row]:
        """Yield the settings of a mapping.

        Args:
            mapping: the node.
            keys: where it stands.
            given: keys to leave out, since the mapping that it is merged into gives them itself.
        """
        own = given | {key.value for key, _ in mapping.value}
        for key, value in mapping.value:
            if key.tag == MERGE:
                yield from self._merged(key, value, keys, own)
            elif key.value not in given:
                yield from self._setting(key, value, (*keys, key.value))

    def _merged(self, key: yaml.Node, value: yaml.MappingNode, keys: Keys, given: frozenset[str]) -> Iterator[_Row]:
        """Yield what a mapping at ``keys`` takes from another one, ``value``, without the keys in ``given``."""
        if id(value) not in self._places:
            self._places[id(value)] = keys
            self._placeless.add(id(value))
        if id(value) in self._placeless:
            yield from self.rows(value, keys, given)
        else:
            yield _Row(keys, "", self._like("else as", value, key))

    def _setting(self, key: yaml.Node, value: yaml.Node, keys: Keys) -> Iterator[_Row]:
        """Yield the row of a key, and those of a block of settings below it."""
        first = key.start_mark.line
        if not isinstance(value, yaml.MappingNode):
            yield _Row(keys, self._value(value), self._comment(first, value))
            return
        if self._places.setdefault(id(value), keys) != keys:
            yield _Row(keys, "", self._like("as", value, key))
        elif value.flow_style:
            yield _Row(keys, self._value(value), self._comment(first, value))
        else:
            yield _Row(keys, "", self._comment(first))
            yield from self.rows(value, keys)

    def _like(self, word: str, value: yaml.Node, key: yaml.Node) -> str:
        """Say which place a mapping repeats, and what the comment adds."""
        place = ".".join(self._places[id(value)])
        comment = self._comment(key.start_mark.line)
        return "; ".join(filter(None, [f"{word} `{place}`", comment]))

    def _value(self, node: yaml.Node) -> str:
        """Return a value as it is written, on one line."""
        text = self._text[node.start_mark.index : node.end_mark.index]
        return " ".join(ANCHOR.sub("", text).split())

    def _comment(self, first: int, value: yaml.Node | None = None) -> str:
        """Return the comment that begins at a line, and goes on to the end of the value and below."""
        last = value.end_mark.line if value and value.end_mark.column else first
        while last + 1 < len(self._lines) and MORE.match(self._lines[last + 1]):
            last += 1
        return _said(self._lines[first : last + 1])


def _said(lines: list[str]) -> str:
    """Join the comments of some lines."""
    comments = [COMMENT.search(line) for line in lines]
    return " ".join(comment[1] for comment in comments if comment)
