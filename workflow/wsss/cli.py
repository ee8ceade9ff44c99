"""The commands of ``wsss``: those that the workflow runs, in the order of the pipeline, then those that people type.

``wsss targets`` lists what can be made, ``wsss cost`` says what it takes, ``snakemake`` makes it, and ``wsss audit``
checks it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import wsss.commands  # they register themselves
import wsss.questions
from wsss.arguments import COMMANDS, IN, OUT, Argument, Command
from wsss.children import end_with
from wsss.errors import ChildDied, Stopped, WsssError
from wsss.files import no_room, prepare, read_yaml
from wsss.memory import no_memory


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = argparse.ArgumentParser(prog="wsss", description=__doc__.replace("``", ""))
    subs = top.add_subparsers(dest="command", required=True, metavar="command")
    for entry in COMMANDS.values():
        sub = subs.add_parser(entry.name, help=entry.help, description=entry.help)
        for argument in entry.arguments:
            sub.add_argument(argument.flag, **_options(argument))
    return top


def _options(argument: Argument) -> dict[str, Any]:
    """Tell argparse what an argument is."""
    default = f" (default: {argument.default})" if isinstance(argument.default, str) else ""
    options: dict[str, Any] = {"help": argument.help + default}
    if argument.many:
        options["nargs"] = "*" if argument.flag.startswith("-") or not argument.required else "+"
    if argument.switch:
        options["action"] = "store_true"
    elif argument.flag.startswith("-"):
        options["required"] = argument.required
        options["default"] = argument.default
    return options


def _paths(entry: Command, args: argparse.Namespace, role: str) -> list[str]:
    """List the paths that a command line gives to arguments of a role."""
    found: list[str] = []
    for argument in entry.arguments:
        value = getattr(args, argument.flag.lstrip("-").replace("-", "_"))
        if argument.role == role and value:
            found.extend(value if argument.many else [value])
    return found


def main(argv: list[str] | None = None) -> None:
    """Run a command, and end with one line and an exit code where the input is wrong."""
    args = parser().parse_args(argv)
    entry = COMMANDS[args.command]
    try:
        _limit_threads()
        _run(entry, args)
    except BrokenPipeError:  # the reader of the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (WsssError, _Told) as error:
        _say(entry, no_memory(error, entry.name) or str(error))
        if isinstance(error, ChildDied):  # the way out might wait for what the child left, such as a lock
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if lack := no_memory(error, entry.name):
            _say(entry, lack)
            sys.exit(WsssError.exit_code)
        if not no_room(error):
            raise
        where = os.path.abspath(getattr(args, "out", "."))
        cure = "make room and run it again; what was complete is kept, and a training goes on from its checkpoint"
        _say(entry, f"{where}: no room is left on the disk, or in your quota: {cure}")
        sys.exit(WsssError.exit_code)


def _say(entry: Command, message: str) -> None:
    """Print the line of a command that fails."""
    print(f"wsss {entry.name}: {message}", file=sys.stderr, flush=True)


def _run(entry: Command, args: argparse.Namespace) -> None:
    """Run a command. One that makes something holds its lease meanwhile and leaves a record."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # with several GPUs, only the first process keeps records
    if not first:
        end_with(os.getppid())
    outputs = _paths(entry, args, OUT)
    if outputs and first:
        _run_recorded(entry, args, outputs)
        return
    entry.run(args)
    sys.stdout.flush()


def _run_recorded(entry: Command, args: argparse.Namespace, outputs: list[str]) -> None:
    """Run a command that makes something, unless another job makes it meanwhile."""
    from wsss.lease import leased
    from wsss.provenance.record import made_by_another, recorded

    inputs = _paths(entry, args, IN)
    for path in inputs:
        if not os.path.exists(path):
            raise WsssError(f"{path}: no such file; make it first, or correct the path")
    settings = getattr(args, "config", None) or getattr(args, "drawing", None)
    config = read_yaml(settings) if settings else None
    inputs += wsss.commands.inputs_found(entry.name, args, config)
    _prepare(entry, outputs[0])
    with _told_to_stop(), leased(outputs[0]) as waited:
        if waited and made_by_another(entry.name, inputs, outputs, config):
            print(f"{outputs[0]}: another job has just made it; nothing is left to do", file=sys.stderr)
            return
        with recorded(entry.name, inputs, outputs, config, getattr(args, "device", "cpu")):
            entry.run(args)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the record is written now, which takes seconds


def _prepare(entry: Command, output: str) -> None:
    """Make the place of an output. A file needs a suffix; else its record would be named like that of a folder."""
    folder = any(argument.folder for argument in entry.arguments)
    prepare(output, folder)
    if not folder and not Path(output).suffix:
        kinds = ".npz, .zip, .json, .html or .pth"
        raise WsssError(f"{output}: has no suffix, which the name of a file needs; give --out one, such as {kinds}")


class _Told(BaseException):
    """SIGTERM came. It is not an ``Exception``, since code that reads files takes those for faults of a file."""

    exit_code = Stopped.exit_code


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn SIGTERM into an error, so that the ledger says how an attempt ended. Trainings finish their step first."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one more must not cut the way out short
        raise _Told("told to stop; run the same command again")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        came = signal.getsignal(signal.SIGTERM) is not stop  # also in a training, or as the record is written
        signal.signal(signal.SIGTERM, signal.SIG_IGN if came else before)  # also while Python ends


def _limit_threads() -> None:
    """Use the number of threads that the rule was given, not one per core: jobs run side by side."""
    if threads := os.environ.get("WSSS_THREADS"):
        os.environ["OMP_NUM_THREADS"] = threads  # read by torch, in those commands that load it


if __name__ == "__main__":
    main()
