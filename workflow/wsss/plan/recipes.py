"""The page of recipes: which release, which settings and which departures each row of the papers' tables follows.

It is made from what decides the runs themselves: paper files, the YAML of methods and presets with the sources in their
comments, and the numbered departures (D1, D2, ...) at the top of modules. So it cannot say anything else than they do.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import yaml

from wsss import stages
from wsss.plan import commented, papers
from wsss.plan.layers import Raw, is_schedule
from wsss.plan.resolve import PACKAGE, method_of, method_settings, paper_layer, resolve
from wsss.plan.written import read

PAPERS = PACKAGE.parent / "papers"
BEHIND = {  # stage -> the module at whose top its departures stand
    "pamr": "refine/pamr.py",
    "affinity": "refine/affinity_net.py",
    "walk": "refine/walk.py",
    "irn_train": "refine/irn_net.py",
    "irn_walk": "refine/irn_walk.py",
    "irn_instances": "refine/irn_walk.py",
    "deeplab": "segment/task.py",
}
DEPARTURE = re.compile(r"^D(\d+)\s+(.*)$")
SOURCE = re.compile(r"  +(\S+)$")  # at the end of a line, apart from its text
INTRODUCTION = """\
# Recipes: what each row of the tables follows

Made by `wsss recipes` from the paper files, the settings with their sources, and the numbered departures; a test holds
it to them. The settings are those of VOC 2012 at full size. Which epoch is kept, the files of weights, and what other
data sets change are in `config.yaml`. A release is named by its commit, the source of a setting by its file. A setting
without source is that of the release above its table; under Defaults it is what the releases have in common, or the
project's own.

In the column `shown`, the stage is followed by the images on which its result is measured: `measured` are the training
images that are compared with masks, `val` the validation images, `test` those of the server. `coco` is the data set of
a table's COCO column: COCO 2014 beside VOC, drawn images beside drawn ones (`companions` in `config.yaml`). The column
`made by` lists the stages that lead to the result.

A departure is a numbered difference of a release from its paper or from what one would expect, a difference of this
project from the release, or a choice that the paper leaves open. Either the line above a list or the departure itself
says which. It may end with its source in brackets: a file, a commit, `release`, or `ours` for what this project does on
its own. After `->` comes the setting that follows the paper instead. Notes on tables speak of "the text that was used":
a plain copy of a paper, a poster or slides, in which some things are lost. In the tables, `-` stands for an empty cell.
"""


def page(names: list[str]) -> str:
    """Return the page in Markdown, about the papers of these names."""
    lines = [INTRODUCTION]
    used: dict[str, None] = {}
    for name, spec in papers.load(names, PAPERS).items():
        lines += _paper(name, spec)
        for run in spec["runs"].values():
            used[method_of(run)] = None
    lines += _methods(list(used))
    lines += _defaults()
    lines += _networks()
    return "\n".join(lines).rstrip()


# ---- papers


def _paper(name: str, spec: Raw) -> Iterator[str]:
    """Yield a paper: its runs, and for each table the runs and stages of its rows."""
    note = spec.get("note", "")
    yield from (f"## {spec['title']}", "", note, "")
    yield "| run | method | settings of its own | note |"
    yield "| --- | --- | --- | --- |"
    for run, said in spec["runs"].items():
        yield _run(f"{name}/{run}", said)
    yield ""
    for table in spec["tables"]:
        yield from _table(name, spec, table)


def _run(word: str, said: Raw) -> str:
    """Return the line of a run: its method, the settings of its own, and its note."""
    own = []
    for key, value in _own(said):
        own.append(f"`{key}: {_text(value)}`")
    settings = "; ".join(own) or "-"
    method = method_of(said)
    note = said.get("note", "-")
    return f"| `{word}` | `{method}` | {settings} | {note} |"


def _own(said: Raw) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what a run says beyond its method."""
    for section, value in said.items():
        if section == "note":
            continue
        if section == "method" and not isinstance(value, dict):
            continue  # its name alone
        for key, inner in _leaves(value, section):
            if key != "method.name":
                yield key, inner


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in nested settings. A schedule, a mapping from epochs, is one value."""
    if not isinstance(value, dict) or not value or is_schedule(value):
        yield key, value
        return
    for inner, below in value.items():
        name = f"{key}.{inner}"
        yield from _leaves(below, name)


def _text(value: Any) -> str:
    """Return a value as YAML has it, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _table(name: str, spec: Raw, table: str) -> Iterator[str]:
    """Yield one line for each computed result of a table's rows, and the number of rows that are quoted."""
    about = spec["tables"][table]
    title = about["title"]
    yield from (f"### `{name}_{table}`: {title}", "", about["caption"], "")
    lines: list[str] = []
    remarks: list[str] = []
    quoted = 0
    for row, cells in papers.rows(spec, table):
        shown = _shown(cells)
        label = _label(row, about)
        if shown and row.get("note"):
            remarks += [f"{label}: {row['note']}", ""]
        for (run, stage), images in shown.items():
            line = _result(label, name, run, stage, images)
            lines.append(line)
        if not shown:
            quoted += 1
    if lines:
        yield "| row | run | shown | made by | departures |"
        yield "| --- | --- | --- | --- | --- |"
        yield from lines
    yield ""
    yield from remarks
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
        companion = cell.get("companion")
        images = f"{cell['images']} of `{companion}`" if companion else cell["images"]
        roles = found[cell["run"], cell["stage"]]
        if images not in roles:
            roles.append(images)
    return found


