"""Paper files: citation, runs, tables and figures with the values their authors reported.

A table cell is its column's settings, overridden by its row's, overridden by its own:

    {run, stage, metric, at, images, reported, ...}

So a table that varies one thing says that one thing, where it is shortest to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from wsss.errors import WsssError, choose
from wsss.plan.layers import Raw, line_of
from wsss.plan.resolve import PACKAGE
from wsss.plan.written import read
from wsss.stages import WITH_SCORES, default_images

CELL_KEYS = (
    "run",
    "stage",
    "metric",
    "class",
    "at",
    "images",
    "companion",
    "reported",
    "spread",
    "scale",
    "note",
    "literature",
    "missing",
)
SCHEMA = PACKAGE.parent / "schemas" / "paper.schema.yaml"


def load(names: list[str], folder: str | Path) -> dict[str, Raw]:
    """Read and check the paper files ``<folder>/<name>.yaml``, in the given order.

    Raises:
        WsssError: the first finding, with its file.
    """
    from wsss.plan import checks  # it reads cells, and so this module

    present = {path.stem: path for path in Path(folder).glob("*.yaml")}
    schema, specs = read(SCHEMA), {}
    for name in names:
        path = choose(present, name, "paper")
        if "_" in name:
            raise WsssError(f"{path}: rename it without '_', which ends the paper's name in the names of its tables")
        specs[name] = read(path)
        check_schema(specs[name], schema, path)
    for name in specs:
        checks.check(name, specs, Path(folder))
    return specs


def check_schema(value: Any, schema: Raw, source: str | Path) -> None:
    """Validate a value against a JSON schema.

    Args:
        value: the value.
        schema: the schema.
        source: where the value comes from. Of a file the error also names the line.

    Raises:
        WsssError: names the source, the place and the fault in one line.
    """
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    if error:
        where = ".".join(map(str, error.absolute_path)) or "top level"
        line = f" (line {line_of(source, list(error.absolute_path))})" if Path(source).is_file() else ""
        raise WsssError(f"{source}: {where}: {error.message[:200]}{line}")


def rows(spec: Raw, table: str) -> list[tuple[Raw, list[Raw]]]:
    """List the rows of a table, each with its cells, one per column."""
    about = choose(spec["tables"], table, "table")
    found = []
    for row in about["rows"]:
        cells = [cell(row, column) for column in about["columns"]]
        found.append((row, cells))
    return found


def cells(spec: Raw) -> Iterator[Raw]:
    """Yield the cells of all tables of a paper."""
    for table in spec["tables"]:
        for _, found in rows(spec, table):
            yield from found


def cell(row: Raw, column: Raw) -> Raw:
    """Merge the settings of one cell. ``reported`` of a row maps column keys to values."""
    merged = _cell_settings(column) | _cell_settings(row)
    for kind in ("reported", "spread"):  # of a row: one value for each column
        merged.pop(kind, None)
    merged |= row.get("cells", {}).get(column["key"], {})
    for kind in ("reported", "spread"):
        if column["key"] in row.get(kind, {}):
            merged[kind] = row[kind][column["key"]]
    merged.setdefault("stage", "cam")
    merged.setdefault("metric", "miou")
    merged.setdefault("at", "best" if merged["stage"] in WITH_SCORES else "argmax")
    merged.setdefault("images", default_images(merged["stage"]))
    return merged


def _cell_settings(place: Raw) -> Raw:
    return {key: value for key, value in place.items() if key in CELL_KEYS}


def owner_of(run: str, paper: str) -> tuple[str, str]:
    """Split a run into its paper and its name: ``<run>`` is of this paper, ``<paper>/<run>`` of another."""
    other, _, name = run.rpartition("/")
    return other or paper, name
