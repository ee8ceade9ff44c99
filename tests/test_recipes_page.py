"""The page of recipes says what the settings and the modules say: each setting with its value, each departure whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from wsss.plan import commented
from wsss.plan.recipes import BEHIND, departures, numbered
from wsss.plan.resolve import PACKAGE

ROOT = Path(__file__).parent.parent
FILES = [PACKAGE / "defaults.yaml", PACKAGE / "segment" / "presets.yaml", *sorted(PACKAGE.glob("methods/*.yaml"))]
MODULES = [*BEHIND.values(), *(f"methods/{path.stem}.py" for path in sorted(PACKAGE.glob("methods/*.yaml")))]


def test_the_page_is_what_the_command_prints():
    said = subprocess.run([sys.executable, "-m", "wsss.cli", "recipes"], capture_output=True, text=True, check=True)
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert said.stdout == page, "run `wsss recipes > docs/recipes.md`"
    assert "| `affinity.dropout_until` | `1600` | D12: step from which dropout is off; train_aff.py" in page
    for file in set(MODULES) - {"methods/recam.py"}:  # a paper that the default configuration leaves out
        assert all(f"* **D{number}** {text}" in page for number, text in numbered(file))


@pytest.mark.parametrize("file", MODULES)
def test_departures_are_numbered_without_a_gap_and_none_is_lost(file):
    """One that begins in the middle of a line would be swallowed by the page."""
    numbers = [number for number, _ in numbered(file)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(title and listed for title, listed in departures(file))
    docstring = ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) or ""
    assert not re.findall(r"^.+\bD\d  .*$", docstring, re.M)


def leaves(value: object, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*key, str(name)))
    else:
        yield key, value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_table_has_each_setting_once_with_its_value(path):
    """Rows that say `as ...` or `else as ...` take their values from the place that they name."""
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    shown: dict[tuple[str, ...], object] = {}
    taken: dict[tuple[str, ...], object] = {}
    for row in commented.settings(path, ())[2:]:
        name, value, source = (text.strip() for text in row.strip("|").split("|", 2))
        keys = tuple(name.strip("`").split("."))
        if like := re.fullmatch(r"(?:else )?as `(.*)`", source):
            place = whole
            for key in like[1].split("."):
                place = place[key]
            taken |= dict(leaves(place, keys))
        elif value:
            for inner, leaf in leaves(yaml.safe_load(value.strip("`")), keys):
                assert inner not in shown, inner
                shown[inner] = leaf
    assert taken | shown == dict(leaves(whole))
