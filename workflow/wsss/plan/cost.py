"""The cost of targets in words, said before they start: jobs, steps, images, and time where it was measured."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable

from wsss.plan import extent, rates, usage
from wsss.plan.jobs import Job
from wsss.plan.work import Work, amount_of
from wsss.stages import STAGES

WIDTH = 100  # columns of a terminal


def describe(work: Work) -> str:
    """Describe work as a short block of lines; empty if nothing has to be computed."""
    if not work.jobs:
        return ""
    lines = [_headline(work)]
    for stage in STAGES:
        if jobs := work.of_stage(stage):
            lines += _stage_lines(work, jobs)
    sentences = (
        extent.describe(work),
        rates.time_of(work),
        usage.gpu_hours(work),
        _at_random(work),
    )
    for sentence in sentences:
        lines += _wrapped(sentence, 2)
    return "\n".join(lines)


def _headline(work: Work) -> str:
    """Name the targets and the data sets."""
    number = len(work.asked)
    title = f"{number} targets"
    if number <= 3:
        title = ", ".join(work.asked)
    on = " and ".join(work.counts)
    return f"Before {title} can be written, this has to be computed on data set {on}:"


def _at_random(work: Work) -> str:
    """Name the networks that start at random; empty if there are none."""
    names = work.at_random()
    if not names:
        return ""
    listed = ", ".join(names)
    return f"These start at random, since no weights are given (see stand_ins): {listed}."


def _stage_lines(work: Work, jobs: list[Job]) -> list[str]:
    """Describe the jobs of one stage: their number, their work and, for trainings, their runs."""
    number = len(jobs)
    row = STAGES[jobs[0].stage]
    word = row.many if number > 1 else row.one
    head = f"{number:>6} {word}"
    text = _amounts(work, jobs)
    if row.trains:
        text = f"{text}; {_runs(jobs)}"
    return _wrapped(f"{head:<22} {text}", 25)


def _amounts(work: Work, jobs: list[Job]) -> str:
    """Describe the steps and images of the jobs of one stage."""
    amounts = [amount_of(work, job) for job in jobs]
    steps = _sum([steps for steps, _ in amounts])
    images = _sum([images for _, images in amounts])
    text = "as many images as the index will have"
    if images is not None:
        text = f"{images:,} images"
    if jobs[0].trains and steps is not None:
        return f"{steps:,} steps over {text}"
    return text


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Add numbers up; None if one is unknown."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _runs(jobs: list[Job]) -> str:
    """List the runs and seeds, paper by paper."""
    papers: dict[str, dict[str, None]] = defaultdict(dict)
    for job in jobs:
        papers[job.paper][job.run] = None
    named = []
    for paper, runs in papers.items():
        listed = ", ".join(runs)
        named.append(f"{paper}: {listed}")
    return f"{'; '.join(named)}; {_seeds(jobs)}"


def _seeds(jobs: list[Job]) -> str:
    """List the seeds: ``seed 0``, ``seeds 0, 1``."""
    seeds = sorted({job.seed for job in jobs})
    word = "seeds" if len(seeds) > 1 else "seed"
    numbers = ", ".join(map(str, seeds))
    return f"{word} {numbers}"


def _wrapped(text: str, indent: int) -> list[str]:
    """Break a text into lines of a terminal; those after the first are indented. An empty text gives no lines."""
    further = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=further)
