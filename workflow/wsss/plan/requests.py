"""What jobs ask a cluster for: memory and time, from the table ``slurm/requests.csv``.

A row is what one job of a rule needs at the papers' sizes. Both are asked for, and neither decides a result.
"""

from __future__ import annotations

import csv
import functools
import math
from pathlib import Path

from wsss.files import read_json
from wsss.plan.jobs import shards_of
from wsss.plan.plan import Plan
from wsss.plan.resolve import PACKAGE

TABLE = PACKAGE.parent.parent / "slurm" / "requests.csv"
CLASSES = {"voc": 20, "coco": 80}  # of builders, before there is an index
SMALL = 3000  # MB of a job on the drawn data sets
SMALL_MINUTES = 30


@functools.cache
def table() -> dict[str, dict[str, float]]:
    """Return the rows, by rule."""
    with TABLE.open(newline="", encoding="utf-8") as stream:
        rows = {row.pop("rule"): row for row in csv.DictReader(stream)}
    return {rule: {key: float(row[key]) for key in row if key != "known_from"} for rule, row in rows.items()}


def megabytes(plan: Plan, rule: str, dataset: str, processes: int = 0, attempt: int = 1) -> int:
    """Return the memory of a job in MB: that of its row, more for images, processes and classes, twice if it failed.

    Args:
        plan: the plan.
        rule: name of the rule.
        dataset: the data set.
        processes: its processes beside the network.
        attempt: 1 for the first try.
    """
    if is_small(plan, dataset):
        return SMALL * min(attempt, 2)
    row, labels = table()[rule], classes(plan, dataset) + 1
    per_process = row["mb_per_process"] + row["mb_per_process_and_class"] * labels
    found = row["mb"] + row["mb_per_1000_images"] * images(plan, dataset) / 1000 + per_process * processes
    return math.ceil(found) * min(attempt, 2)


def minutes(plan: Plan, rule: str, dataset: str, shard: str = "", attempt: int = 1, trains: bool = False) -> int:
    """Return the minutes of a job: those of its row, and for each image it works on; longer if it failed.

    A training goes on where it was stopped, so it never needs more than the first time.

    Args:
        plan: the plan.
        rule: name of the rule.
        dataset: the data set.
        shard: ``part-i-of-n`` of a job that works on a shard, ``part`` of one that works on all images of it.
        attempt: 1 for the first try.
        trains: the job trains a network.
    """
    row, factor = table()[rule], 1 if trains else attempt
    if is_small(plan, dataset):
        return int(min(row["minutes"], SMALL_MINUTES)) * (2 if trains else factor)
    part = shard.partition("-")[0]
    counts = plan.sizes(dataset)
    worked_on = counts.get(part, images(plan, dataset)) / shards_of(shard)
    return math.ceil(row["minutes"] + row["seconds_per_image"] * worked_on / 60) * factor


def is_small(plan: Plan, dataset: str) -> bool:
    """Tell whether a data set is drawn: its jobs are quick."""
    return bool(plan.dataset(dataset)["builder"] == "shapes")


@functools.cache
def images(plan: Plan, dataset: str) -> int:
    """Count the images of a data set, as far as it is known."""
    counts = plan.sizes(dataset)
    return counts.get("train", 0) + counts.get("val", 0)


@functools.cache
def classes(plan: Plan, dataset: str) -> int:
    """Count the classes of a data set; without an index, what its builder is known for."""
    spec, about = plan.dataset(dataset), Path(plan.data(dataset), "dataset.json")
    if about.is_file():
        return len(read_json(about)["classes"])
    named = spec["options"].get("classes")
    return len(named) if isinstance(named, list) else CLASSES.get(spec["builder"], 20)
