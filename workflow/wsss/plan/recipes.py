"""The page of recipes: which release, which settings and which departures each row of the papers' tables follows.

It is made from what decides the runs themselves: paper files, the YAML of methods and presets with the sources in their
comments, and the numbered departures (D1, D2, ...) at the top of modules. So it cannot say anything else than they do.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsss import stages
from wsss.plan import papers
from wsss.plan.layers import Raw
from wsss.plan.resolve import PACKAGE, method_of, method_settings, paper_layer, resolve
from wsss.plan.written import read

PAPERS = PACKAGE.parent / "papers"
BEHIND = {  # stage -> the module at whose top its departures stand
    "pamr": "refine/pamr.py",
    "affinity": "refine/affinity_net.py",
    "walk": "refine/walk.py",
    "irn_train": "refine/irn_net.py",
    "irn_walk": "refine/irn_walk.py",
    "deeplab": "segment/task.py",
}
ELSEWHERE = ("backbone", "method", "deeplab", "predict")  # sections that methods and presets give
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w\"':.<-]+):(?: (?P<value>.*?))??(?:\s+# (?P<source>.*))?$")
MORE = re.compile(r"^\s*# (?P<source>.*)$")
ANCHOR = re.compile(r"^&(\w+)\s*")
DEPARTURE = re.compile(r"^D(\d+)\s+(.*)$")
INTRODUCTION = """\
# Recipes: what each row of the tables follows

Made by `wsss recipes` from the paper files, the settings with their sources, and the numbered departures; a test holds
it to them. The settings are those of VOC 2012 at full size, but for the epoch that is kept, the files of weights, and
what other data sets change: these are in `config.yaml`. A release is named by its commit, the source of a setting by
its file. A setting without source is what the releases have in common (Refinement, below), or the project's own.
"""


def page(names: list[str]) -> str:
    """Return the page in Markdown, about the papers of these names."""
    lines = [INTRODUCTION]
    used: dict[str, None] = {}
    for name, spec in papers.load(names, PAPERS).items():
        lines += _paper(name, spec)
        used |= dict.fromkeys(map(method_of, spec["runs"].values()))
    lines += _methods(list(used))
    lines += _behind()
    lines += _networks()
    return "\n".join(lines).rstrip()


# ---- papers


def _paper(name: str, spec: Raw) -> Iterator[str]:
    """Yield a paper: its runs, and for each table the runs and stages of its rows."""
    yield from (f"## {spec['title']}", "", spec.get("note", ""), "")
    yield from ("| run | method | settings of its own | not released, or read so |", "| --- | --- | --- | --- |")
    for run, said in spec["runs"].items():
        own = [f"`{key}: {_text(value)}`" for key, value in _own(said)]
        settings = "; ".join(own) or "-"
        note = said.get("note", "-")
        yield f"| `{name}/{run}` | `{method_of(said)}` | {settings} | {note} |"
    yield ""
    for table in spec["tables"]:
        yield from _table(name, spec, table)


def _own(said: Raw) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what a run says beyond its method."""
    for section, value in said.items():
        named = section == "method" and not isinstance(value, dict)
        if named or section == "note":
            continue
        for key, inner in _leaves(value, section):
            if key != "method.name":
                yield key, inner


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in nested settings. A schedule, a mapping from epochs, is one value."""
    if not isinstance(value, dict) or not value or _is_schedule(value):
        yield key, value
        return
    for inner, below in value.items():
        yield from _leaves(below, f"{key}.{inner}")


def _is_schedule(value: Raw) -> bool:
    """Tell whether a mapping is one from epochs."""
    return any(isinstance(key, int) for key in value)


def _text(value: Any) -> str:
    """Return a value as YAML has it, on one line."""
    return json.dumps(value).strip('"')


def _table(name: str, spec: Raw, table: str) -> Iterator[str]:
    """Yield one line for each row of a table that is computed, and the number of those that are quoted."""
    about = spec["tables"][table]
    yield from (f"### `{name}_{table}`: {about['title']}", "", about["caption"], "")
    lines, quoted = [], 0
    for row, cells in papers.rows(spec, table):
        shown = _shown(cells)
        label = _label(row, about)
        for (run, stage), images in shown.items():
            lines.append(_result(label, name, run, stage, images))
        quoted += not shown
    if lines:
        yield from ("| row | run | shown | made by | departures |", "| --- | --- | --- | --- | --- |", *lines)
    yield ""
    if quoted:
        yield from (f"Quoted, not computed: {quoted} rows.", "")
    if about.get("note"):
        yield from (about["note"], "")


def _shown(cells: list[Raw]) -> dict[tuple[str, str], list[str]]:
    """Return (run, stage) of each result in a row, and the roles of images on which it is shown."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in cells:
        if not cell.get("run"):
            continue
        roles = found[cell["run"], cell["stage"]]
        if cell["images"] not in roles:
            roles.append(cell["images"])
    return found


