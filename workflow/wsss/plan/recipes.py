"""The page of recipes: which release, which settings and which departures each row of the papers' tables follows.

It is made from what decides the runs themselves: paper files, the YAML of methods and presets with the sources in their
comments, and the numbered departures (D1, D2, ...) at the top of modules. So it cannot say anything else than they do.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w\"':.<-]+):(?: (?P<value>.*?))??(?:\s+# (?P<source>.*))?$")
MORE = re.compile(r"^\s*# (?P<source>.*)$")
ANCHOR = re.compile(r"^&(\w+)\s*")
DEPARTURE = re.compile(r"^(D\d+)\s+(.*)$")
INTRODUCTION = """\
# Recipes: what each row of the tables follows

Made by `wsss recipes` from the paper files, the settings with their sources, and the numbered departures; a test holds
it to them. The settings are those of VOC 2012 at full size, but for the epoch that is kept, the files of weights, and
what other data sets change: these are in `config.yaml`. A release is named by its commit, the source of a setting by
its file. A setting without source is what the releases have in common (Refinement, below), or the project's own.
"""


def page(names: list[str]) -> str:
    """Return the page in Markdown, about the papers of these names."""
    specs = papers.load(names, PAPERS)
    used = dict.fromkeys(method_of(run) for spec in specs.values() for run in spec["runs"].values())
    return "\n".join(
        [
            INTRODUCTION,
            *(line for name, spec in specs.items() for line in _paper(name, spec)),
            *_methods(list(used)),
            *_behind(),
            *_networks(),
        ]
    ).rstrip()


# ---- papers


def _paper(name: str, spec: Raw) -> Iterator[str]:
    """Yield a paper: its runs, and for each table the runs and stages of its rows."""
    yield from (f"## {spec['title']}", "", spec.get("note", ""), "")
    yield from ("| run | method | settings of its own | not released, or read so |", "| --- | --- | --- | --- |")
    for run, said in spec["runs"].items():
        own = "; ".join(f"`{key}: {_text(value)}`" for key, value in _own(said))
        yield f"| `{name}/{run}` | `{method_of(said)}` | {own or '-'} | {said.get('note', '-')} |"
    yield ""
    for table in spec["tables"]:
        yield from _table(name, spec, table)


def _own(said: Raw) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of what a run says beyond its method."""

    def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value and not any(isinstance(inner, int) for inner in value):
            for inner, below in value.items():
                yield from leaves(below, f"{key}.{inner}")
        else:
            yield key, value

    for section, value in said.items():
        if section == "note" or (section == "method" and not isinstance(value, dict)):
            continue
        yield from ((key, inner) for key, inner in leaves(value, section) if key != "method.name")


def _text(value: Any) -> str:
    """Return a value as YAML has it, on one line."""
    return json.dumps(value).strip('"')


def _table(name: str, spec: Raw, table: str) -> Iterator[str]:
    """Yield one line for each row of a table that is computed, and the number of those that are quoted."""
    about = spec["tables"][table]
    yield from (f"### `{name}_{table}`: {about['title']}", "", about["caption"], "")
    lines, quoted = [], 0
    for row, cells in papers.rows(spec, table):
        shown: dict[tuple[str, str], dict[str, None]] = {}
        for cell in cells:
            if cell.get("run"):
                shown.setdefault((cell["run"], cell["stage"]), {})[cell["images"]] = None
        quoted += not shown
        heads = {head["key"]: head["label"] for head in about.get("attributes", [])}
        words = [row["label"], *(_attribute(heads[key], word) for key, word in row.get("attributes", {}).items())]
        for (run, stage), images in shown.items():
            chain, departures = _chain(run, name, stage)
            label = ", ".join(word for word in words if word)
            lines.append(f"| {label} | `{run}` | {stage} ({', '.join(images)}) | {chain} | {departures} |")
    if lines:
        yield from ("| row | run | shown | made by | departures |", "| --- | --- | --- | --- | --- |", *lines)
    yield from ("", *([f"Quoted, not computed: {quoted} rows.", ""] if quoted else []))
    yield from ([about["note"], ""] if about.get("note") else [])


def _attribute(head: str, word: str) -> str:
    """Return the word beside a row, with its head where it is a mark or another short sign."""
    return head if word == "✓" else f"{head}: {word}"


