"""The commands of ``wsss``: each is a function with its options and the paths that its record names."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from wsss.errors import WsssError

IN, OUT = "input", "output"
Run = Callable[[Namespace], None]


@dataclass(frozen=True)
class Argument:
    """One option; ``role`` says whether its paths are inputs or outputs of the job. A ``switch`` has no value.

    The path of an output is that of a file, or with ``folder`` that of a folder.
    """

    flag: str
    help: str
    role: str | None = None
    many: bool = False
    default: object = None
    required: bool = True
    switch: bool = False
    folder: bool = False


@dataclass(frozen=True)
class Command:
    """One command; ``help`` is what ``wsss --help`` says of it."""

    name: str
    help: str
    run: Run
    arguments: tuple[Argument, ...]


COMMANDS: dict[str, Command] = {}


def register(name: str, text: str, run: Run, *arguments: Argument) -> None:
    """Add a command; ``text`` is its help."""
    COMMANDS[name] = Command(name, text, run, arguments)


def command(name: str, *arguments: Argument) -> Callable[[Run], Run]:
    """Register a function as a command; the first line of its docstring is the help text."""

    def registered(function: Run) -> Run:
        register(name, (function.__doc__ or "").splitlines()[0], function, *arguments)
        return function

    return registered


def number(text: str, option: str, least: int, of: str = "processes") -> int:
    """Read the value of an option that is a number ``of`` something.

    Raises:
        WsssError: it is no whole number, or less than ``least``.
    """
    if not text.isdecimal() or int(text) < least:
        raise WsssError(f"{option} {text}: give a number of {of}, {least} or more")
    return int(text)
