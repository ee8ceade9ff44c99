"""What a command of ``wsss`` is: a function, its options, and the paths that its record names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

IN, OUT = "input", "output"


@dataclass(frozen=True)
class Argument:
    """One option; ``role`` says whether its paths are hashed as inputs or outputs of the job."""

    flag: str
    help: str
    role: str | None = None
    many: bool = False
    default: object = None
    required: bool = True


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    run: Callable[[argparse.Namespace], None]
    arguments: tuple[Argument, ...]


COMMANDS: dict[str, Command] = {}


def command(name: str, *arguments: Argument):
    """Register a function as a sub-command; its docstring is the help text."""

    def register(function: Callable) -> Callable:
        COMMANDS[name] = Command(name, function.__doc__.splitlines()[0], function, arguments)
        return function

    return register