def _chain(run: str, paper: str, stage: str) -> tuple[str, str]:
    """Return the stages that make a result, the first one first, and where the departures of each are numbered."""
    owner, name = papers.owner_of(run, paper)
    said = read(PAPERS / f"{owner}.yaml")["runs"][name]
    config = resolve(method_of(said), [paper_layer(f"{owner}.yaml, run {name}", said, None, ())])
    found: dict[str, None] = {}

    def below(one: str) -> None:
        for source in stages.below(one, config):
            below(source)
        found[one] = None

    below(stage)
    files = [f"methods/{method_of(said)}.py"] if "train" in found else []
    files += [BEHIND[one] for one in found if one in BEHIND]
    numbered = [f"`{file}` {_range(file)}" for file in files if departures(file)]
    preset = said.get("deeplab", {}).get("preset") or method_settings(method_of(said))["deeplab"]["preset"]
    words = [f"{one} (preset `{preset}`)" if one == "deeplab" else one for one in found]
    return " → ".join(words), ", ".join(numbered) or "-"


def _range(file: str) -> str:
    numbers = [number for number, _ in departures(file)]
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


# ---- settings and departures


def _methods(names: list[str]) -> Iterator[str]:
    """Yield each method: its release, its settings with their sources, its departures."""
    yield from ("## Methods", "")
    for name in names:
        path = PACKAGE / "methods" / f"{name}.yaml"
        yield from (f"### `{name}`", "", _head(path), "", *settings(path, ()), "", *_listed(f"methods/{name}.py"))


def _behind() -> Iterator[str]:
    """Yield the stages behind the classifier: the defaults that methods vary, and their departures."""
    yield from ("## Refinement", "", "Defaults, which the methods above and the runs vary.", "")
    sections = [name for name in stages.SECTIONS if name not in ("backbone", "method", "deeplab", "predict")]
    for section in sections:
        yield from (f"### `{section}`", "", *settings(PACKAGE / "defaults.yaml", (section,)), "")
        file = BEHIND.get(section)
        yield from _listed(file) if file and departures(file) else ()


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
    rows: list[list[str]] = []
    for keys, value, source in _lines(path):
        if keys[: len(below)] != below:
            continue
        name = ".".join(keys[len(below) :]) or keys[-1]
        if value or source:
            rows.append([name, f"`{value}`" if value else "", source])
    body = [f"| `{name}` | {value} | {source} |" for name, value, source in rows]
    return ["| setting | value | source |", "| --- | --- | --- |", *body] if body else []


def _lines(path: Path) -> list[tuple[tuple[str, ...], str, str]]:
    """(keys, value, comment) of the lines of a YAML file, in their order; a comment goes on in lines without a key.

    Where a mapping takes what it does not say itself from another, its comment says from which.
    """
    found: list[tuple[tuple[str, ...], str, str]] = []
    place: list[tuple[int, str]] = []
    anchors: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if found and line.startswith("    ") and (more := MORE.match(line)):
            *before, (keys, value, source) = found
            found = [*before, (keys, value, f"{source} {more['source']}")]
        if not (match := KEY.match(line)):
            continue
        indent, key, value = len(match["indent"]), match["key"], match["value"] or ""
        if key == "<<":
            within = tuple(name for depth, name in place if depth < indent)
            if anchor := ANCHOR.match(value):
                anchors[anchor[1]] = ".".join(within)
            else:
                found.append((within, "", f"else as `{anchors[value[1:]]}`"))
            continue
        place = [*(one for one in place if one[0] < indent), (indent, key)]
        keys = tuple(name for _, name in place)
        if value.startswith("*"):
            found.append((keys, "", f"as `{anchors[value[1:]]}`"))
            continue
        if anchor := ANCHOR.match(value):
            anchors[anchor[1]] = ".".join(keys)
        found.append((keys, ANCHOR.sub("", value), match["source"] or ""))
    return found


def departures(file: str) -> list[tuple[str, str]]:
    """(number, text) of the departures in the docstring of a module of the package."""
    text = ast.get_docstring(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))) or ""
    found: list[list[str]] = []
    open_ = False
    for line in text.splitlines():
        if match := DEPARTURE.match(line):
            found.append(list(match.groups()))
            open_ = True
        elif open_ and line.startswith("    "):
            found[-1][1] += f" {line.strip()}"
        else:
            open_ = False
    found.sort(key=lambda one: int(one[0][1:]))
    return [(number, re.sub(r"\s+", " ", said)) for number, said in found]


def _listed(file: str) -> list[str]:
    lines = [f"* **{number}** {said}" for number, said in departures(file)]
    return [f"Departures (`workflow/wsss/{file}`):", "", *lines, ""] if lines else []