def _label(row: Raw, about: Raw) -> str:
    """Return the label of a row with the words beside it."""
    heads = {}
    for head in about.get("attributes", []):
        heads[head["key"]] = head["label"]
    words = [row["label"]]
    for key, word in row.get("attributes", {}).items():
        words.append(_attribute(heads[key], word))
    return ", ".join(word for word in words if word)


def _result(label: str, paper: str, run: str, stage: str, images: list[str]) -> str:
    """Return the line of one result of a row.

    Args:
        label: the label of the row.
        paper: the paper that the table is in.
        run: the run.
        stage: the stage that makes the result.
        images: the roles of images on which it is shown.
    """
    chain, departures = _chain(run, paper, stage)
    return f"| {label} | `{run}` | {stage} ({', '.join(images)}) | {chain} | {departures} |"


def _attribute(head: str, word: str) -> str:
    """Return the word beside a row, with its head where it is a mark or another short sign."""
    return head if word == "✓" else f"{head}: {word}"


def _chain(run: str, paper: str, stage: str) -> tuple[str, str]:
    """Return the stages that make a result, the first one first, and where the departures of each are numbered."""
    owner, name = papers.owner_of(run, paper)
    said = read(PAPERS / f"{owner}.yaml")["runs"][name]
    method = method_of(said)
    config = resolve(method, [paper_layer(f"{owner}.yaml, run {name}", said, None, ())])
    chain = list(dict.fromkeys(_below(stage, config)))
    preset = said.get("deeplab", {}).get("preset") or method_settings(method)["deeplab"]["preset"]
    words = [f"{one} (preset `{preset}`)" if one == "deeplab" else one for one in chain]
    numbered = [f"`{file}` {_range(file)}" for file in _files_behind(chain, method)]
    return " → ".join(words), ", ".join(numbered) or "-"


def _files_behind(chain: list[str], method: str) -> Iterator[str]:
    """Yield the modules of stages at whose top departures stand."""
    for stage in chain:
        file = f"methods/{method}.py" if stage == "train" else BEHIND.get(stage)
        if file and departures(file):
            yield file


def _below(stage: str, config: Raw) -> Iterator[str]:
    """Yield the stages that a result comes from, its own last; some more than once."""
    for source in stages.below(stage, config):
        yield from _below(source, config)
    yield stage


def _range(file: str) -> str:
    """Name the departures of a module by the first and the last: ``D1 to D9``."""
    numbers = [number for number, _ in departures(file)]
    first, last = numbers[0], numbers[-1]
    return first if first == last else f"{first} to {last}"


# ---- settings and departures


def _methods(names: list[str]) -> Iterator[str]:
    """Yield each method: its release, its settings with their sources, its departures."""
    yield from ("## Methods", "")
    for name in names:
        path = PACKAGE / "methods" / f"{name}.yaml"
        yield from (f"### `{name}`", "", _head(path), "")
        yield from (*settings(path, ()), "")
        yield from _listed(f"methods/{name}.py")


