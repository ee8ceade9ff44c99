"""What targets need on a cluster: submissions and disk."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wsss.errors import WsssError
from wsss.plan.jobs import Job
from wsss.plan.requests import TABLE
from wsss.plan.work import Work, amount_of
from wsss.plan.written import read
from wsss.stages import STAGES

PROFILE = TABLE.with_name("config.yaml")
SCORES_MB = 0.387  # of an image of VOC 2012 in a shard of scores, on average


def submissions(jobs: Iterable[Job]) -> int:
    """Return the number of submissions that the Slurm profile makes of jobs: short ones share them."""
    profile = read(PROFILE)
    group_of = _pairs(profile["groups"])
    size_of = _pairs(profile["group-components"])
    counts = Counter(group_of.get(job.stage, job.stage) for job in jobs)
    found = 0
    for name, number in counts.items():
        size = int(size_of.get(name, 1))
        found += math.ceil(number / size)
    return found


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """Read texts like ``cam=localize``."""
    return dict(text.split("=") for text in texts)


def gigabytes(work: Work) -> float:
    """Return the disk that the scores of jobs take; all else is small beside them."""
    images = 0
    for job in work.jobs:
        if STAGES[job.stage].makes == "scores":
            _, covered = amount_of(work, job)
            images += covered or 0
    return images * SCORES_MB / 1000


def describe(work: Work) -> str:
    """Describe submissions and disk; empty where it all fits on any machine."""
    needed = gigabytes(work)
    if needed < 1:
        return ""
    number = submissions(work.jobs)
    free = free_gigabytes(work.plan.results)
    kept = ", of which most are deleted on the way" if _temporary(work) else ""
    return (
        f"With --profile slurm that is {number} submissions. Scores take about {needed:,.0f} GB of disk{kept}; "
        f"{free:,.0f} GB are free."
    )


def _temporary(work: Work) -> bool:
    """Tell whether scores are deleted as soon as nothing needs them."""
    return "scores" in work.plan.config.get("temporary", ())


def free_gigabytes(folder: Path) -> float:
    """Return the free disk below a folder that may not be there yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


def check_disk(work: Work) -> None:
    """Compare the disk that the scores of jobs take with what is free.

    Raises:
        WsssError: it is not enough, and scores are not temporary.
    """
    results = work.plan.results
    needed, free = gigabytes(work), free_gigabytes(results)
    if needed > free and not _temporary(work):
        raise WsssError(
            f"{results}: {free:,.0f} GB are free, and scores take {needed:,.0f} GB; put results elsewhere "
            "(--config results=...), or set temporary: [scores]"
        )
