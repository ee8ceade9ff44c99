"""Errors that a user can cure. Any other error is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value")


class WsssError(Exception):
    """An error in the input. Its message is one line that names the file or key, and the cure."""

    exit_code = 2  # of the command


class Problems(WsssError):
    """Several findings, reported together, one line each."""

    def __init__(self, headline: str, findings: Iterable[str]):
        self.findings = list(findings)
        super().__init__("\n".join([headline, *(f"  - {finding}" for finding in self.findings)]))


class Stopped(WsssError):
    """A run was asked to stop and has written its checkpoint."""

    exit_code = 143  # what the shell reports of a process that SIGTERM ended


class ChildDied(WsssError):
    """A process that worked for this one died."""


def some(names: Sequence[str], most: int = 3) -> str:
    """List the first of some names, and say if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def choose(table: Mapping[str, Value], name: str, kind: str) -> Value:
    """Look up ``name`` in a table.

    Args:
        table: the known names and what they stand for.
        name: the name to look up.
        kind: the word for such a name in the error.

    Raises:
        WsssError: the name is unknown; the line lists the known names.
    """
    if name not in table:
        raise WsssError(f"unknown {kind} '{name}': choose one of {', '.join(sorted(table))}")
    return table[name]
