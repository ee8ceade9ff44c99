"""The configuration of the workflow: files on top of the project's own ``config.yaml``, checked against its schema."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsss.files import read_yaml
from wsss.plan.papers import check_schema
from wsss.plan.plan import Plan
from wsss.plan.resolve import PACKAGE, merge

SCHEMA = PACKAGE.parent / "schemas" / "config.schema.yaml"
OWN = PACKAGE.parent.parent / "config.yaml"


def check(config: dict, files: Iterable[str | Path]) -> None:
    """Check what ``files`` and the command line add up to; what is wrong in a file is said of that file.

    Raises:
        WsssError: the first finding, in one line.
    """
    schema = read_yaml(SCHEMA)
    for path in files:
        check_schema(read_yaml(path), _without(schema, "required"), path)
    check_schema(config, schema, "configuration")


def _without(value, key: str):
    """Nested mappings without an entry: a file need not say everything."""
    if not isinstance(value, dict):
        return value
    return {k: _without(v, key) for k, v in value.items() if k != key}


def load_plan(config_path: str | Path | None = None) -> Plan:
    """The plan of a configuration file on top of the project's own, checked as the workflow checks it."""
    config, files = read_yaml(OWN), [OWN]
    if config_path:
        config = merge(config, read_yaml(config_path), str(config_path), new_keys=True)
        files.append(config_path)
    check(config, files)
    return Plan(config)
