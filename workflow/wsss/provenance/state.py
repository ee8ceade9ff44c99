"""A quick look at a record, for the state of a table or figure: states are asked for often, and rest on gigabytes."""

from __future__ import annotations

import os
from pathlib import Path

from wsss.files import sha256
from wsss.provenance.content import Broken, Content, parse
from wsss.provenance.place import Place

SMALL = 2**20  # bytes of a file that is always read again


def read(record: Path) -> Content | None:
    """Return a record; None where there is none that can be used."""
    try:
        return parse(record.read_bytes())
    except (OSError, Broken):
        return None


def changed_input(record: Path) -> str | None:
    """Return the fault of an input of a job, such as ``results/x is gone``; None where none has a fault.

    A large file older than the record is not read again. ``wsss audit`` reads all.
    """
    content = read(record)
    if content is None:
        return f"{record} cannot be read"
    place, made = Place.of(record), record.stat().st_mtime
    files = {str(place.path(key)): entry for key, entry in content["inputs"].items()} | content["external"]
    for path, entry in files.items():
        name = os.path.relpath(path)
        if not Path(path).is_file():
            return f"{name} is gone"
        found = Path(path).stat()
        read_again = found.st_size < SMALL or found.st_mtime > made
        if found.st_size != entry["size"] or (read_again and sha256(path) != entry["sha256"]):
            return f"{name} has changed"
    return None


def changed_output(record: Path) -> str | None:
    """Return the fault of an output of a job: a table that was edited is not ``made``."""
    content, place = read(record), Place.of(record)
    for key, entry in content["outputs"].items() if content else ():
        path = place.path(key)
        if not path.is_file():
            return f"{os.path.relpath(path)} is gone"
        if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
            return f"{os.path.relpath(path)} has changed"
    return None


def content_digest(record: Path) -> str:
    """Return the identity of a record, 64 hex digits; empty where there is none that can be used."""
    content = read(record)
    return str(content["identity"]) if content else ""
