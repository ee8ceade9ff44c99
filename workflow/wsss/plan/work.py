"""The work before targets can be written: its jobs, and how much each of them does."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wsss import stages
from wsss.data.truth import without_mask
from wsss.errors import some
from wsss.plan import drawings, targets
from wsss.plan.datasets import has_objects
from wsss.plan.jobs import Job, inputs, is_result, job_of
from wsss.plan.layers import Raw
from wsss.plan.outlook import Outlook
from wsss.plan.plan import Plan
from wsss.plan.sizes import Counts
from wsss.plan.weight_files import damage, is_absent_package
from wsss.schedule import Schedule
from wsss.stages import STAGES


class Work:
    """The jobs that have to run before targets can be written.

    Args:
        plan: the plan.
        dataset: the data set that the targets are about.
        asked: the words of the targets, and files of runs.
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

    def obstacle(self) -> str | None:
        """Say what is in the way of this work and can be seen before it starts; None if nothing is."""
        if lacking := self.lacking():
            return f"weights are missing: {', '.join(lacking)}; see README, Weights"
        return self.damaged() or self.unmeasurable()

    def lacking(self) -> list[str]:
        """List the weight files, and packages that carry some, that would be read and are not there."""
        found: set[str] = set()
        for job in self.jobs:
            if job.trains:
                found.update(self._lacks(job))
        return sorted(found)

    def damaged(self) -> str | None:
        """Say which weight file that would be read is damaged, as far as that shows without reading its network."""
        found: set[str] = set()
        for job in self.jobs:
            if job.trains:
                found.update(self.plan.references(job.of_run, job.seed, job.stage))
        for path in sorted(found):
            made_by = job_of(self.plan, path)
            if made_by is None and Path(path).is_file() and (fault := damage(path)):
                return fault
        return None

    def _lacks(self, job: Job) -> Iterator[str]:
        """Yield the files and packages that a training reads, that no job makes, and that are not there."""
        for path in inputs(self.plan, job):
            made_by = job_of(self.plan, path)
            if made_by is None and not Path(path).is_file():
                yield path
        config = config_of(self.plan, job)
        yield from filter(is_absent_package, stages.weights_read(job.stage, config))

    def unmeasurable(self) -> str | None:
        """Say which images would be measured but have no mask, or no mask of objects."""
        jobs = self.of_stage("measure")
        for name in sorted({job.dataset for job in jobs if STAGES[job.measured].makes == "instances"}):
            about = self.plan.dataset(name)
            if not has_objects(about):
                reads = about["builder"] == "voc"
                cure = f"set datasets.{name}.options.instances to the folder of such masks (VOC: SegmentationObject)"
                return (
                    f"data set '{name}' has no ground truth of objects, with which {some(self.asked)} compares "
                    f"instances; {f'{cure}, or ' if reads else ''}ask for other results, such as irn_walk"
                )
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
            drawing = drawings.drawing(plan, dataset, target)
            found += drawings.inputs(drawing)
        elif is_result(plan, word):
            found.append(word)
    return found


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


def amount_of(work: Work, job: Job) -> tuple[int | None, int | None]:
    """Count (optimisation steps, images) of a job of some work."""
    config = config_of(work.plan, job)
    return amount(job, config, work.counts[job.dataset])
