"""The configuration of the workflow: files on top of the project's own ``config.yaml``, checked against its schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wsss.errors import WsssError
from wsss.plan.layers import Layer, Raw, overlay
from wsss.plan.papers import check_schema
from wsss.plan.plan import Plan
from wsss.plan.resolve import PACKAGE
from wsss.plan.written import read, read_by_hand

SCHEMA = PACKAGE.parent / "schemas" / "config.schema.yaml"
OWN = PACKAGE.parent.parent / "config.yaml"
IN_A_FILE = "--config key={...} is read as text throughout: write it into a file and say --configfile my.yaml"
# keys that change no result
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
        check_schema(read_by_hand(path), _without_required(schema), path)
    try:
        check_schema(config, schema, "configuration")
    except WsssError as error:
        if re.search(r"'(-?[\d.]+|true|false|null)' is not of type", str(error)):
            raise WsssError(f"{error}; {IN_A_FILE}") from None
        raise


def _without_required(value: Any) -> Any:
    """Make a schema for a part of the configuration: a file need not say everything."""
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
    """Return the plan of a configuration file on top of the project's own, checked as the workflow checks it."""
    config = read(OWN)
    files = [OWN]
    if config_path:
        path = Path(config_path)
        given = Layer(str(path), read(path), (path,))
        config = overlay(config, given, new_keys=True)
        files.append(path)
    check(config, files)
    return Plan(config, files=files)
