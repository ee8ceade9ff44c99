"""How much a target is for a cluster: submissions and disk."""

from __future__ import annotations

import math
from collections import Counter

from wsss.files import read_yaml
from wsss.plan.cost import Counts, amount, config_of
from wsss.plan.jobs import Job
from wsss.plan.plan import Plan
from wsss.plan.requests import TABLE
from wsss.stages import STAGES

PROFILE = TABLE.with_name("config.yaml")
SCORES_MB = 0.387  # of an image of VOC 2012 in a shard of scores, on average


def submissions(jobs: list[Job]) -> int:
    """Return the number of submissions that the Slurm profile makes of jobs: short ones share them."""
    profile = read_yaml(PROFILE)
    group_of = dict(text.split("=") for text in profile["groups"])
    size_of = dict(text.split("=") for text in profile["group-components"])
    counts = Counter(group_of.get(job.stage, job.stage) for job in jobs)
    return sum(math.ceil(n / int(size_of.get(name, 1))) for name, n in counts.items())


def gigabytes(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> float:
    """Return the disk that the scores of jobs take; all else is small beside them."""
    stored = [job for job in jobs if STAGES[job.stage].makes == "scores"]
    images = sum(amount(job, config_of(plan, job), counts[job.dataset])[1] or 0 for job in stored)
    return images * SCORES_MB / 1000


def describe(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> str | None:
    """Submissions and disk as a sentence; None where it all fits on any machine."""
    needed = gigabytes(plan, jobs, counts)
    if needed < 1:
        return None
    return f"With --profile slurm that is {submissions(jobs)} submissions. Scores take about {needed:,.0f} GB of disk."
