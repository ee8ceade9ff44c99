"""Paper files: citation, runs, tables and figures with the values their authors reported.

A table cell is its column's settings, overridden by its row's, overridden by its own:

    {run, stage, metric, at, split, reported, ...}

so a table that varies one thing says that one thing, wherever it is shortest to say.
"""

from __future__ import annotations

from pathlib import Path

import jsonschema
import yaml

from wsss.errors import WsssError, choose
from wsss.files import read_yaml
from wsss.plan.resolve import PACKAGE
from wsss.plan.stages import SCORES, default_split

CELL_KEYS = (
    "run",
    "stage",
    "metric",
    "class",
    "at",
    "split",
    "companion",
    "reported",
    "spread",
    "scale",
    "note",
    "literature",
    "missing",
)
SCHEMA = PACKAGE.parent / "schemas" / "paper.schema.yaml"


def load(names: list[str], folder: str | Path) -> dict[str, dict]:
    """Read and check the paper files ``<folder>/<name>.yaml``, in the given order."""
    from wsss.plan import checks  # it reads cells, and so this module

    present = {path.stem: path for path in Path(folder).glob("*.yaml")}
    specs = {}
    for name in names:
        path = choose(present, name, "paper")
        specs[name] = read_yaml(path)
        check_schema(specs[name], read_yaml(SCHEMA), path)
    for name in specs:
        checks.check(name, specs, Path(folder))
    return specs


def check_schema(value, schema: dict, source: str | Path) -> None:
    """Validate against a JSON schema; the error names the source, the place, and what is wrong, in one line.

    Of a source that is a file it also names the line.
    """
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    if error:
        where = ".".join(map(str, error.absolute_path)) or "top level"
        line = f" (line {line_of(source, error.absolute_path)})" if Path(source).is_file() else ""
        raise WsssError(f"{source}: {where}: {error.message[:200]}{line}")


def line_of(path: str | Path, keys) -> int:
    """The line of a YAML file where the entry at ``keys`` (names and list positions) stands, or its nearest parent."""
    node = yaml.compose(Path(path).read_text(encoding="utf-8"))
    line = node.start_mark.line
    for key in keys:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[key]
            line = node.start_mark.line
            continue
        found = [pair for pair in getattr(node, "value", []) if isinstance(pair, tuple) and pair[0].value == str(key)]
        if not found:
            break
        line, node = found[0][0].start_mark.line, found[0][1]
    return line + 1


def rows(spec: dict, table: str) -> list[tuple[dict, list[dict]]]:
    """The rows of a table, each with its cells, one per column."""
    table_spec = choose(spec["tables"], table, "table")
    return [(row, [cell(row, column) for column in table_spec["columns"]]) for row in table_spec["rows"]]


def cell(row: dict, column: dict) -> dict:
    """The settings of one cell. ``reported`` of a row maps column keys to values; without a run it is a quotation."""
    own = row.get("cells", {}).get(column["key"], {})
    row_wide = {k: v for k, v in row.items() if k in CELL_KEYS and k not in ("reported", "spread")}
    merged = {k: v for k, v in column.items() if k in CELL_KEYS} | row_wide | own
    for kind in ("reported", "spread"):
        if column["key"] in row.get(kind, {}):
            merged[kind] = row[kind][column["key"]]
    merged.setdefault("stage", "seed")
    merged.setdefault("metric", "miou")
    merged.setdefault("at", "best" if merged["stage"] in SCORES else "argmax")
    merged.setdefault("split", default_split(merged["stage"]))
    return merged


def owner_of(run: str, paper: str) -> tuple[str, str]:
    """``run`` of this paper, or ``<paper>/<run>`` of another."""
    other, _, name = run.rpartition("/")
    return other or paper, name
