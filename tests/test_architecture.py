"""The keys that docs/architecture.md lists are those that the code knows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from wsss.measure.metrics import Counts, iou, summary
from wsss.plan.papers import BY_COLUMN, CELL_KEYS, SCHEMA
from wsss.plan.written import read
from wsss.settings.base import Backbone, BackboneOptions

PAGE = (Path(__file__).parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def entry(name: str) -> str:
    """Return what the page says below a name in bold letters."""
    found = re.search(rf"^\*\*{name}\.\*\*(.*?)(?=^\*\*|^## )", PAGE, re.S | re.M)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def schema() -> dict:
    return read(SCHEMA)


def test_the_keys_of_a_table_cell(schema):
    bullets, of_row = entry("Table cell").split("A row also has")
    named = {name for head in re.findall(r"^\* ([^:;]+)", bullets, re.M) for name in CODE.findall(head)}
    assert named == set(CELL_KEYS) == set(schema["$defs"]["cell"]["properties"])
    row = set(schema["$defs"]["row"]["properties"])
    assert set(CODE.findall(of_row)) == {*BY_COLUMN, "note"} == row - {*CELL_KEYS, "label", "attributes", "cells"}


def test_the_keys_of_a_claim(schema):
    claim = schema["properties"]["claims"]["additionalProperties"]["properties"]
    text = entry("Claim")
    assert set(claim) <= set(CODE.findall(text))
    directions = {name for head in re.findall(r"^\* ([^:]+):", text, re.M) for name in CODE.findall(head)}
    assert directions == set(claim["direction"]["enum"])


def test_the_keys_of_a_backbone():
    found = re.search(r"`spec` is `\{(.*?)\}`", entry("Backbone"), re.S)
    assert found
    named = {key.strip() for key in found[1].split(",")}
    assert named == set(Backbone.__annotations__) - set(BackboneOptions.__annotations__)


def test_the_numbers_of_an_operating_point():
    point = re.search(r"\{name: \{(.*?)\}\}\}", entry("Metrics"), re.S)
    assert point
    named = re.findall(r'"(\w+)"(\??)', point[1])
    counts = Counts(*np.ones((3, 2), np.int64))
    computed = {**summary(counts), "iou": iou(counts), **vars(counts)}
    assert {name for name, optional in named if not optional} == set(computed)
