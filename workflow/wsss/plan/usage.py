"""What jobs took, by their records: an estimate of GPU hours before a run; after it, what was asked for and used."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from wsss.files import write_text
from wsss.plan import requests
from wsss.plan.jobs import Job
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.rates import estimate, pace_of, records
from wsss.plan.work import Work
from wsss.stages import STAGES

COLUMNS = (
    "rule",
    "jobs",
    "attempts",
    "hours",
    "longest_minutes",
    "asked_minutes",
    "peak_mb",
    "child_mb",  # of the largest child process
    "asked_mb",
)


def gpu_hours(work: Work) -> str:
    """Estimate GPU hours by paper as a sentence, from records of jobs that ran on a GPU; empty without any.

    A job on two GPUs takes two GPU hours in an hour.
    """
    pace = pace_of(work.plan, work.counts, _gpus)
    jobs = [job for job in work.jobs if STAGES[job.stage].network]
    seconds, unknown = estimate(work, jobs, pace)
    if not pace.hosts or not (seconds or unknown):
        return ""
    by_paper = [f"{paper} {number / 3600:,.1f}" for paper, number in seconds.items()]
    listed = ", ".join(by_paper) or "not known"
    text = f"GPU hours, at the pace of earlier runs on GPUs: {listed}."
    if unknown:
        text += f" {len(unknown)} jobs are not counted, because none like them has run on a GPU."
    return text


def _gpus(record: Raw) -> int:
    """Count the GPUs that a job ran on."""
    device = str(record["machine"].get("device"))
    if not device.startswith("cuda"):
        return 0
    return len(device.split(", "))


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

    def add(self, record: Raw) -> None:
        """Add what a job took, by its record."""
        memory = record["peak_memory_mib"]
        self.jobs += 1
        self.attempts += record["attempts"]["number"]
        self.seconds += record["seconds"]
        self.longest = max(self.longest, record["seconds"])
        self.peak = max(self.peak, memory["process"])
        self.child = max(self.child, memory["children"])

    def add_asked(self, plan: Plan, job: Job, record: Raw) -> None:
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
    for job, record in records(plan, dataset):
        used[job.stage].add(record)
        used[job.stage].add_asked(plan, job, record)
    return used
