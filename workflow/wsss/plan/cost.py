"""The cost of a target, said before it starts: jobs, optimisation steps, images, and time where it was measured."""

from __future__ import annotations

import csv
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
from wsss.plan.plan import PRETRAINING, Plan
from wsss.schedule import Schedule
from wsss.stages import STAGES

WIDTH = 100  # columns of a terminal
Counts = dict[str, int]  # images of each part
PUBLISHED = {  # images of the lists that are downloaded, or expected, but not indexed yet
    "voc": {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582},
    "coco": {"train": 82081, "val": 40137},
}


def sizes(plan: Plan, dataset: str) -> Counts:
    """Count the images of each part (``measured``, ``rest``, ``val``) and of ``train``; unknown parts are left out."""
    spec = plan.dataset(dataset)
    counts = _sizes_of_splits(plan, dataset)
    found = {role: counts[split] for role, split in spec["splits"].items() if split in counts}
    if {"train", "measured"} <= set(found):
        found["rest"] = found["train"] - found["measured"]
    return found


def _sizes_of_splits(plan: Plan, dataset: str) -> Counts:
    """Count the images of each split in the index, or, before there is one, as far as they are known."""
    spec, index = plan.dataset(dataset), plan.data(dataset) / "index.csv"
    if index.is_file():
        return _counted(index)
    if spec["builder"] == "shapes":
        return {split: spec["options"][split] for split in ("train", "val")}
    return PUBLISHED.get(spec["builder"], {}) if spec.get("published") else {}


def _counted(index: Path) -> Counts:
    members: dict[str, set[str]] = defaultdict(set)
    with index.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for split in row["split"].split(";"):
                members[split].add(row["id"])
    return {split: len(ids) for split, ids in members.items()}


def describe(plan: Plan, dataset: str, asked: list[str]) -> str:
    """Describe the work left for these targets, as a short block of lines; empty if nothing has to be computed."""
    from wsss.plan import extent  # they count with what is below
    from wsss.plan.rates import time_of

    jobs = missing(plan, dataset, asked)
    if not jobs:
        return ""
    names = sorted({job.dataset for job in jobs})
    counts = {name: sizes(plan, name) for name in names}
    title = ", ".join(asked) if len(asked) <= 3 else f"{len(asked)} targets"
    lines = [f"Before {title} can be written, data set {' and '.join(names)}:"]
    for stage, row in STAGES.items():
        members = [job for job in jobs if job.stage == stage]
        if members:
            words = f"{len(members):>6} {row.many if len(members) > 1 else row.one}"
            lines += _wrapped(f"{words:<22} {_work(plan, members, counts)}", 25)
    if size := extent.describe(plan, jobs, counts):
        lines += _wrapped(size, 2)
    lines += _wrapped(time_of(plan, jobs, counts), 2)
    if random := at_random(plan, jobs):
        lines += _wrapped(f"These start at random, since no weights are given (see stand_ins): {', '.join(random)}.", 2)
    return "\n".join(lines)


def missing(plan: Plan, dataset: str, asked: Iterable[str]) -> list[Job]:
    """Return the jobs that have to run before these targets can be written."""
    known = {target.word: target for target in targets.every(plan)}
    paths: list[str] = []
    for word in asked:
        if word in known:
            target = known[word]
            drawn = drawings.drawing(plan, dataset, target.kind, target.paper, target.name)
            paths += drawings.inputs(drawn)
    return Outlook(plan).missing(paths)


def lacking(plan: Plan, dataset: str, asked: list[str]) -> list[str]:
    """List the weight files that would be read before these targets can be written, and are not there."""
    read: set[str] = set()
    for job in missing(plan, dataset, asked):
        if job.trains:
            read |= {path for path in inputs(plan, job) if job_of(plan, path) is None}
    return sorted(path for path in read if not Path(path).is_file())


def unmeasurable(plan: Plan, dataset: str, asked: list[str]) -> str | None:
    """Say which images would be measured before these targets can be written, and have no mask."""
    roles = {(job.dataset, job.part) for job in missing(plan, dataset, asked) if job.stage == "measure"}
    for name, role in sorted(roles):
        split = plan.dataset(name)["splits"][role]
        if ids := without_mask(plan.data_config(name), split):
            return (
                f"data set '{name}': {len(ids)} images of its split '{split}' have no mask ({some(ids)}), and "
                f"{some(asked)} compares results with the masks of '{split}'; add them, name a split that has masks as "
                f"'{role}' in datasets.{name}.splits, or ask for other targets"
            )
    return None


def at_random(plan: Plan, jobs: list[Job]) -> list[str]:
    """List the networks that these jobs train from random weights, by stage, without a data set's pretraining."""
    found: dict[str, None] = {}
    for job in jobs:
        if not job.trains or (job.paper, job.run) == PRETRAINING:
            continue
        config = config_of(plan, job)
        if not stages.official_weights(job.stage, config):
            names = _empty(stages.initialised(job.stage, config))
            found |= dict.fromkeys(f"{name} ({STAGES[job.stage].many})" for name in names)
    return list(found)


def _empty(settings: Any) -> Iterator[str]:
    """Yield the names of the networks in nested settings that nothing is read into."""
    if not isinstance(settings, dict) or settings.get("weights") or settings.get("start"):
        return
    for key, inner in settings.items():
        if key == "backbone" and inner and not inner.get("weights"):
            yield inner["name"]
        yield from _empty(inner)


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * indent)


def _work(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> str:
    """Describe the steps and images of the jobs of one stage, and, of trainings, of which runs."""
    amounts = [amount(job, config_of(plan, job), counts[job.dataset]) for job in jobs]
    steps = _sum([steps for steps, _ in amounts])
    images = _sum([images for _, images in amounts])
    work = f"{images:,} images" if images is not None else "as many images as the index will have"
    if not jobs[0].trains:
        return work
    if steps is not None:
        work = f"{steps:,} steps over {work}"
    return f"{work}; {_runs(jobs)}"


def _sum(numbers: list[int | None]) -> int | None:
    """Add numbers up; None if one is unknown."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _runs(jobs: list[Job]) -> str:
    """List the runs and seeds, paper by paper."""
    papers: dict[str, dict[str, None]] = defaultdict(dict)
    for job in jobs:
        papers[job.paper][job.run] = None
    named = "; ".join(f"{paper}: {', '.join(runs)}" for paper, runs in papers.items())
    seeds = [str(seed) for seed in sorted({job.seed for job in jobs})]
    word = "seeds" if len(seeds) > 1 else "seed"
    return f"{named}; {word} {', '.join(seeds)}"


def config_of(plan: Plan, job: Job) -> Raw:
    """Return the settings of a job's stage."""
    return plan.stage_config(job.dataset, job.paper, job.run, job.seed, job.stage)


def amount(job: Job, config: Raw, counts: Counts) -> tuple[int | None, int | None]:
    """Count (optimisation steps, images) of a job; None where the number of images is not known yet."""
    if stages.official_weights(job.stage, config):
        return 0, 0
    if job.trains:
        settings = stages.training(job.stage, config)
        if "train" not in counts:
            return settings["steps"], None
        schedule = Schedule(counts["train"], settings)
        return schedule.steps, schedule.images
    if job.part not in counts:
        return 0, None
    return 0, round(counts[job.part] / job.shards)
