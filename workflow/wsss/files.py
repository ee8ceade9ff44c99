"""Files that are either complete or absent: each gets a temporary name first and is then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from wsss.errors import WsssError

INSTALLED = "package:"  # in place of a path: prefix to the name of an installed package that carries weights


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on failure.

    The temporary name keeps the suffix because some writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def prepare(output: str | Path, folder: bool) -> None:
    """Make the folder that an output will be in, before any work is done for it.

    Args:
        output: what will be written.
        folder: it is a folder, not a file.

    Raises:
        WsssError: nothing can be written there.
        OSError: the disk is full.
    """
    output = Path(output)
    where = output if folder else output.parent
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        if no_room(error):
            raise
        blocked = isinstance(error, FileExistsError | NotADirectoryError)
        why = "a file or a broken link is in the way" if blocked else error.strerror
        raise WsssError(f"{output}: cannot be written ({why}); give --out another place") from None
    if not folder and output.is_dir():
        raise WsssError(f"{output}: is a folder; give --out the name of a file")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OF_WRITERS = ("PytorchStreamWriter failed", "iostream error")  # what torch says in place of the system's error


def no_room(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came from, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in OF_WRITERS):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        WsssError: it is in another encoding.
        OSError: it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        likely = ", it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise WsssError(f"{path}: not UTF-8 at byte {error.start}{likely}; save it as UTF-8") from None


REMADE = "delete it and run the step that makes it again"  # the cure of a file that a step makes


def read_json(path: str | Path, cure: str = REMADE) -> Any:
    """Read a JSON file.

    Raises:
        WsssError: there is no such file, or it is not JSON in UTF-8. The line ends with ``cure``, or a better one.
    """
    try:
        return json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        made = "run the step that makes it" if cure == REMADE else cure
        raise WsssError(f"{path}: no such file; {made}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise WsssError(f"{path}: not valid JSON ({error}); {cure}") from None


class Constructor(yaml.constructor.SafeConstructor):
    """Refuse, with its line, a value that cannot be made: a date of month 13, an anchor inside of itself."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make the value of a node, and at once all values in it: so one inside of itself is found."""
        try:
            return super().construct_object(node, deep=True)
        except ValueError as error:
            problem = f"{error}; put it in quotes if it is a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


class _Loader(Constructor, yaml.SafeLoader):
    """A loader that runs no code."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        WsssError: there is no such file, it cannot be read, or it is not YAML.
    """
    try:
        return yaml.load(read_text(path), Loader=_Loader)
    except FileNotFoundError:
        raise WsssError(f"{path}: no such file") from None
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise WsssError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None


def sha256(path: str | Path) -> str:
    """Compute the SHA-256 of a file in hex digits.

    The digest of a folder is that of the sorted lines ``<relative name> <digest>`` of all files in it.
    """
    path = Path(path)
    if path.is_dir():
        lines = (f"{p.relative_to(path).as_posix()} {sha256(p)}\n" for p in sorted(path.rglob("*")) if p.is_file())
        return digest("".join(lines))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(text: str) -> str:
    """Compute the SHA-256 of a text in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()