def _label(row: Raw, about: Raw) -> str:
    """Return the label of a row with the words beside it."""
    attributes = about.get("attributes", [])
    heads = {head["key"]: head["label"] for head in attributes}
    words = [row["label"]]
    for key, word in row.get("attributes", {}).items():
        text = _attribute(heads[key], word)
        words.append(text)
    return ", ".join(filter(None, words))


def _result(
    label: str,
    paper: str,
    run: str,
    stage: str,
    images: list[str],
) -> str:
    """Return the line of one result of a row.

    Args:
        label: the label of the row.
        paper: the paper that the table is in.
        run: the run.
        stage: the stage that makes the result.
        images: the roles of images on which it is shown.
    """
    chain, departing = _chain(run, paper, stage)
    roles = ", ".join(images)
    return f"| {label} | `{run}` | {stage} ({roles}) | {chain} | {departing} |"


def _attribute(head: str, word: str) -> str:
    """Return ``head: word`` for the word beside a row; the head of its column alone if the word is a check mark."""
    return head if word == "✓" else f"{head}: {word}"


def _chain(run: str, paper: str, stage: str) -> tuple[str, str]:
    """Return the stages that make a result, the first one first, and where the departures of each are numbered."""
    owner, name = papers.owner_of(run, paper)
    file = read(PAPERS / f"{owner}.yaml")
    said = file["runs"][name]
    method = method_of(said)
    layer = paper_layer(f"{owner}.yaml, run {name}", said, None, ())
    config = resolve(method, [layer])
    chain = list(dict.fromkeys(_below(stage, config)))
    words = list(chain)
    if "deeplab" in chain:
        at = chain.index("deeplab")
        words[at] = f"deeplab (preset `{_preset(said, method)}`)"
    departing = [f"`{file}` {_range(file)}" for file in _files_behind(chain, method)]
    return " → ".join(words), ", ".join(departing) or "-"


def _preset(said: Raw, method: str) -> str:
    """Return the preset of a run's segmentation network: its own, or that of its method."""
    own = said.get("deeplab", {}).get("preset")
    released = method_settings(method)["deeplab"]
    return str(own or released["preset"])


def _files_behind(chain: list[str], method: str) -> Iterator[str]:
    """Yield the modules of stages at whose top departures stand."""
    modules = {**BEHIND, "train": f"methods/{method}.py"}
    for stage in chain:
        file = modules.get(stage)
        if file and numbered(file):
            yield file


