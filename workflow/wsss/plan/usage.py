"""What jobs took, by their records: GPU hours by paper before the next ones, and requests beside needs after them."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.files import read_json, write_text
from wsss.plan import requests
from wsss.plan.cost import Work, config_of
from wsss.plan.jobs import Job
from wsss.plan.plan import Plan
from wsss.plan.rates import Kind, job_of_record, kind_of, units_of
from wsss.plan.sizes import Counts
from wsss.stages import STAGES

Record = dict[str, Any]
COLUMNS = (
    "rule",
    "jobs",
    "attempts",
    "hours",
    "longest_minutes",
    "asked_minutes",
    "peak_mb",
    "child_mb",
    "asked_mb",
)  # child: the largest one


def gpu_hours(work: Work) -> str:
    """Estimate GPU hours by paper as a sentence, from records of jobs that ran on a GPU; empty without any."""
    pace = _pace_on_gpus(work.plan, work.counts)
    if not pace:
        return ""
    hours: dict[str, float] = defaultdict(float)
    unknown = 0
    for job in work.jobs:
        if not STAGES[job.stage].network:
            continue
        config = config_of(work.plan, job)
        kind = kind_of(job, config)
        units = units_of(job, config, work.counts[job.dataset])
        if units == 0:  # official weights take the place of a training
            continue
        if units is None or kind not in pace:
            unknown += 1
            continue
        seconds = pace[kind] * units
        hours[job.paper] += seconds / 3600
    by_paper = [f"{paper} {number:,.1f}" for paper, number in hours.items()]
    listed = ", ".join(by_paper) or "not known"
    text = f"GPU hours, at the pace of earlier runs on GPUs: {listed}."
    if unknown:
        text += f" {unknown} jobs are not counted, because none like them has run on a GPU."
    return text


def _pace_on_gpus(plan: Plan, counts: dict[str, Counts]) -> dict[Kind, float]:
    """Measure GPU seconds per training step or image, by kind; a job on two GPUs takes two per second."""
    seconds: dict[Kind, float] = defaultdict(float)
    units: dict[Kind, int] = defaultdict(int)
    for dataset, known in counts.items():
        for job, record in _jobs_on_gpus(plan, dataset):
            config = record["config"]
            done = units_of(job, config, known)
            if not done:
                continue
            kind = kind_of(job, config)
            seconds[kind] += record["seconds"] * _gpus(record)
            units[kind] += done
    return {kind: seconds[kind] / units[kind] for kind in units}


def _jobs_on_gpus(plan: Plan, dataset: str) -> Iterator[tuple[Job, Record]]:
    """Yield the jobs on a data set that ran on GPUs, with their records."""
    for path, record in _records(plan, dataset):
        if not _gpus(record):
            continue
        if job := job_of_record(plan, path, record):
            yield job, record


def _gpus(record: Record) -> int:
    """Count the GPUs that a job ran on."""
    device = str(record["machine"].get("device"))
    if not device.startswith("cuda"):
        return 0
    return len(device.split(", "))


def _records(plan: Plan, dataset: str) -> Iterator[tuple[Path, Record]]:
    """Yield the records of the jobs of runs on a data set."""
    records = plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json")
    for path in sorted(records):
        yield path, read_json(path)


@dataclass
class _Used:
    """The resources that the jobs of a rule took, and those that the first attempts at them ask for.

    Args:
        jobs: their number.
        attempts: the number of their attempts.
        seconds: the time of all.
        longest: the time of the longest.
        minutes: the time that is asked for.
        peak: the most memory of a job's own process, in MiB.
        child: the most memory of one of its children.
        megabytes: the memory that is asked for.
    """

    jobs: int = 0
    attempts: int = 0
    seconds: float = 0
    longest: float = 0
    minutes: int = 0
    peak: int = 0
    child: int = 0
    megabytes: int = 0

    def add(self, record: Record) -> None:
        """Add what a job took, by its record."""
        memory = record["peak_memory_mib"]
        self.jobs += 1
        self.attempts += record["attempts"]["number"]
        self.seconds += record["seconds"]
        self.longest = max(self.longest, record["seconds"])
        self.peak = max(self.peak, memory["process"])
        self.child = max(self.child, memory["children"])

    def add_asked(self, plan: Plan, job: Job, record: Record) -> None:
        """Add what the first attempt at a job asks for, as its rule does."""
        several = requests.has_processes(job.stage, record["config"])
        workers = plan.config["workers"] if several else 0
        minutes = requests.minutes(
            plan,
            job.stage,
            job.dataset,
            job.images,
            trains=job.trains,
        )
        megabytes = requests.megabytes(plan, job.stage, job.dataset, workers)
        self.minutes = max(self.minutes, minutes)
        self.megabytes = max(self.megabytes, megabytes)

    def cells(self) -> tuple[object, ...]:
        """Return the cells of a line of the table, in the order of ``COLUMNS``, without the rule."""
        return (
            self.jobs,
            self.attempts,
            f"{self.seconds / 3600:.2f}",
            f"{self.longest / 60:.1f}",
            self.minutes,
            self.peak,
            self.child,
            self.megabytes,
        )


def write_efficiency(plan: Plan, dataset: str) -> Path | None:
    """Write what jobs took beside what their first attempts ask for, by rule, as a table; None where no job has run."""
    used = _used_by_rule(plan, dataset)
    if not used:
        return None
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for rule in STAGES:
        if rule in used:
            table.writerow((rule, *used[rule].cells()))
    path = plan.results / "logs" / dataset / "efficiency.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def _used_by_rule(plan: Plan, dataset: str) -> dict[str, _Used]:
    """Add up what the jobs of each rule took on a data set."""
    used: dict[str, _Used] = defaultdict(_Used)
    for path, record in _records(plan, dataset):
        job = job_of_record(plan, path, record)
        if job is None:
            continue
        used[job.stage].add(record)
        used[job.stage].add_asked(plan, job, record)
    return used
