"""The guide ``docs/add-a-method.md`` is true: its blocks are in the files, its code runs, its commands exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from wsss.cli import parser
from wsss.methods import METHODS
from wsss.plan import Plan, targets
from wsss.plan.runs import Run

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs/add-a-method.md"
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
PROGRAMS = ("snakemake", "wsss", "pytest", "make")


class Block(NamedTuple):
    """A block of the guide: its language, the file that it is a part of (or ``run``), and its text."""

    language: str
    where: str
    text: str


def blocks(*languages: str) -> list[Block]:
    found = [Block(*match) for match in FENCE.findall(GUIDE.read_text(encoding="utf-8"))]
    return [block for block in found if block.language in languages]


def prose() -> str:
    return FENCE.sub("", GUIDE.read_text(encoding="utf-8"))


def commands() -> list[str]:
    """Every command of the guide, from its blocks and from its sentences."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines() if line]
    words = [word for word in INLINE.findall(prose()) if word.startswith(tuple(f"{name} " for name in PROGRAMS))]
    return [*lines, *words]


def faults(said: Any, there: Any, place: str = "") -> Iterator[str]:
    """The places where nested values of the guide are no part of a file's. A list may leave entries out."""
    if isinstance(said, dict) and isinstance(there, dict):
        for key, value in said.items():
            yield from faults(value, there.get(key), f"{place}.{key}")
    elif isinstance(said, list) and isinstance(there, list):
        rest = iter(there)
        yield from (f"{place}: {value}" for value in said if not any(value == other for other in rest))
    elif said != there:
        yield f"{place}: {said} is {there}"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan with the guide's paper among the configured ones."""
    return plan_of("recam")


def plan_of(*more: str) -> Plan:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return Plan({**config, "papers": [name for name in config["papers"] if name != "recam"] + list(more)})


# ---- its blocks


def test_every_block_is_of_a_kind_that_is_checked():
    assert {block.language for block in blocks("python", "yaml", "sh", "text")} == {"python", "yaml", "sh", "text"}
    assert len(blocks("python", "yaml", "sh", "text")) == len(re.findall(r"^```\w+", GUIDE.read_text(), re.MULTILINE))
    assert all(block.where for block in blocks("python", "yaml", "text"))


@pytest.mark.parametrize("block", [b for b in blocks("python", "text") if b.where != "run"])
def test_a_block_of_a_file_stands_there_word_for_word(block):
    assert block.text in (ROOT / block.where).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.where == "run"])
def test_a_block_to_run_runs_and_asserts_something(block):
    assert any(isinstance(node, ast.Assert) for node in ast.parse(block.text).body)
    exec(compile(block.text, str(GUIDE), "exec"), {})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_and_runs_are_those_of_the_files(block):
    there = yaml.safe_load((ROOT / block.where).read_text(encoding="utf-8"))
    said = yaml.safe_load(block.text)
    assert said
    assert not list(faults(said, there))


def test_a_value_that_differs_is_found():
    there = {"a": {"b": 1, "c": [1, 2, 3]}}
    assert not list(faults({"a": {"c": [1, 3]}}, there))
    assert list(faults({"a": {"b": 2}}, there)) == [".a.b: 2 is 1"]
    assert list(faults({"a": {"c": [3, 1]}}, there)) == [".a.c: 1"]
    assert list(faults({"d": 1}, there)) == [".d: 1 is None"]


# ---- its commands


@pytest.mark.parametrize("line", commands())
def test_a_command_exists(line, plan):
    program, *arguments = shlex.split(line)
    check = {"wsss": _wsss, "snakemake": _snakemake, "make": _make, "pytest": _pytest}[program]
    check(arguments, plan)


def _wsss(arguments: list[str], plan: Plan) -> None:
    parsed = parser().parse_args(arguments)
    assert set(getattr(parsed, "targets", None) or ()) <= set(targets.available(plan, "shapes"))


def _snakemake(arguments: list[str], plan: Plan) -> None:
    from snakemake.cli import get_argument_parser

    parsed = get_argument_parser().parse_args(arguments)
    assert parsed.targets or parsed.config
    assert set(parsed.targets) <= set(targets.available(plan, "shapes"))
    for key, _, value in (entry.partition("=") for entry in parsed.config or ()):
        assert key != "dataset" or plan.dataset(value)


def _make(arguments: list[str], plan: Plan) -> None:
    (goal,) = arguments
    assert re.search(rf"^{goal}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _pytest(arguments: list[str], plan: Plan) -> None:
    """Its files exist, and those from which it takes a method's tests have them for every method."""
    files = [ROOT / word for word in arguments if word.endswith(".py")]
    assert files
    assert all(file.exists() for file in files)
    if "-k" in arguments:
        assert arguments[arguments.index("-k") + 1] in METHODS
        assert all("METHODS" in file.read_text() for file in files)


# ---- its sentences


def test_every_file_that_it_names_exists():
    named = {word for word in INLINE.findall(prose()) if re.fullmatch(r"[\w./-]+/[\w.-]+\.\w+", word)}
    assert {"workflow/wsss/defaults.yaml", "tests/test_recam.py"} <= named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_function_that_it_lists_is_one_of_the_method_s():
    from wsss.methods.recam import ReCam

    listed = re.findall(r"^\| `(\w+)\(", prose(), re.MULTILINE)
    assert listed == ["parameter_groups", "losses", "localize"]
    assert all(name in vars(ReCam) for name in listed)


def test_the_table_is_written_where_it_says(plan):
    folder = targets.folders(plan, "shapes")["recam_results"]
    assert f"`{folder}/`" in prose()


# ---- what it promises


def test_the_example_is_a_method_and_its_paper_is_found(plan):
    assert METHODS["recam"] == "wsss.methods.recam:ReCam"
    assert {"recam_results", "recam_maps"} <= set(targets.available(plan, "shapes"))


def test_the_example_starts_from_the_run_that_it_names(plan):
    config = plan.stage_config(Run("shapes", "recam", "recam"), 0, "train")
    home = plan.home(Run("shapes", "recam", "cam"), 0, "train")
    assert Path(config["train"]["start"]).is_relative_to(home)
    assert [Path(path) for path in plan.references(Run("shapes", "recam", "recam"), 0, "train")].count(
        home / "model.pt"
    ) == 1


def test_the_example_changes_no_settings_and_no_code_of_other_papers(plan):
    """So nothing that is there becomes stale: what is compared with the stage's folder is the same, and where."""
    alone = plan_of()
    for paper, spec in alone.papers.items():
        for run in spec["runs"]:
            for stage in ("train", "cam", "predict"):
                place = (Run("shapes", paper, run), 0, stage)
                assert plan.home(*place) == alone.home(*place)
                assert plan.stage_config(*place) == alone.stage_config(*place)
