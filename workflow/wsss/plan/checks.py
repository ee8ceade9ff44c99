"""What a schema cannot say: names that must exist, in paper files and configuration; origins of reported values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsss.errors import WsssError, choose
from wsss.files import read_yaml
from wsss.plan import papers, resolve
from wsss.plan.stages import DRAWN, MEASURED, SCORES
from wsss.segment import presets

METRICS = ("miou", "precision", "recall", "under", "over", "iou", "precision_fg", "recall_fg", "map")
POINTS = {  # operating points of a stage; of masks: argmax
    "seed": r"best|highest|fixed",
    "crf": r"best|alpha=[0-9.]+",
    "irn_instances": r"iou=0\.5",
}
NEEDS = {  # kind of figure -> what it must say
    "grid": ("columns",),
    "threshold_curve": ("series",),
    "class_bars": ("series",),
    "table_dots": ("table", "column"),
    "table_scatter": ("table", "x", "y"),
}


WHOLE = {"epochs": 1, "steps": 1, "batch_size": 1, "accumulate": 1, "workers": 0}  # of a training, and the least


class _Place:
    """Raises errors that name the paper file, the table or figure, and the line."""

    def __init__(self, paper: str, specs: dict, folder: Path, kind: str, name: str):
        self.paper, self.specs, self.folder = paper, specs, folder
        self.what, self.keys = f"{kind.removesuffix('s')} {name}", (kind, name)

    def wrong(self, message: str, *keys) -> WsssError:
        line = papers.line_of(self.folder / f"{self.paper}.yaml", (*self.keys, *keys))
        return WsssError(f"{self.paper}.yaml, {self.what}: {message} (line {line})")

    def one_of(self, value: str, known: Iterable[str], kind: str, *keys) -> None:
        if value not in known:
            raise self.wrong(f"unknown {kind} '{value}': choose one of {', '.join(known)}", *keys)

    def run(self, run: str, *keys) -> None:
        """The run exists, in a configured paper or in the file of another."""
        owner, name = papers.owner_of(run, self.paper)
        path = self.folder / f"{owner}.yaml"
        spec = self.specs.get(owner) or (read_yaml(path) if path.is_file() else {"runs": {}})
        if name not in spec["runs"]:
            known = f"choose one of {', '.join(spec['runs'])}" if spec["runs"] else f"there is no paper '{owner}'"
            raise self.wrong(f"unknown run '{run}': {known}", *keys)


def check(paper: str, specs: dict, folder: Path) -> None:
    """Check all tables and figures of one paper.

    Raises:
        WsssError: the first finding, with file and line.
    """
    for kind, inspect in (("tables", _table), ("figures", _figure)):
        for name, spec in specs[paper].get(kind, {}).items():
            place = _Place(paper, specs, folder, kind, name)
            if kind == "figures" and name in specs[paper]["tables"]:
                raise place.wrong("a table has this name, too; both would be asked for in the same words")
            inspect(spec, place)


def check_dataset(name: str, spec: dict, overrides: dict, specs: dict) -> None:
    """Check the names in a data set's entry that settings go by: one that nothing is called would be in vain.

    ``overrides`` are those of every run, ``specs`` all paper files, also those that are not configured.
    """
    where = f"datasets.{name}."
    runs = {f"{paper}/{run}": said for paper, spec in specs.items() for run, said in spec.get("runs", {}).items()}
    methods = map(resolve.method_settings, resolve.methods())
    own = [overrides, *(spec.get(key, {}) for key in ("overrides", "pretraining", "methods", "runs"))]
    backbones = list(_networks([*methods, presets.presets(), runs, *own]))
    for key, known in {
        "stand_ins": {backbone["name"] for backbone in backbones if backbone.get("name")},
        "methods": resolve.methods(),
        "runs": runs,
    }.items():
        for entry in spec.get(key, {}):
            choose(dict.fromkeys(known), entry, f"name in {where}{key}")
    lists = spec["options"].get("lists", spec["options"].get("sets", dict.fromkeys(("train", "val"))))
    for role, split in spec["splits"].items():
        choose(lists, split, f"split in {where}splits.{role}")
    known = {key: None for backbone in backbones for key in backbone}
    for network, stand_in in spec.get("stand_ins", {}).items():
        for key in stand_in:
            choose(known, key, f"key of {where}stand_ins.{network}")


def check_training(config: dict, run: str) -> None:
    """Check the numbers of a run's trainings; ``run`` names it in errors."""
    for section in ("train", "affinity", "irn", "segment"):
        train, where = (config[section], "") if section == "train" else (config[section]["train"], f"{section}.")
        for key, least in WHOLE.items():
            given = train.get(key)
            for number in given.values() if isinstance(given, dict) else [given]:
                if number is not None and (type(number) is not int or number < least):
                    raise WsssError(f"{run}: {where}train.{key} is '{number}': give a whole number, {least} or more")
        rate = train["optimizer"]["lr"]
        if not isinstance(rate, int | float) or rate < 0:
            raise WsssError(f"{run}: {where}train.optimizer.lr is '{rate}': give a number, 0 or more")


