"""The jobs of a run: which file each makes, and what it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from wsss.plan.plan import Plan
from wsss.plan.runs import Run
from wsss.plan.shards import shards_of
from wsss.stages import MEASURED, STAGES

RESULT = re.compile(  # of a run, by the name of its file; beside it lie settings, logs and records
    rf"model\.pt|results\.tgz|(measured|rest|val|test)-\d+-of-\d+\.(npz|zip)|({'|'.join(MEASURED)})_(measured|val)\.json"
)


@dataclass(frozen=True)
class Job:
    """One job of a run, known by a file it makes: ``results/{dataset}/{paper}/{run}/seed{seed}/{stage}/{file}``."""

    dataset: str
    paper: str
    run: str
    seed: int
    stage: str
    file: str  # model.pt, measured-0-of-1.npz, walk_val.json

    @property
    def trains(self) -> bool:
        """The job trains a network."""
        return STAGES[self.stage].trains

    @property
    def of_run(self) -> Run:
        """The run that the job belongs to."""
        return Run(self.dataset, self.paper, self.run)

    def folder(self, plan: Plan) -> Path:
        """Return the folder that the job writes to."""
        of_run = plan.folder(self.of_run, self.seed)
        return of_run / self.stage

    # ---- what the name of the file tells

    @property
    def stem(self) -> str:
        """The name of the file without its ending."""
        stem, _, _ = self.file.rpartition(".")
        return stem

    @property
    def measured(self) -> str:
        """The stage whose result a metrics file is about."""
        stage, _, _ = self.stem.rpartition("_")
        return stage

    @property
    def part(self) -> str:
        """The part of the images that a shard covers, or the role that a metrics file is about."""
        if self.stage == "measure":
            _, _, role = self.stem.rpartition("_")
            return role
        part, _, _ = self.stem.partition("-")
        return part

    @property
    def images(self) -> str:
        """The images it works on, in the words of ``plan.requests``: a shard, or a role; empty for all images."""
        if STAGES[self.stage].in_shards:
            return self.stem
        return self.part if self.stage == "measure" else ""

    @property
    def shards(self) -> int:
        """The number of shards, this one included."""
        return shards_of(self.stem)


def job_of(plan: Plan, path: str | Path) -> Job | None:
    """Find the job that makes ``path``; None for what no run makes (an index, a weight file, a table)."""
    path = Path(path)
    if not path.is_relative_to(plan.results):
        return None
    parts = path.relative_to(plan.results).parts
    if len(parts) != 6:
        return None
    dataset, paper, run, folder, stage, file = parts
    seed = folder.removeprefix("seed")
    if seed == folder or not seed.isdecimal() or stage not in STAGES:
        return None
    return Job(dataset, paper, run, int(seed), stage, file)


def is_result(plan: Plan, path: str | Path) -> bool:
    """Tell whether ``path`` is the result of a run's stage, which a person may ask for by its file."""
    return job_of(plan, path) is not None and RESULT.fullmatch(Path(path).name) is not None


def inputs(plan: Plan, job: Job) -> list[str]:
    """Return the results of other jobs, and the weight files, that a job reads."""
    if job.stage == "measure":
        return _all_shards(plan, job, job.measured, job.part)
    if job.stage == "submission":
        return _all_shards(plan, job, "predict", "test")
    if job.trains:
        shards = plan.learnt_from(job.of_run, job.seed, job.stage)
        models = plan.references(job.of_run, job.seed, job.stage)
        return [*shards, *models]
    return [*same_shard(plan, job), *model(plan, job)]


def _all_shards(
    plan: Plan,
    job: Job,
    source: str,
    images: str,
) -> list[str]:
    """Return all shards of a stage that a job reads.

    Args:
        plan: the plan.
        job: the job.
        source: the stage.
        images: the role of the images.
    """
    home = plan.home(job.of_run, job.seed, source)
    return plan.shards(home, source, job.dataset, images)


def same_shard(plan: Plan, job: Job) -> list[str]:
    """Return the shard of the same images that a job reads, if it reads one."""
    source = STAGES[job.stage].shard_of
    if source is None:
        return []
    home = plan.home(job.of_run, job.seed, source)
    return [f"{home}/{job.stem}.npz"]


def model(plan: Plan, job: Job) -> list[str]:
    """Return the trained network that a job reads, if it reads one."""
    source = STAGES[job.stage].model_of
    if source is None:
        return []
    network = plan.model(job.of_run, job.seed, source)
    return [str(network)]
