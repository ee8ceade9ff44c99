"""Re-hash everything a target rests on and name what does not match."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wsss.errors import WsssError
from wsss.files import read_json, sha256
from wsss.provenance.record import find_record, record_path


@dataclass
class Audit:
    """What an audit saw. ``findings`` are (kind, path, explanation)."""

    records: dict[Path, dict] = field(default_factory=dict)
    hashes: dict[str, str | None] = field(default_factory=dict)
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    images: int = 0

    def hash(self, path: str) -> str | None:
        if path not in self.hashes:
            self.hashes[path] = sha256(path) if Path(path).exists() else None
        return self.hashes[path]

    def note(self, kind: str, path: str | Path, explanation: str) -> None:
        if (kind, str(path), explanation) not in self.findings:
            self.findings.append((kind, str(path), explanation))


def audit(target: str | Path) -> Audit:
    """Check the record of ``target`` and every record below it.

    Kinds of findings: ``modified`` (not what its record says), ``missing``, ``stale`` (made from something that has
    changed since), ``untraced`` (no record says where it comes from).

    Raises:
        WsssError: there is no record for ``target`` itself.
    """
    target = Path(target)
    if target.is_absolute() and not find_record(target):  # records name files as the workflow does, from its folder
        target = Path(os.path.relpath(target))
    start = find_record(target) or (record_path(target) if record_path(target).is_file() else None)
    if start is None:
        raise WsssError(
            f"{target}: no record says where this comes from; audit in the folder snakemake ran in, or make it first"
        )
    seen = Audit()
    _walk(start, seen)
    return seen


def _walk(record: Path, seen: Audit) -> None:
    if record in seen.records:
        return
    content = seen.records[record] = read_json(record)
    for path, expected in content["outputs"].items():
        _compare(path, expected, "modified", f"differs from what '{content['command']}' wrote", seen)
        if Path(path).name == "index.csv" and Path(path).is_file():
            _check_images(Path(path), seen)
    for path, expected in content["inputs"].items():
        _compare(
            path, expected, "stale", f"changed after '{content['command']}' made {_first_output(content)} from it", seen
        )
        if _is_result(path, record) and find_record(path) is None and Path(path).name != "config.yaml":
            seen.note("untraced", path, "has no record")
    for parent, expected in content["parents"].items():
        if not Path(parent).is_file():
            seen.note("missing", parent, f"record of an input of {_first_output(content)}")
            continue
        if seen.hash(parent) != expected:
            seen.note("stale", _first_output(content), f"{parent} was written again after it")
        _walk(Path(parent), seen)


def _compare(path: str, expected: str, kind: str, explanation: str, seen: Audit) -> None:
    actual = seen.hash(path)
    if actual is None:
        seen.note("missing", path, "is gone")
    elif actual != expected:
        seen.note(kind, path, explanation)


def _first_output(content: dict) -> str:
    return next(iter(content["outputs"]), content["command"])


def _is_result(path: str, record: Path) -> bool:
    """Inputs from outside the results (a user's images, released weights) are pinned by hash only."""
    if Path(path).is_absolute():  # results can be anywhere: a stage's have its settings beside them
        return Path(path).with_name("config.yaml").is_file()
    return Path(path).parts[:1] == record.parts[:1]


def _check_images(index: Path, seen: Audit) -> None:
    """The index lists the hash of every image and mask: they are part of the chain."""
    if not index.with_name("dataset.json").is_file():
        seen.note("missing", index.with_name("dataset.json"), "is gone")
        return
    root = Path(read_json(index.with_name("dataset.json"))["root"])
    root = root if root.is_absolute() else index.parent / root
    for path, expected in _listed(index, root):
        seen.images += 1
        _compare(str(path), expected, "modified", f"differs from {index}", seen)


def _listed(index: Path, root: Path) -> Iterator[tuple[Path, str]]:
    with index.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            yield root / row["image"], row["sha256"]
            for key in ("mask", "instances"):
                if row.get(key):
                    yield root / row[key], row[f"{key}_sha256"]


def describe(target: str | Path, seen: Audit) -> str:
    """The audit as text: the chain from the target down, then what was found."""
    lines = [f"{target}", ""]
    for record, content in seen.records.items():
        code = content["code"]
        commit = (code["commit"] or "no commit")[:12] + ("+changes" if code["dirty"] else "")
        lines.append(f"  {content['command']:<12} {_first_output(content)}")
        lines.append(
            f"  {'':<12} record {sha256(record)[:16]}  {content['ended']}  {content['seconds']:.0f} s  {commit}"
        )
    files = sum(Path(path).name != "record.json" and not path.endswith(".record.json") for path in seen.hashes)
    lines += [
        "",
        f"{len(seen.records)} records, {files - seen.images} files and {seen.images} images and masks re-hashed.",
    ]
    if not seen.findings:
        return "\n".join([*lines, "Everything matches its record."])
    return "\n".join([*lines, *(f"{kind}: {path}: {text}" for kind, path, text in sorted(seen.findings))])
