"""The numbers of images of a data set: counted in its index, or estimated from its settings before there is one."""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from pathlib import Path

from wsss.plan.layers import Raw

Counts = dict[str, int]  # images of each part, or of each split
PUBLISHED = {  # images of the lists that are downloaded, or expected, but not indexed yet
    "voc": {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582},
    "coco": {"train": 82081, "val": 40137},
}


def sizes(spec: Raw, index: Path) -> Counts:
    """Count the images of each part (``measured``, ``rest``, ``val``), of ``train`` and of ``pretraining``.

    Unknown numbers are left out.

    Args:
        spec: the data set's entry in the configuration.
        index: the table of its images, if it has been made.
    """
    counts = _splits(spec, index)
    splits = dict(spec["splits"])
    if "pretraining" in spec:
        own = spec["pretraining"]
        splits["pretraining"] = own.get("images") or splits["train"]
    found = {}
    for role, split in splits.items():
        if split in counts:
            found[role] = counts[split]
    train = found.get("train")
    measured = found.get("measured")
    if train is not None and measured is not None:
        found["rest"] = train - measured
    return found


def _splits(spec: Raw, index: Path) -> Counts:
    """Count the images of each split."""
    if index.is_file():
        status = index.stat()
        return _counted(index, status.st_mtime_ns, status.st_size)
    if spec["builder"] == "shapes":
        return _drawn(spec["options"])
    if spec.get("published"):
        return PUBLISHED.get(spec["builder"], {})
    return {}


def _drawn(options: Raw) -> Counts:
    """Count the images of each split that will be drawn."""
    train = options["train"]
    measured = options.get("measured")
    return {
        "train": train,
        "val": options["val"],
        "measured": measured or train,
        "icons": options.get("icons", 0),
    }


@functools.lru_cache(maxsize=16)
def _counted(index: Path, changed: int, size: int) -> Counts:
    """Count the images of each split in an index. It is read once, unless it changes."""
    members: dict[str, set[str]] = defaultdict(set)
    with index.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            splits = row["split"].split(";")
            for split in splits:
                members[split].add(row["id"])
    found = {}
    for split, ids in members.items():
        found[split] = len(ids)
    return found