def _networks(settings) -> Iterator[dict]:
    """Every ``backbone`` mapping in nested settings."""
    for inner in settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ():
        yield from _networks(inner)
    if isinstance(settings, dict) and isinstance(settings.get("backbone"), dict):
        yield settings["backbone"]


def _table(table: dict, place: _Place) -> None:
    columns = [column["key"] for column in table["columns"]]
    attributes = [attribute["key"] for attribute in table.get("attributes", [])]
    for i, row in enumerate(table["rows"]):
        for key in row.get("attributes", {}):
            place.one_of(key, attributes, "attribute", "rows", i, "attributes", key)
        for kind in ("reported", "spread", "cells"):
            for key in row.get(kind, {}):
                place.one_of(key, columns, "column", "rows", i, kind, key)
        for j, column in enumerate(table["columns"]):
            _cell(papers.cell(row, column), place, lambda key, at=(i, j): _set_at(table, *at, key))


def _set_at(table: dict, i: int, j: int, key: str) -> tuple:
    """Where a cell's setting stands: in the cell itself, in its row, or in its column."""
    row, column = table["rows"][i], table["columns"][j]
    if key in row.get("cells", {}).get(column["key"], {}):
        return ("rows", i, "cells", column["key"], key)
    return ("columns", j, key) if key in column and key not in row else ("rows", i, key)


def _cell(cell: dict, place: _Place, at) -> None:
    place.one_of(cell["stage"], MEASURED, "stage", *at("stage"))
    place.one_of(cell["metric"], METRICS, "metric", *at("metric"))
    if (cell["metric"] == "map") != (cell["stage"] == "irn_instances"):
        raise place.wrong(f"stage {cell['stage']} has no metric '{cell['metric']}'", *at("metric"))
    if cell["metric"] == "iou" and "class" not in cell:
        raise place.wrong("metric iou needs a class", *at("metric"))
    if not re.fullmatch(POINTS.get(cell["stage"], "argmax"), cell["at"]):
        raise place.wrong(f"stage {cell['stage']} has no operating point '{cell['at']}'", *at("at"))
    if cell.get("run"):
        place.run(cell["run"], *at("run"))
    elif "reported" in cell and not (cell.get("literature") or cell.get("missing")):
        raise place.wrong(
            "a reported value without a run needs literature (its source) or missing (why)", *at("reported")
        )


def _figure(figure: dict, place: _Place) -> None:
    for key in NEEDS[figure["kind"]]:
        if key not in figure:
            raise place.wrong(f"kind {figure['kind']} needs '{key}'")
    for kind in ("series", "columns"):
        for i, entry in enumerate(figure.get(kind, [])):
            stage = entry.get("stage", "seed")
            place.one_of(stage, DRAWN, "stage", kind, i, "stage")
            if "run" in entry:
                place.run(entry["run"], kind, i, "run")
            elif entry.get("kind") not in ("image", "truth"):
                raise place.wrong(f"column '{entry['label']}' needs a run", kind, i)
            if figure["kind"] == "threshold_curve" and stage != "seed":
                raise place.wrong(f"stage {stage} has no thresholds; they are of stage {SCORES[0]}", kind, i, "stage")
    if "table" in figure:
        tables = place.specs[place.paper]["tables"]
        place.one_of(figure["table"], tables, "table", "table")
        columns = [column["key"] for column in tables[figure["table"]]["columns"]]
        for key in {"column", "x", "y"} & set(figure):
            place.one_of(figure[key], columns, "column", key)
