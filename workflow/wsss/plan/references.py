"""References from one run to the model that another one trained.

``run:<paper>/<run>`` is the classifier of that run, ``run:<run>`` one of the same paper, ``run:`` the run's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REFERENCE = "run:"


def is_reference(value: Any) -> bool:
    """Tell whether a setting names the model of a run."""
    if not isinstance(value, str):
        return False
    return value.startswith(REFERENCE)


def replace_references(value: Any, replacement: Callable[[str, str], str]) -> Any:
    """Copy nested settings and replace every reference by ``replacement(paper, run)``; both may be empty."""
    if isinstance(value, dict):
        found = {}
        for key, inner in value.items():
            found[key] = replace_references(inner, replacement)
        return found
    if not is_reference(value):
        return value
    word = value.removeprefix(REFERENCE)
    paper, _, run = word.rpartition("/")
    return replacement(paper, run)
