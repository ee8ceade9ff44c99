"""The configuration of the workflow: files on top of the project's own ``config.yaml``, checked against its schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wsss.errors import WsssError
from wsss.plan.layers import Layer, Raw, line_of, overlay
from wsss.plan.papers import check_schema
from wsss.plan.plan import Plan
from wsss.plan.resolve import PACKAGE
from wsss.plan.written import read, read_by_hand

SCHEMA = PACKAGE.parent / "schemas" / "config.schema.yaml"
OWN = PACKAGE.parent.parent / "config.yaml"
SECTIONS = tuple(read(PACKAGE / "defaults.yaml"))  # of a run's settings
IN_A_FILE = "--config key={...} is read as text throughout: write it into a file and say --configfile my.yaml"
# keys that make nothing stale; config.yaml says which of them may change a result a little
EXECUTION = (
    *("device", "threads", "workers", "loaders", "gpus", "shards", "shard_images", "checkpoint_minutes"),
    *("batch", "deterministic", "compile", "temporary"),
)


def check(config: Raw, files: Iterable[str | Path]) -> None:
    """Check what ``files`` and the command line add up to. A fault in a file is reported for that file.

    Raises:
        WsssError: the first finding, in one line.
    """
    schema = read(SCHEMA)
    for path in files:
        of_file = read_by_hand(path)
        _refuse_misplaced(of_file, schema, path)
        check_schema(of_file, _without_required(schema), path)
    _refuse_misplaced(config, schema, "configuration")
    try:
        check_schema(config, schema, "configuration")
    except WsssError as error:
        if re.search(r"'(-?[\d.]+|true|false|null)' is not of type", str(error)):
            raise WsssError(f"{error}; {IN_A_FILE}") from None
        raise


def _refuse_misplaced(config: Any, schema: Raw, source: str | Path) -> None:
    """Refuse what stands at the top and belongs elsewhere: to a data set's entry or options, or to a run's settings."""
    places = _places(schema)
    for key in config if isinstance(config, dict) else ():
        place = places.get(key)
        if key in schema["properties"] or place is None:
            continue
        line = f" (line {line_of(source, [key])})" if Path(source).is_file() else ""
        raise WsssError(f"{source}: '{key}' is no key of the top level: write {place} in a file for --configfile{line}")


def _places(schema: Raw) -> dict[str, str]:
    """Return where a key is written that stands below the top level."""
    found: dict[str, str] = {}
    for key in schema["$defs"]["options"]["properties"]:
        found[key] = f"datasets: {{NAME: {{options: {{{key}: ...}}}}}}"
    for key in schema["properties"]["datasets"]["additionalProperties"]["properties"]:
        found[key] = f"datasets: {{NAME: {{{key}: ...}}}}"
    for key in SECTIONS:
        found[key] = f"overrides: {{{key}: ...}}"
    return found


def _without_required(value: Any) -> Any:
    """Make a schema for a part of the configuration: a file need not say everything.

    The conditions of ``allOf``, a list, stay: they ask whether the part names a builder.
    """
    if not isinstance(value, dict):
        return value
    found = {}
    for key, inner in value.items():
        if key != "required":
            found[key] = _without_required(inner)
    return found


def of_results(config: Raw) -> Raw:
    """Return the part of a configuration that says what is computed, not how."""
    found = dict(config)
    for key in EXECUTION:
        found.pop(key, None)
    return found


def load_plan(config_path: str | Path | None = None) -> Plan:
    """Return the plan of a configuration file on top of the project's own, checked as the workflow checks it.

    Raises:
        WsssError: a file is wrong or missing. The project's own is missing if the package is installed without its
            clone.
    """
    if not OWN.is_file():
        raise WsssError(
            "this wsss is installed without the project's config.yaml, in which targets are looked up: "
            "name a result's folder instead, or take the wsss of a clone (make env)"
        )
    config = read(OWN)
    files = [OWN]
    if config_path:
        path = Path(config_path)
        given = Layer(str(path), read_by_hand(path), (path,))
        config = overlay(config, given, new_keys=True)
        files.append(path)
    check(config, files)
    return Plan(config, files=files)