def _below(stage: str, config: Raw) -> Iterator[str]:
    """Yield the stages that a result comes from, its own last; some more than once."""
    for source in stages.below(stage, config):
        yield from _below(source, config)
    yield stage


def _range(file: str) -> str:
    """Name the departures of a module by the first and the last: ``D1 to D9``."""
    numbers = [number for number, _ in numbered(file)]
    first, last = numbers[0], numbers[-1]
    return f"D{first}" if first == last else f"D{first} to D{last}"


# ---- settings and departures


def _methods(names: list[str]) -> Iterator[str]:
    """Yield each method: its release, its settings with their sources, its departures."""
    yield from ("## Methods", "")
    for name in names:
        path = PACKAGE / "methods" / f"{name}.yaml"
        yield from (f"### `{name}`", "", commented.head(path), "")
        yield from commented.settings(path, ())
        yield ""
        yield from _listed(f"methods/{name}.py")


def _defaults() -> Iterator[str]:
    """Yield the defaults of all sections, each with the departures of the stage behind it."""
    path = PACKAGE / "defaults.yaml"
    yield from ("## Defaults", "")
    yield from ("The methods above, the presets below and the runs vary them.", "")
    listed = set()
    for section in stages.SECTIONS:
        lines = commented.settings(path, (section,))
        if not lines:
            continue
        yield from (f"### `{section}`", "", *lines, "")
        file = BEHIND.get(section)
        if file and file not in listed:
            listed.add(file)
            yield from _listed(file)


def _networks() -> Iterator[str]:
    """Yield the presets of segmentation networks: the release of each, and its settings with their sources."""
    path = PACKAGE / "segment" / "presets.yaml"
    yield from ("## Segmentation networks", "")
    yield from (f"Numbers such as D1 are those of the departures of `{BEHIND['deeplab']}`, above.", "")
    for preset in read(path):
        lines = commented.settings(path, (preset,))
        yield from (f"### Preset `{preset}`", "", commented.above(path, preset), "", *lines, "")


def numbered(file: str) -> list[tuple[int, str]]:
    """List (number, text) of the departures in the docstring of a module of the package, the first one first."""
    return sorted(departure for _, listed in departures(file) for departure in listed)


@functools.cache
def departures(file: str) -> list[tuple[str, list[tuple[int, str]]]]:
    """List the departures in the docstring of a module of the package: (what departs from what, [(number, text)])."""
    path = PACKAGE / file
    module = ast.parse(path.read_text(encoding="utf-8"))
    lines = (ast.get_docstring(module) or "").splitlines()
    groups: list[tuple[str, list[tuple[int, str]]]] = []
    inside = False  # a list of departures
    for before, line in itertools.pairwise(["", *lines]):
        match = DEPARTURE.match(line)
        inside = bool(match) or (inside and line.startswith("    "))
        if match and not (groups and groups[-1][1] and _follows(before)):
            groups.append((before.rstrip(":"), []))
        if match:
            groups[-1][1].append((int(match[1]), SOURCE.sub(r" (\1)", match[2])))
        elif inside:
            number, text = groups[-1][1].pop()
            more = SOURCE.sub(r" (\1)", line.removeprefix("    "))
            groups[-1][1].append((number, f"{text} {more}"))
    return [(title, [(number, re.sub(r"\s+", " ", text)) for number, text in listed]) for title, listed in groups]


def _follows(line: str) -> bool:
    """Tell whether a line is part of a departure, so that one right below it is in the same list."""
    return bool(DEPARTURE.match(line)) or line.startswith("    ")


def _listed(file: str) -> list[str]:
    """List the departures of a module, each kind below what the module calls it."""
    lines = []
    for title, listed in departures(file):
        items = [f"* **D{number}** {text}" for number, text in listed]
        lines += [f"{title}:", "", *items, ""]
    if not lines:
        return []
    return [f"What follows is numbered in `workflow/wsss/{file}`, whose head also explains the symbols.", "", *lines]
