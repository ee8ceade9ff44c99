"""How much a target is for a cluster: submissions and disk."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

from wsss.errors import WsssError
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
    words = f"With --profile slurm that is {submissions(jobs)} submissions. Scores take about {needed:,.0f} GB of disk"
    kept = "" if "scores" not in plan.config.get("temporary", ()) else ", of which most are deleted on the way"
    return f"{words}{kept}; {free_gigabytes(plan.results):,.0f} GB are free."


def free_gigabytes(folder: Path) -> float:
    """Return the free disk below a folder that may not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / 1e9


def check_disk(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> None:
    """Compare the disk that the scores of jobs take with what is free.

    Raises:
        WsssError: it is not enough, and no result is temporary.
    """
    needed, free = gigabytes(plan, jobs, counts), free_gigabytes(plan.results)
    if needed > free and not plan.config.get("temporary"):
        raise WsssError(
            f"{plan.results}: {free:,.0f} GB are free, and scores take {needed:,.0f} GB; put results elsewhere "
            "(--config results=...), or set temporary: [scores]"
        )
