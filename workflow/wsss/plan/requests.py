"""What jobs ask a cluster for: memory and time, from the table ``slurm/requests.csv``.

A row is what one job of a rule needs at the papers' sizes. Neither memory nor time decides a result.
"""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass, fields
from pathlib import Path

from wsss.files import read_json
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.resolve import PACKAGE
from wsss.plan.shards import shards_of
from wsss.stages import STAGES, setting

TABLE = PACKAGE.parent.parent / "slurm" / "requests.csv"
CLASSES = {"voc": 20, "coco": 80}  # of builders, before there is an index
SMALL = 3000  # MB of a job on the drawn data sets
SMALL_MINUTES = 30


@dataclass(frozen=True)
class Need:
    """A row of the table: what one job of a rule needs at the papers' sizes."""

    mb: float
    mb_per_1000_images: float
    mb_per_process: float
    mb_per_process_and_class: float
    minutes: float
    seconds_per_image: float

    def megabytes(self, images: int, labels: int, processes: int) -> int:
        """Return the memory of a job: for a data set of so many images and labels, in so many processes."""
        per_process = self.mb_per_process + self.mb_per_process_and_class * labels
        of_index = self.mb_per_1000_images * images / 1000
        return math.ceil(self.mb + of_index + per_process * processes)

    def whole_minutes(self, images: float) -> int:
        """Return the run time of a job that works on so many images."""
        on_images = self.seconds_per_image * images / 60
        return math.ceil(self.minutes + on_images)


@functools.cache
def table() -> dict[str, Need]:
    """Return the rows, by rule."""
    found = {}
    with TABLE.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found[row["rule"]] = _need(row)
    return found


def _need(row: dict[str, str]) -> Need:
    """Read a row."""
    values = {}
    for column in fields(Need):
        values[column.name] = float(row[column.name])
    return Need(**values)


def megabytes(
    plan: Plan,
    rule: str,
    dataset: str,
    processes: int = 0,
    attempt: int = 1,
) -> int:
    """Return the memory of a job in MB: that of its row, more for images, processes and classes, twice if it failed.

    Args:
        plan: the plan.
        rule: name of the rule.
        dataset: the data set.
        processes: its processes beside the network.
        attempt: 1 for the first try.
    """
    times = min(attempt, 2)
    if is_small(plan, dataset):
        return SMALL * times
    need = table()[rule]
    number = images(plan, dataset)
    labels = classes(plan, dataset) + 1
    return need.megabytes(number, labels, processes) * times


def minutes(
    plan: Plan,
    rule: str,
    dataset: str,
    shard: str = "",
    attempt: int = 1,
    trains: bool = False,
) -> int:
    """Return the minutes to ask for: those of the rule's row plus those for its images, times the attempt.

    For a training, the attempt does not count: it resumes from its checkpoint. On drawn data (``shapes``), images do
    not count, and a row counts for ``SMALL_MINUTES`` at most. A training there asks for twice as much.

    Args:
        plan: the plan.
        rule: name of the rule.
        dataset: the data set.
        shard: ``part-i-of-n`` of a job that works on a shard, ``part`` of one that works on all images of a part.
        attempt: 1 for the first try.
        trains: the job trains a network.
    """
    need = table()[rule]
    if is_small(plan, dataset):
        most = int(min(need.minutes, SMALL_MINUTES))
        return most * (2 if trains else attempt)
    on_images = _images_of(plan, dataset, shard)
    return need.whole_minutes(on_images) * (1 if trains else attempt)


def _images_of(plan: Plan, dataset: str, shard: str) -> float:
    """Count the images of a shard; where its part is not known, a share of all images."""
    part, _, _ = shard.partition("-")
    counts = plan.sizes(dataset)
    of_part = counts.get(part, images(plan, dataset))
    return of_part / shards_of(shard)


def is_small(plan: Plan, dataset: str) -> bool:
    """Tell whether a data set is drawn: its jobs are quick."""
    builder = plan.dataset(dataset)["builder"]
    return bool(builder == "shapes")


def has_processes(stage: str, settings: Raw) -> bool:
    """Tell whether a job works in several processes. Some stages do if their settings have a CRF beside the network."""
    asked = STAGES[stage].processes
    if isinstance(asked, bool):
        return asked
    return bool(setting(settings, asked))


@functools.cache
def images(plan: Plan, dataset: str) -> int:
    """Count the images of a data set, as far as it is known."""
    counts = plan.sizes(dataset)
    train = counts.get("train", 0)
    val = counts.get("val", 0)
    return train + val


@functools.cache
def classes(plan: Plan, dataset: str) -> int:
    """Count the classes of a data set; without an index, those of its settings, or the usual number of its builder."""
    about = Path(plan.data(dataset), "dataset.json")
    if about.is_file():
        indexed = read_json(about)["classes"]
        return len(indexed)
    spec = plan.dataset(dataset)
    named = spec["options"].get("classes")
    if isinstance(named, list):
        return len(named)
    return CLASSES.get(spec["builder"], 20)
