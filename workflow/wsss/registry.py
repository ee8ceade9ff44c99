"""Tables of names and what they stand for. An entry is loaded when it is asked for.

A registry is a literal dict at the top level of a module, annotated ``Registry[...]``. Its values are strings
``module:attribute``, or rows that hold some, so a job loads only what its settings name. The digest of a stage's code
(``plan.code``) follows a registry only to those entries. So a new entry makes no result stale.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias, TypeVar

from wsss.errors import choose

Entry = TypeVar("Entry")
Registry: TypeAlias = dict[str, Entry]


def load(table: Registry[str], name: str, kind: str) -> Any:
    """Import and return what ``name`` stands for in a registry.

    Args:
        table: the registry.
        name: the entry.
        kind: the word for such an entry, in errors.

    Raises:
        WsssError: ``name`` is not in the registry; the line lists the known names.
    """
    return attribute(choose(table, name, kind))


def attribute(place: str) -> Any:
    """Import and return ``module:attribute``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
