"""The cost of targets, said before they start: jobs, optimisation steps, images, and time where it was measured."""

from __future__ import annotations

import functools
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wsss import stages
from wsss.data.truth import without_mask
from wsss.errors import some
from wsss.plan import drawings, targets
from wsss.plan.jobs import Job, inputs, job_of
from wsss.plan.layers import Raw
from wsss.plan.outlook import Outlook
from wsss.plan.plan import Plan
from wsss.plan.sizes import Counts
from wsss.plan.target import Target
from wsss.schedule import Schedule
from wsss.stages import STAGES

WIDTH = 100  # columns of a terminal


class Work:
    """The jobs that have to run before targets can be written.

    Args:
        plan: the plan.
        dataset: the data set that the targets are about.
        asked: the words of the targets.
    """

    def __init__(self, plan: Plan, dataset: str, asked: Iterable[str]):
        self.plan = plan
        self.asked = list(asked)
        files = _read_by(plan, dataset, self.asked)
        self.jobs = Outlook(plan).missing(files)
        names = {job.dataset for job in self.jobs}
        self.counts = {name: plan.sizes(name) for name in sorted(names)}

    def of_stage(self, stage: str) -> list[Job]:
        """List the jobs of a stage."""
        return [job for job in self.jobs if job.stage == stage]

    def lacking(self) -> list[str]:
        """List the weight files that would be read and are not there."""
        found: set[str] = set()
        for job in self.jobs:
            if job.trains:
                found.update(self._lacks(job))
        return sorted(found)

    def _lacks(self, job: Job) -> Iterator[str]:
        """Yield the files that a job reads, that no job makes, and that are not there."""
        for path in inputs(self.plan, job):
            made_by = job_of(self.plan, path)
            if made_by is None and not Path(path).is_file():
                yield path

    def unmeasurable(self) -> str | None:
        """Say which images would be measured, and have no mask."""
        jobs = self.of_stage("measure")
        measured = {(job.dataset, job.part) for job in jobs}
        for name, role in sorted(measured):
            split = self.plan.dataset(name)["splits"][role]
            config = self.plan.data_config(name)
            ids = without_mask(config, split)
            if ids:
                return (
                    f"data set '{name}': {len(ids)} images of its split '{split}' have no mask ({some(ids)}), and "
                    f"{some(self.asked)} compares results with the masks of '{split}'; add them, name a split that has "
                    f"masks as '{role}' in datasets.{name}.splits, or ask for other targets"
                )
        return None

    def at_random(self) -> list[str]:
        """List the networks that start from random weights, by stage, without those of a data set's pretraining."""
        found: dict[str, None] = {}
        for job in self.jobs:
            if not job.trains or job.of_run.is_pretraining:
                continue
            config = config_of(self.plan, job)
            many = STAGES[job.stage].many
            for name in _random_networks(job.stage, config):
                found[f"{name} ({many})"] = None
        return list(found)


def _read_by(plan: Plan, dataset: str, asked: list[str]) -> list[str]:
    """List the files that targets are drawn from."""
    every = targets.every(plan)
    known = {target.word: target for target in every}
    found: list[str] = []
    for word in asked:
        if target := known.get(word):
            drawing = drawing_of(plan, dataset, target)
            found += drawings.inputs(drawing)
    return found


@functools.cache
def drawing_of(plan: Plan, dataset: str, target: Target) -> Raw:
    """Return what decides a table, a figure or claims: found out once, for the cost and for the jobs."""
    return drawings.drawing(plan, dataset, target)


def _random_networks(stage: str, config: Raw) -> Iterator[str]:
    """Yield the names of the networks that a training does not read from anywhere."""
    if stages.official_weights(stage, config):
        return
    initialised = stages.initialised(stage, config)
    yield from _empty(initialised)


def _empty(settings: Any) -> Iterator[str]:
    """Yield the names of the networks in nested settings that nothing is read into."""
    if not isinstance(settings, dict):
        return
    filled = settings.get("weights") or settings.get("start")
    if filled:
        return
    for key, inner in settings.items():
        if key == "backbone" and inner and not inner.get("weights"):
            yield inner["name"]
        yield from _empty(inner)


# ---- one job


@functools.cache
def config_of(plan: Plan, job: Job) -> Raw:
    """Return the settings of a job's stage."""
    return plan.stage_config(job.of_run, job.seed, job.stage)


def amount(job: Job, config: Raw, counts: Counts) -> tuple[int | None, int | None]:
    """Count (optimisation steps, images) of a job; None where the number of images is not known yet."""
    if stages.official_weights(job.stage, config):
        return 0, 0
    if job.trains:
        settings = stages.training(job.stage, config)
        role = "pretraining" if job.of_run.is_pretraining else "train"
        return _amount_of_training(settings, counts.get(role))
    if job.part not in counts:
        return 0, None
    images = counts[job.part] / job.shards
    return 0, round(images)


def _amount_of_training(settings: Any, images: int | None) -> tuple[int | None, int | None]:
    """Count (optimisation steps, images) of a training on so many images; None where their number is not known yet."""
    if images is None:
        return settings["steps"], None
    schedule = Schedule(images, settings)
    return schedule.steps, schedule.images


# ---- in words


def describe(work: Work) -> str:
    """Describe work as a short block of lines; empty if nothing has to be computed."""
    from wsss.plan import extent, rates, usage  # they count with what is above

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
    return f"Before {title} can be written, data set {on}:"


def _at_random(work: Work) -> str:
    """Name the networks that start at random; empty if there are none."""
    names = work.at_random()
    if not names:
        return ""
    listed = ", ".join(names)
    return f"These start at random, since no weights are given (see stand_ins): {listed}."


def _stage_lines(work: Work, jobs: list[Job]) -> list[str]:
    """Describe the jobs of one stage: their number, their work, and, of trainings, of which runs they are."""
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
    amounts = [amount_in(work, job) for job in jobs]
    steps = _sum([steps for steps, _ in amounts])
    images = _sum([images for _, images in amounts])
    text = "as many images as the index will have"
    if images is not None:
        text = f"{images:,} images"
    if jobs[0].trains and steps is not None:
        return f"{steps:,} steps over {text}"
    return text


def amount_in(work: Work, job: Job) -> tuple[int | None, int | None]:
    """Count (optimisation steps, images) of a job of some work."""
    config = config_of(work.plan, job)
    return amount(job, config, work.counts[job.dataset])


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
    """Break a text into lines of a terminal; those after the first are indented. No text is no line."""
    further = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=further)
