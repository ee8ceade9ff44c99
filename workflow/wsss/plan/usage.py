"""What jobs took, by their records: GPU hours by paper before the next ones, and requests beside needs after them."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.files import read_json, write_text
from wsss.plan import requests
from wsss.plan.cost import Work, amount, config_of
from wsss.plan.plan import Plan
from wsss.plan.rates import Kind, job_of_record, kind_of
from wsss.plan.sizes import Counts
from wsss.stages import STAGES

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
        steps, images = amount(job, config, work.counts[job.dataset])
        kind, units = kind_of(job, config), steps or images
        if kind in pace and units is not None:
            hours[job.paper] += pace[kind] * units / 3600
        else:
            unknown += 1
    said = ", ".join(f"{paper} {number:,.1f}" for paper, number in hours.items())
    rest = f" {unknown} jobs are not counted, because none like them has run on a GPU." if unknown else ""
    return f"GPU hours, at the pace of earlier runs on GPUs: {said or 'not known'}.{rest}"


def _pace_on_gpus(plan: Plan, counts: dict[str, Counts]) -> dict[Kind, float]:
    """Measure GPU seconds per training step or image, by kind; a job on two GPUs takes two per second."""
    seconds: dict[Kind, float] = defaultdict(float)
    units: dict[Kind, int] = defaultdict(int)
    for dataset, known in counts.items():
        for path, record in _records(plan, dataset):
            device = str(record["machine"].get("device"))
            job = job_of_record(plan, path, record) if device.startswith("cuda") else None
            if job is None:
                continue
            steps, images = amount(job, record["config"], known)
            if done := steps or images:
                kind = kind_of(job, record["config"])
                seconds[kind] += record["seconds"] * len(device.split(", "))
                units[kind] += done
    return {kind: seconds[kind] / units[kind] for kind in units}


def _records(plan: Plan, dataset: str) -> Iterable[tuple[Path, dict[str, Any]]]:
    """Yield the records of the jobs of runs on a data set."""
    for path in sorted(plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json")):
        yield path, read_json(path)


@dataclass
class _Used:
    """What the jobs of a rule took."""

    jobs: int = 0
    attempts: int = 0
    seconds: float = 0
    longest: float = 0
    peak: int = 0
    child: int = 0
    minutes: int = 0
    megabytes: int = 0

    def add(self, plan: Plan, dataset: str, shard: str, record: dict[str, Any]) -> None:
        """Add a job by its record."""
        rule, argv = record["command"], record["argv"]
        workers = int(argv[argv.index("--workers") + 1]) if "--workers" in argv else 0
        self.minutes = max(self.minutes, requests.minutes(plan, rule, dataset, shard, trains=STAGES[rule].trains))
        self.megabytes = max(self.megabytes, requests.megabytes(plan, rule, dataset, workers))
        self.jobs += 1
        self.attempts += record["attempts"]["number"]
        self.seconds += record["seconds"]
        self.longest = max(self.longest, record["seconds"])
        self.peak = max(self.peak, record["peak_memory_mib"]["process"])
        self.child = max(self.child, record["peak_memory_mib"]["children"])


def write_efficiency(plan: Plan, dataset: str) -> Path | None:
    """Write what jobs took beside what their first attempts ask for, by rule, as a table; None where no job has run."""
    used: dict[str, _Used] = defaultdict(_Used)
    for path, record in _records(plan, dataset):
        if record["command"] in STAGES:
            used[record["command"]].add(plan, dataset, path.name.removesuffix(".record.json"), record)
    if not used:
        return None
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for rule in (name for name in STAGES if name in used):
        of = used[rule]
        times = (f"{of.seconds / 3600:.2f}", f"{of.longest / 60:.1f}", of.minutes)
        table.writerow((rule, of.jobs, of.attempts, *times, of.peak, of.child, of.megabytes))
    path = plan.results / "logs" / dataset / "efficiency.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path
