"""Errors a user can cure. Anything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterable


class WsssError(Exception):
    """Bad input. The message is one clear line that names the file (or key) and the cure; the command exits with 2."""

    exit_code = 2


class Problems(WsssError):
    """Several findings reported in one go, one line each."""

    def __init__(self, headline: str, findings: Iterable[str]):
        self.findings = list(findings)
        super().__init__("\n".join([headline, *(f"  - {finding}" for finding in self.findings)]))


class Stopped(WsssError):
    """A run was asked to stop and has written its checkpoint."""

    exit_code = 143  # what the shell reports of a process that SIGTERM ended


def choose(table: dict, name: str, kind: str):
    """Look ``name`` up in a literal registry; an unknown name is an error that lists the known ones."""
    if name not in table:
        raise WsssError(f"unknown {kind} '{name}': choose one of {', '.join(sorted(table))}")
    return table[name]
