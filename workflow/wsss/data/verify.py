"""Check of a data set before training: every file is decoded, compared and hashed, and all faults are reported."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsss.data.index import SEPARATOR, Dataset, Record
from wsss.errors import Problems, WsssError
from wsss.stores import IGNORE

UNLABELLED = "test"  # images of this split alone need no labels: those of a benchmark's test set are not public


@dataclass(frozen=True)
class Entry:
    """One image as a builder found it. ``labels`` is None if there are none.

    ``shows_none``: its annotations say that it shows no class, which is no fault.
    """

    id: str
    image: str
    mask: str | None
    split: tuple[str, ...]
    labels: tuple[str, ...] | None
    instances: str | None = None
    shows_none: bool = False


def indexed(
    name: str, classes: Sequence[str], root: str | Path, entries: Iterable[Entry], found: Iterable[str] = ()
) -> Dataset:
    """Check every entry and turn it into a record.

    Args:
        name, classes, root: see ``Dataset``.
        entries: one per image.
        found: faults that the builder has found before.

    Raises:
        Problems: all faults at once, each with its file or id: an image that cannot be decoded, a mask of another size
            or with values that are no class, no label or an unknown one, an id that occurs twice, a missing file.
    """
    folder, all_entries = Path(root), list(entries)
    findings = [*found, *_ids(all_entries), *_names(classes, all_entries)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow and hashlib release the interpreter lock
        checked = list(pool.map(lambda entry: _checked(entry, folder, list(classes)), all_entries))
    findings += [finding for _, of_entry in checked for finding in of_entry]
    if not all_entries and not findings:
        findings = ["it has no image"]
    if findings:
        raise Problems(f"data set '{name}' cannot be used, {len(findings)} finding(s):", findings)
    return Dataset(name, classes, folder, [record for record, _ in checked if record])


def _ids(entries: list[Entry]) -> list[str]:
    findings = [f"{i}: the id occurs {n} times; give each image one" for i, n in _counts(entries) if n > 1]
    for entry in entries:
        parts = PurePosixPath(entry.id).parts
        if not parts or entry.id.startswith("/") or ".." in parts or "\\" in entry.id or entry.id != entry.id.strip():
            findings.append(f"'{entry.id}': not usable as an id; ids are names or relative paths without '..'")
    return findings


def _counts(entries: list[Entry]) -> list[tuple[str, int]]:
    return list(Counter(entry.id for entry in entries).items())


def _names(classes: Sequence[str], entries: list[Entry]) -> list[str]:
    names = [*classes, *{split for entry in entries for split in entry.split}]
    findings = [f"'{name}': a class or split must not contain '{SEPARATOR}'" for name in names if SEPARATOR in name]
    findings += [f"class '{name}' occurs {n} times" for name, n in Counter(classes).items() if n > 1]
    if not 0 < len(classes) < IGNORE:
        findings.append(f"{len(classes)} classes; there must be 1 to {IGNORE - 1}")
    return findings


def _checked(entry: Entry, root: Path, classes: list[str]) -> tuple[Record | None, list[str]]:
    findings = _label_findings(entry, classes)
    try:
        image = _decode(root / entry.image)
        mask = _decode(root / entry.mask) if entry.mask else None
        objects = _decode(root / entry.instances) if entry.instances else None
    except WsssError as error:
        return None, [*findings, str(error)]
    for path, found, values in ((entry.mask, mask, len(classes)), (entry.instances, objects, IGNORE - 1)):
        if path and found:
            of_mask = _mask_findings(found.picture, image.picture.size, values)
            findings += [f"{root / path}: {finding}" for finding in of_mask]
    record = Record(
        id=entry.id,
        image=entry.image,
        mask=entry.mask,
        split=entry.split,
        labels=tuple(name for name in classes if name in (entry.labels or ())),
        width=image.picture.width,
        height=image.picture.height,
        sha256=image.sha256,
        mask_sha256=mask.sha256 if mask else None,
        instances=entry.instances,
        instances_sha256=objects.sha256 if objects else None,
    )
    return record, findings


def _label_findings(entry: Entry, classes: list[str]) -> list[str]:
    if not entry.labels:
        exempt = set(entry.split) == {UNLABELLED} or entry.shows_none
        return [] if exempt else [f"{entry.id}: no image-level label; add it, or leave the image out"]
    unknown = sorted(set(entry.labels) - set(classes))
    return [f"{entry.id}: label '{name}' is no class; correct it to one of {', '.join(classes)}" for name in unknown]


class _Decoded(NamedTuple):
    """A picture that is fully decoded, and the SHA-256 of its file."""

    picture: Image.Image
    sha256: str


def _decode(path: Path) -> _Decoded:
    """Decode and hash the file of a picture.

    Raises:
        WsssError: there is no such file, or it cannot be decoded.
    """
    try:
        data = path.read_bytes()
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except FileNotFoundError:
        raise WsssError(f"{path}: listed, but there is no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "is no image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise WsssError(f"{path}: cannot be decoded ({reason}); restore the file") from None
    return _Decoded(picture, hashlib.sha256(data).hexdigest())


def _mask_findings(mask: Image.Image, size: tuple[int, int], n_classes: int) -> list[str]:
    if mask.mode not in ("P", "L"):
        return [f"mode {mask.mode}; a mask is a palette or grey PNG whose values are class indices"]
    findings = []
    if mask.size != size:
        findings.append("is {}x{} but its image is {}x{} (width x height)".format(*mask.size, *size))
    values = np.flatnonzero(mask.histogram())
    strange = values[(values > n_classes) & (values != IGNORE)]
    if len(strange):
        findings.append(f"values {', '.join(map(str, strange))} are neither 0 to {n_classes} nor {IGNORE}")
    return findings
