"""Ways to harm a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from wsss.provenance import content

DAMAGES: dict[str, Callable[[Path], None]] = {}


def damage(function: Callable[[Path], None]) -> Callable[[Path], None]:
    DAMAGES[function.__name__] = function
    return function


@damage
def flip(path: Path, at: int | None = None, bit: int = 0) -> None:
    """Turn one bit, and give the file its old time."""
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2 if at is None else at] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@damage
def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@damage
def empty(path: Path) -> None:
    path.write_bytes(b"")


@damage
def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"\n")


@damage
def delete(path: Path) -> None:
    path.unlink()


def rewrite(record: Path, **more: object) -> None:
    """Edit a record as a forger does, who writes new digests as well."""
    found = json.loads(record.read_text()) | more
    found["identity"] = content.identity(found)
    found["seal"] = content.seal(found)
    record.write_text(content.text_of(found))


def read(record: Path) -> content.Content:
    return json.loads(record.read_text())


def stages_of(audited: str) -> set[str]:
    """The stages that an audit names, in lines such as ``  shapes/seam/seam/seed0: train > cam > measure``."""
    lines = re.findall(r"^  \S+: (.+)$", audited, re.M)
    return {stage for line in lines for stage in line.split(" > ")}
