"""The contents of a record: their form, their identity and their seal.

``identity`` is the SHA-256 of what defines a job and its result: command, settings, inputs, outputs, and the identities
of the jobs that made the inputs. No time and no machine is part of it, so the same bytes made again have the same
identity. ``seal`` is the SHA-256 of the whole record. It finds every accident. It does not stop a forger, who can write
a new seal; the digests of ``anchor`` do.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from wsss.files import digest
from wsss.provenance.place import is_key

VERSION = 2
SCHEMA = Path(__file__).with_name("record.schema.json")
READS = ("provenance/record.schema.json",)
LARGEST = 64 * 2**20  # bytes of a record that is read
SETTINGS = "config.yaml"
NAMED = ("inputs", "outputs", "parents")  # whose keys are names of files below the root

Content = dict[str, Any]  # a record as JSON has it


class Broken(Exception):
    """A record that cannot be used. The message says why, in a few words."""


def text_of(content: Content) -> str:
    """Write a record as text."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def plain(value: Any) -> Any:
    """Copy settings in the types that JSON has."""
    return json.loads(json.dumps(value, default=str))


def identity(content: Content) -> str:
    """Return the digest of what defines a job and its result, 64 hex digits.

    A config.yaml counts by what it says. Files outside the results count by name and content, not by their folder.
    """
    outside = sorted([PurePosixPath(path).name, entry["sha256"]] for path, entry in content["external"].items())
    decisive = {
        "command": content["command"],
        "config": portable(content["config"], content["results"]),
        "inputs": {key: value for key, value in hashes(content["inputs"]).items() if not is_settings(key)},
        "external": outside,
        "outputs": hashes(content["outputs"]),
        "parents": content["parents"],
    }
    return digest(json.dumps(decisive, sort_keys=True, separators=(",", ":")))


def seal(content: Content) -> str:
    """Return the digest of all that a record says, apart from the seal itself."""
    return digest(text_of({key: value for key, value in content.items() if key != "seal"}))


def hashes(entries: dict[str, Content]) -> dict[str, str]:
    """Return the digests of files, by their names."""
    return {key: entry["sha256"] for key, entry in entries.items()}


def is_settings(key: str) -> bool:
    """Tell whether a file is the settings of a job."""
    return key.rpartition("/")[2] == SETTINGS


def portable(value: Any, results: str) -> Any:
    """Copy settings so that paths below the results do not say where the results are."""
    if results in ("", "."):  # any text could be such a path
        return value
    if isinstance(value, dict):
        return {key: portable(inner, results) for key, inner in value.items()}
    if isinstance(value, list):
        return [portable(inner, results) for inner in value]
    key = key_in(value, results) if isinstance(value, str) else None
    return value if key is None else f"{{results}}/{key}"


def key_in(text: str, results: str) -> str | None:
    """Return the name that records have for a path in settings; None for a path outside the results."""
    if results in ("", "."):
        return text if is_key(text) else None
    start = results.rstrip("/") + "/"
    return text.removeprefix(start) if text.startswith(start) else None


def parse(data: bytes) -> Content:
    """Read a record and check all that can be checked without another file.

    Raises:
        Broken: it is no record, of another version, or not as it was written.
    """
    content = _of_this_version(data)
    if (error := next(_validator().iter_errors(content), None)) is not None:
        place = "/".join(str(part) for part in error.absolute_path)
        raise Broken(f"is malformed{' at ' + place if place else ''}: {error.message[:120]}")
    for moment in ("started", "ended"):
        if not _is_moment(content[moment]):
            raise Broken(f"says no time at {moment}")
    _check_written(content, data)
    return content


def parse_sealed(data: bytes) -> Content:
    """Read a record for a job that needs only its files and identity; seal and identity tell if it is whole.

    The schema is left out: loading the library for it takes longer than all else that a small job records.

    Raises:
        Broken: as ``parse``.
    """
    content = _of_this_version(data)
    try:
        _check_written(content, data)
    except (KeyError, TypeError, AttributeError) as error:
        raise Broken(f"is malformed: {type(error).__name__}, {str(error)[:80]}") from None
    return content


def _of_this_version(data: bytes) -> Content:
    content = _decoded(data)
    if not isinstance(content, dict):
        raise Broken("holds no record")
    if content.get("version") != VERSION:
        raise Broken(f"is no record of version {VERSION}")
    return content


def _check_written(content: Content, data: bytes) -> None:
    """Check that a record is as a job wrote it."""
    for part in NAMED:
        if wrong := next((key for key in content[part] if not is_key(key)), None):
            raise Broken(f"names a file outside the results: {wrong[:120]!r}")
    if text_of(content).encode() != data:
        raise Broken("is not as it was written")
    if seal(content) != content["seal"]:
        raise Broken("was edited: its seal is of other contents")
    if identity(content) != content["identity"]:
        raise Broken("was edited: its identity is of other contents")


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # also what is no UTF-8, and numbers of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Broken(f"is not valid JSON ({reason[:80]})") from None


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
