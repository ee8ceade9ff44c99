"""Check of a data set before training: every file is decoded, compared and hashed, and all faults are reported."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from wsss.data import classes as of_classes
from wsss.data import masks, pictures, splits
from wsss.data.index import SEPARATOR, Dataset, Record
from wsss.errors import Problems, WsssError, some
from wsss.stores import IGNORE

UNLABELLED = "test"  # images of this split alone need no labels: those of a benchmark's test set are not public


@dataclass(frozen=True)
class Entry:
    """One image as a builder found it.

    Args:
        labels: None if nobody knows them, and empty if it shows no class.
        painted_from: the file of annotations that the builder has painted the mask from.
    """

    id: str
    image: str
    mask: str | None
    split: tuple[str, ...]
    labels: tuple[str, ...] | None
    instances: str | None = None
    painted_from: Path | None = None


def indexed(
    name: str,
    classes: Sequence[str],
    root: str | Path,
    entries: Iterable[Entry],
    found: Iterable[str] = (),
    roles: Mapping[str, str] = splits.ROLES,
    megapixels: float = math.inf,
) -> Dataset:
    """Check every entry and turn it into a record. What is odd but no fault gets one line on stderr.

    Args:
        name, classes, root: see ``Dataset``.
        entries: one per image.
        found: faults that the builder has found before.
        roles: role -> split, of ``train``, ``measured`` and ``val``.
        megapixels: the size above which an image is a fault, in millions of pixels.

    Raises:
        Problems: all faults at once, each with its file or id: an image that cannot be decoded, a mask of another size
            or with values that are no class, labels that are lacking, no class, or contradicted by the masks, an id
            that occurs twice, a missing file, an image that is both learned from and measured on.
    """
    folder, all_entries = Path(root), list(entries)
    findings = [*found, *_ids(all_entries), *_names(classes, all_entries), *_labels(all_entries, classes)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow and hashlib release the interpreter lock
        checked = list(pool.map(lambda entry: _checked(entry, folder, list(classes)), all_entries))
    findings += [finding for of_entry in checked for finding in of_entry.findings]
    findings += _too_large([of_entry.record for of_entry in checked if of_entry.record], megapixels)
    if not all_entries and not findings:
        findings = ["it has no image"]
    records = [of_entry.record for of_entry in checked if of_entry.record]
    labelled = [entry.labels is not None for entry in all_entries]
    pairs = [
        masks.Pair(of_entry.record.id, of_entry.record.labels, of_entry.values)
        for of_entry, known in zip(checked, labelled, strict=True)
        if of_entry.record and of_entry.record.mask and known and not of_entry.findings
    ]
    remarks = []
    for finds, remarked in (masks.compare(pairs, classes), splits.shared(records, roles)):
        findings += finds
        remarks += remarked
    if findings:
        raise Problems(f"data set '{name}' cannot be used, {len(findings)} finding(s):", findings)
    if renumbered := sum(of_entry.renumbered for of_entry in checked):
        remarks.append(
            f"the palette of {renumbered} masks is VOC's in another order, or grey: values are taken by colour"
        )
    for remark in [*remarks, *splits.unlearnable(records, classes, roles)]:
        print(f"data set '{name}': {remark}", file=sys.stderr)
    return Dataset(name, classes, folder, records)


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
    return findings + of_classes.faults(classes)


def _labels(entries: list[Entry], classes: Sequence[str]) -> list[str]:
    """List the images whose labels are not known, one line each, and the labels that are no class, once each."""
    lacking = [entry.id for entry in entries if entry.labels is None and set(entry.split) != {UNLABELLED}]
    findings = [f"{i}: no image-level label; add it, or leave the image out" for i in lacking]
    unknown: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for name in sorted(set(entry.labels or ()) - set(classes)):
            unknown[name].append(entry.id)
    for name, ids in unknown.items():
        more = f" (also in {len(ids) - 1} other images)" if len(ids) > 1 else ""
        findings.append(f"{ids[0]}: label '{name}'{more} is no class; {of_classes.advice(name, classes)}")
    return findings


def _too_large(records: list[Record], megapixels: float) -> list[str]:
    """Say in one line which images would take more memory than is expected of a machine."""
    large = [record for record in records if record.width * record.height > megapixels * 1e6]
    if not large:
        return []
    most = max(large, key=lambda record: record.width * record.height)
    return [
        f"{len(large)} images have more than {megapixels:g} million pixels ({some([record.id for record in large])}; "
        f"'{most.id}' is {most.width}x{most.height}), and refinement takes about a GiB of memory for each 2 million: "
        "scale them and their masks down, or set the option 'megapixels' to what your machine has memory for"
    ]


class _Checked(NamedTuple):
    """An entry as a record, the faults of its files, the values of its mask, and whether its palette is renumbered."""

    record: Record | None
    findings: list[str]
    values: tuple[int, ...] = ()
    renumbered: bool = False


def _checked(entry: Entry, root: Path, classes: list[str]) -> _Checked:
    findings: list[str] = []
    try:
        data = pictures.stored(root / entry.image)
        size = _size(data, root / entry.image)
    except WsssError as error:
        return _Checked(None, [str(error)])
    digests: dict[str, str] = {}
    values: tuple[int, ...] = ()
    renumbered = False
    for path, highest in ((entry.mask, len(classes)), (entry.instances, IGNORE - 1)):
        if path is None:
            continue
        try:
            of_mask = pictures.stored(root / path)
            mask = pictures.decoded(of_mask, root / path)
        except WsssError as error:
            return _Checked(None, [*findings, str(error)])
        digests[path] = hashlib.sha256(of_mask).hexdigest()
        faults = masks.faults(mask, size, highest)
        named = f"{entry.painted_from}: the mask of '{entry.id}'" if entry.painted_from else f"{root / path}:"
        findings += [f"{named} {fault}" for fault in faults]
        if path == entry.mask and not faults:
            read = masks.values(mask, highest)
            values = tuple(np.unique(read).tolist())
            renumbered = mask.mode == "P" and not np.array_equal(read, np.asarray(mask))
    record = Record(
        id=entry.id,
        image=entry.image,
        mask=entry.mask,
        split=entry.split,
        labels=tuple(name for name in classes if name in (entry.labels or ())),
        width=size[0],
        height=size[1],
        sha256=hashlib.sha256(data).hexdigest(),
        mask_sha256=digests.get(entry.mask or ""),
        instances=entry.instances,
        instances_sha256=digests.get(entry.instances or ""),
    )
    return _Checked(record, findings, values, renumbered)


def _size(data: bytes, path: Path) -> tuple[int, int]:
    """Return width and height of an image as all stages read it; raise an error where they could not read it."""
    height, width = pictures.rgb(pictures.decoded(data, path), path).shape[:2]
    return width, height