def _behind() -> Iterator[str]:
    """Yield the stages behind the classifier: the defaults that methods vary, and their departures."""
    yield from ("## Refinement", "", "Defaults, which the methods above and the runs vary.", "")
    for section in stages.SECTIONS:
        if section in ELSEWHERE:
            continue
        lines = settings(PACKAGE / "defaults.yaml", (section,))
        yield from (f"### `{section}`", "", *lines, "")
        if section in BEHIND:
            yield from _listed(BEHIND[section])


def _networks() -> Iterator[str]:
    """Yield the presets of segmentation networks, and their departures."""
    path = PACKAGE / "segment" / "presets.yaml"
    yield from ("## Segmentation networks", "")
    for preset in read(path):
        yield from (f"### Preset `{preset}`", "", *settings(path, (preset,)), "")
    yield from _listed(BEHIND["deeplab"])


def _head(path: Path) -> str:
    """Return the comment at the top of a YAML file: the release."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    return " ".join(lines)


def settings(path: Path, below: tuple[str, ...]) -> list[str]:
    """Return a Markdown table of the settings in a YAML file below some keys, with the comment of each line."""
    body = []
    for line in _lines(path):
        inside = line.keys[: len(below)] == below
        if inside and (line.value or line.source):
            name = ".".join(line.keys[len(below) :]) or line.keys[-1]
            value = f"`{line.value}`" if line.value else ""
            body.append(f"| `{name}` | {value} | {line.source} |")
    return ["| setting | value | source |", "| --- | --- | --- |", *body] if body else []


class _Line(NamedTuple):
    """A line of a YAML file: the keys of what stands there, its value as a text, and the comment behind it."""

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
        indent, key = len(match["indent"]), match["key"]
        value = match["value"] or ""
        anchor = ANCHOR.match(value)
        self._open = [(depth, name) for depth, name in self._open if depth < indent]
        if key != "<<":
            self._open.append((indent, key))
        keys = tuple(name for _, name in self._open)
        if anchor:
            self._anchors[anchor[1]] = ".".join(keys)
        if key == "<<":
            return None if anchor else _Line(keys, "", f"else as `{self._anchors[value[1:]]}`")
        if value.startswith("*"):
            return _Line(keys, "", f"as `{self._anchors[value[1:]]}`")
        return _Line(keys, ANCHOR.sub("", value), match["source"] or "")


def _lines(path: Path) -> list[_Line]:
    """List the lines of a YAML file that hold settings, in their order. A comment goes on in lines without a key.

    Where a mapping takes what it does not say itself from another, its comment says from which.
    """
    found: list[_Line] = []
    outline = _Outline()
    for text in path.read_text(encoding="utf-8").splitlines():
        more = MORE.match(text) if text.startswith("    ") else None
        if found and more:
            last = found.pop()
            found.append(last._replace(source=f"{last.source} {more['source']}"))
        match = KEY.match(text)
        if match and (line := outline.line_of(match)):
            found.append(line)
    return found


@functools.cache
def departures(file: str) -> list[tuple[str, str]]:
    """List (number, text) of the departures in the docstring of a module of the package."""
    module = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    found: dict[int, str] = {}
    number = None
    for line in (ast.get_docstring(module) or "").splitlines():
        if match := DEPARTURE.match(line):
            number = int(match[1])
            found[number] = match[2]
        elif number is not None and line.startswith("    "):
            found[number] += f" {line.strip()}"
        else:
            number = None
    return [(f"D{at}", re.sub(r"\s+", " ", found[at])) for at in sorted(found)]


def _listed(file: str) -> list[str]:
    """List the departures of a module."""
    lines = [f"* **{number}** {said}" for number, said in departures(file)]
    return [f"Departures (`workflow/wsss/{file}`):", "", *lines, ""] if lines else []
