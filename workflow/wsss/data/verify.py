"""Before anything is trained, every file of a data set is decoded, compared and hashed; all faults are reported."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from wsss.data.index import SEPARATOR, Dataset, Record
from wsss.errors import Problems, WsssError
from wsss.stores import IGNORE

UNLABELLED = "test"  # images of this split alone need no labels: those of a benchmark's test set are not public


@dataclass(frozen=True)
class Entry:
    """What a builder found about one image. ``labels`` is None if nothing was found."""

    id: str
    image: str
    mask: str | None
    split: tuple[str, ...]
    labels: tuple[str, ...] | None
    instances: str | None = None


def indexed(
    name: str, classes: Sequence[str], root: str | Path, entries: Iterable[Entry], found: Iterable[str] = ()
) -> Dataset:
    """Check every entry and turn it into a record.

    Args:
        name, classes, root: see ``Dataset``.
        entries: one per image.
        found: what the builder has found wrong before.

    Raises:
        Problems: all findings at once, each naming the file or id: an image that cannot be decoded, a mask of another
            size or with values that are no class, no or an unknown label, an id twice, a listed file that is missing.
    """
    root, entries = Path(root), list(entries)
    findings = [*found, *_ids(entries), *_names(classes, entries)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow and hashlib release the interpreter lock
        checked = list(pool.map(lambda entry: _checked(entry, root, list(classes)), entries))
    findings += [finding for _, of_entry in checked for finding in of_entry]
    if not entries and not findings:
        findings = ["it has no image"]
    if findings:
        raise Problems(f"data set '{name}' cannot be used, {len(findings)} finding(s):", findings)
    return Dataset(name, classes, root, [record for record, _ in checked])


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
        picture, digest = _decode(root / entry.image)
        mask, mask_digest = _decode(root / entry.mask) if entry.mask else (None, None)
        objects, objects_digest = _decode(root / entry.instances) if entry.instances else (None, None)
    except WsssError as error:
        return None, [*findings, str(error)]
    for path, found, values in ((entry.mask, mask, len(classes)), (entry.instances, objects, IGNORE - 1)):
        if path:
            findings += [f"{root / path}: {finding}" for finding in _mask_findings(found, picture.size, values)]
    labels = tuple(name for name in classes if name in (entry.labels or ()))
    size = {"width": picture.width, "height": picture.height}
    hashes = {"sha256": digest, "mask_sha256": mask_digest}
    hashes |= {"instances": entry.instances, "instances_sha256": objects_digest}
    return Record(entry.id, entry.image, entry.mask, entry.split, labels, **size, **hashes), findings


def _label_findings(entry: Entry, classes: list[str]) -> list[str]:
    if not entry.labels:
        exempt = set(entry.split) == {UNLABELLED}
        return [] if exempt else [f"{entry.id}: no image-level label; add it, or leave the image out"]
    unknown = sorted(set(entry.labels) - set(classes))
    return [f"{entry.id}: label '{name}' is no class; correct it to one of {', '.join(classes)}" for name in unknown]


def _decode(path: Path) -> tuple[Image.Image, str]:
    """The fully decoded picture and the SHA-256 of its file."""
    try:
        data = path.read_bytes()
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except FileNotFoundError:
        raise WsssError(f"{path}: listed, but there is no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "is no image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise WsssError(f"{path}: cannot be decoded ({reason}); restore the file") from None
    return picture, hashlib.sha256(data).hexdigest()


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
