"""The page ``docs/questions.md`` is true: its commands, settings and errors exist, and its configurations are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from wsss.cli import parser
from wsss.plan import Plan, configuration, targets
from wsss.plan.jobs import is_result, job_of
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/questions.md").read_text(encoding="utf-8")
OWN = """
builder: folder
options: {root: mine, classes: [cat], lists: {train: train.txt}}
splits: {train: train, measured: train, val: train}
seeds: [0]
"""
INLINE = re.compile(r"`([^`\n]+)`")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return lines + [word for word in INLINE.findall(PAGE) if word.startswith("snakemake ")]


@pytest.fixture(scope="module")
def config() -> dict:
    """The project's configuration, with a data set ``mine``."""
    found = yaml.safe_load((ROOT / "config.yaml").read_text())
    found["datasets"]["mine"] = yaml.safe_load(OWN)
    return found


@pytest.mark.parametrize("line", commands())
def test_a_command_exists(line, config):
    plan = Plan(config)
    program, *arguments = shlex.split(line)
    if program == "wsss":
        given = parser().parse_args(arguments)
        named = [getattr(given, "target", None), *getattr(given, "names", ())]
        assert set(filter(None, named)) <= {*targets.words(plan, "shapes")}
        return
    from snakemake.cli import get_argument_parser

    asked = get_argument_parser().parse_args(arguments).targets
    assert asked
    for target in asked:
        file = Path(target)
        if target in targets.words(plan, "shapes") or target == "results/shapes/data/index.csv":
            continue
        job = job_of(plan, file)
        assert job is not None, target
        assert job.run in plan.papers[job.paper]["runs"], target
        assert is_result(plan, file) or file.name == "config.yaml", target


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_configuration_is_valid(text, config):
    says = yaml.safe_load(text)
    assert says
    whole = overlay(config, Layer("page", says), new_keys=True)
    configuration.check(whole, [])
    for name in says.get("datasets", {"shapes": {}}):
        Plan(whole).check(name)


def test_settings_that_it_names_exist():
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`", PAGE))
    sections = method_settings("cam")
    found = {name for name in named if name.partition(".")[0] in sections}
    assert {"affinity.low_alpha", "walk.crf", "train.optimizer.lr", "affinity.backbone.weights"} <= found
    for name in found:
        value = sections
        for key in name.split("."):
            assert key in value, name
            value = value[key]


def test_errors_that_it_lists_are_said():
    """But for the numbers and names in them."""
    errors = re.findall(r"^\| `(.*?)`", PAGE, re.MULTILINE)
    assert len(errors) > 8
    code = "".join(path.read_text() for path in (ROOT / "workflow").rglob("*") if path.suffix in (".py", ".smk"))
    for error in errors:
        for part in re.split(r"[\d(), ]{2,}|\bcoco14\b", error):
            assert part in code, error


def test_an_exponent_is_like_the_threshold_that_it_says():
    said = re.search(r"(\d+ like 0\.\d+(?:, \d+ like 0\.\d+)+)", PAGE.replace("\n", " "))[1]
    pairs = [entry.split(" like ") for entry in said.split(", ")]
    assert len(pairs) > 3
    for alpha, threshold in pairs:
        low, high = (float(threshold) + step for step in (-0.005, 0.005))
        assert (1 - low) ** float(alpha) > low
        assert (1 - high) ** float(alpha) < high


def test_files_that_it_names_exist():
    named = {word for word in INLINE.findall(PAGE) if re.fullmatch(r"(docs|workflow)/[\w./-]+\.\w+", word)}
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
