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

from wsss.plan import commented, recipes
from wsss.plan.recipes import departures, numbered
from wsss.plan.resolve import PACKAGE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
DEFAULTS, PRESETS = PACKAGE / "defaults.yaml", PACKAGE / "segment" / "presets.yaml"
FILES = [DEFAULTS, PRESETS, *sorted(PACKAGE.glob("methods/*.yaml"))]
SHOWN = [path for path in FILES if path.stem != "recam"]  # a paper that the default configuration leaves out
CONVENTIONS = "data/coco.py"  # numbers ways to read masks, which are no departures


def docstring(file: str) -> str:
    return ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) or ""


MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
MODULES = [file for file in MODULES if re.search(r"^D1 ", docstring(file), re.M) and file != CONVENTIONS]


def test_the_page_is_what_the_command_prints():
    said = subprocess.run([sys.executable, "-m", "wsss.cli", "recipes"], capture_output=True, text=True, check=True)
    assert said.stdout == PAGE, "run `wsss recipes > docs/recipes.md`"


# ---- departures


def test_each_module_with_departures_is_on_the_page():
    assert len(MODULES) > 10
    for file in set(MODULES) - {"methods/recam.py"}:
        assert f"is numbered in `workflow/wsss/{file}`" in PAGE, file
    assert "`methods/aeft.py` D1 to D13" in PAGE


@pytest.mark.parametrize("file", MODULES)
def test_departures_are_numbered_without_a_gap_and_none_is_lost(file):
    """All that a module says from its first list on is a title or a departure."""
    numbers = [number for number, _ in numbered(file)]
    assert numbers == list(range(1, len(numbers) + 1))
    words = []
    for title, listed in departures(file):
        assert title[0].isupper()
        words += title.split()
        words += [word for number, text in listed for word in f"D{number} {text}".split()]
    said = docstring(file)
    whole = said[said.index(departures(file)[0][0]) :].split()
    assert [word.strip(":()") for word in words] == [word.strip(":()") for word in whole]


# ---- settings


def leaves(value: object, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield (keys, value) of everything in nested settings."""
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
        name, value, source = (text.strip() for text in re.split(r"(?<!\\)\|", row)[1:-1])
        keys = tuple(name.strip("`").split("."))
        if like := re.match(r"(?:else )?as `(.*?)`", source):
            place = whole
            for key in like[1].split("."):
                place = place[key]
            taken |= dict(leaves(place, keys))
        elif value:
            for inner, leaf in leaves(yaml.safe_load(value.strip("`").replace("\\|", "|")), keys):
                assert inner not in shown, inner
                shown[inner] = leaf
    assert taken | shown == dict(leaves(whole))


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_no_comment_is_lost(path):
    """But for the heading of the file of defaults and of presets, and what is said of a merge."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = lines[lines.index("") :] if path in (DEFAULTS, PRESETS) else lines
    comments = [re.search(r"(?:^|\s)# (.*)$", line) for line in lines if "<<: &" not in line]
    page = PAGE.replace("\\", "")
    assert not [comment[1] for comment in comments if comment and comment[1].strip() not in page]


def test_each_section_and_each_preset_has_a_table():
    sections = [name for name, value in yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")).items() if value]
    assert len(sections) > 12
    for section in sections:
        assert re.search(rf"^### `{section}`\n\n\| setting .*\n.*\n\| `", PAGE, re.M), section
    for preset in yaml.safe_load(PRESETS.read_text(encoding="utf-8")):
        assert re.search(rf"^### Preset `{preset}`\n\n[A-Z].*\n\n\| setting .*\n.*\n\| `", PAGE, re.M), preset
    assert "| `affinity.dropout_until` | `1600` | D12: step from which dropout is off; train_aff.py" in PAGE


def test_markdown_swallows_nothing():
    """What looks like a tag would not be shown, and a bar would end a cell."""
    columns = 0
    for line in PAGE.splitlines():
        bare = re.sub(r"`+[^`]*`+", "", line)
        assert not re.search(r"(?<!\\)<[A-Za-z/]", bare), line
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("| ") else 0
        assert bars == columns or not (bars and columns), line
        columns = bars


@pytest.mark.parametrize(
    "value", [1e-5, "null", "1e-5", {0: 8, 18: 32}, ["größe", None, True], {"lr": 0.1}, "a: b", -1]
)
def test_a_setting_of_a_run_is_shown_as_yaml(value):
    text = recipes._text(value)
    assert "\n" not in text
    assert yaml.safe_load(text) == value
