"""Paper files: citation, runs, tables and figures with the values their authors reported.

A table cell is its column's settings, overridden by its row's, overridden by its own:

    {run, stage, metric, at, images, ...}

So a table that varies one setting states only that setting, in the column, row or cell where this is shortest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from wsss.errors import WsssError, choose
from wsss.plan.layers import Raw, line_of
from wsss.plan.resolve import PACKAGE
from wsss.plan.written import read, read_by_hand
from wsss.stages import WITH_SCORES, default_images

CELL_KEYS = (
    "run",
    "stage",
    "metric",
    "class",
    "at",
    "images",
    "companion",
    "scale",
    "literature",
    "missing",
)
BY_COLUMN = ("reported", "spread")  # of a row: one value for each column
SCHEMA = PACKAGE.parent / "schemas" / "paper.schema.yaml"


def load(names: list[str], folder: str | Path) -> dict[str, Raw]:
    """Read and check the paper files ``<folder>/<name>.yaml``, in the given order.

    Raises:
        WsssError: the first finding, with its file.
    """
    from wsss.plan import checks  # it reads cells, and so this module

    present = {path.stem: path for path in Path(folder).glob("*.yaml")}
    schema = read(SCHEMA)
    specs = {}
    for name in names:
        path = choose(present, name, "paper")
        if "_" in name:
            raise WsssError(f"{path}: rename it without '_', which ends the paper's name in the names of its tables")
        spec = read_by_hand(path)
        check_schema(spec, schema, path)
        specs[name] = spec
    for name in specs:
        checks.check(name, specs, Path(folder))
    return specs


def _is_integer(_: Any, value: Any) -> bool:
    """Tell whether a value is written as an integer. 0.0 is not: such numbers become parts of paths."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: Any, value: Any) -> bool:
    """Tell whether a value is a number that one can calculate with."""
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


JSON_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER
YAML_TYPES = JSON_TYPES.redefine_many({"integer": _is_integer, "number": _is_number})
Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=YAML_TYPES)


def check_schema(value: Any, schema: Raw, source: str | Path) -> None:
    """Validate a value against a JSON schema.

    Args:
        value: the value.
        schema: the schema.
        source: where the value comes from. Of a file the error also names the line.

    Raises:
        WsssError: names the source, the place and the fault in one line.
    """
    findings = Validator(schema).iter_errors(value)
    error = jsonschema.exceptions.best_match(findings)
    if error is None:
        return
    keys = list(error.absolute_path)
    where = ".".join(map(str, keys)) or "top level"
    message = f"{source}: {where}: {_fault(error)}"
    if Path(source).is_file():
        message += f" (line {line_of(source, keys)})"
    raise WsssError(message)


def _fault(error: jsonschema.ValidationError) -> str:
    """Say what is wrong at the place of a finding; of an unknown key also which are known."""
    if error.validator != "additionalProperties" or error.validator_value is not False:
        return error.message[:200]
    schema: Any = error.schema
    instance: Any = error.instance
    known = schema["properties"]
    strange = [key for key in instance if key not in known]
    return f"'{strange[0]}' is an unknown key: choose one of {', '.join(known)}"


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
    key = column["key"]
    merged = _cell_settings(column) | _cell_settings(row)
    own = row.get("cells", {})
    merged |= own.get(key, {})
    for kind in BY_COLUMN:
        values = row.get(kind, {})
        if key in values:
            merged[kind] = values[key]
    return _with_defaults(merged)


def curve(entry: Raw) -> Raw:
    """Complete a curve, or a group of bars, with the settings of a cell that it does not say."""
    column = {"key": "", **entry}
    return cell({}, column) | entry


def _with_defaults(cell: Raw) -> Raw:
    """Complete a cell by what it need not say."""
    stage = cell.setdefault("stage", "cam")
    cell.setdefault("metric", "miou")
    cell.setdefault("at", "best" if stage in WITH_SCORES else "argmax")
    cell.setdefault("images", default_images(stage))
    return cell


def _cell_settings(place: Raw) -> Raw:
    """Return what a row or a column says of cells."""
    return {key: value for key, value in place.items() if key in CELL_KEYS}


def owner_of(run: str, paper: str) -> tuple[str, str]:
    """Split a run into its paper and its name: ``<run>`` is of this paper, ``<paper>/<run>`` of another."""
    other, _, name = run.rpartition("/")
    return other or paper, name
