"""The jobs of a run: which file each makes, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsss.plan.plan import Plan
from wsss.stages import STAGES


@dataclass(frozen=True)
class Job:
    """One job of a run, known by a file it makes: ``results/{dataset}/{paper}/{run}/seed{seed}/{stage}/{file}``."""

    dataset: str
    paper: str
    run: str
    seed: int
    stage: str
    file: str  # model.pt, measured-0-of-1.npz, walk_val.json

    def folder(self, plan: Plan) -> Path:
        """Return the folder that the job writes to."""
        return plan.results / self.dataset / self.paper / self.run / f"seed{self.seed}" / self.stage

    @property
    def trains(self) -> bool:
        """The job trains a network."""
        return STAGES[self.stage].trains

    @property
    def measured(self) -> str:
        """The stage whose result a metrics file is about."""
        return self.file.rpartition("_")[0]

    @property
    def part(self) -> str:
        """The part of the images that a shard covers, or the role that a metrics file is about."""
        stem = self.file.rpartition(".")[0]
        return stem.rpartition("_")[2] if self.stage == "measure" else stem.partition("-")[0]

    @property
    def shards(self) -> int:
        """The number of shards, this one included."""
        return shards_of(self.file.rpartition(".")[0])


def shards_of(name: str) -> int:
    """Return the number of shards that ``part-i-of-n`` tells; 1 for a name that tells none."""
    return int(name.rpartition("-of-")[2]) if "-of-" in name else 1


def job_of(plan: Plan, path: str | Path) -> Job | None:
    """Find the job that makes ``path``; None for what no run makes (an index, a weight file, a table)."""
    path = Path(path)
    if not path.is_relative_to(plan.results):
        return None
    parts = path.relative_to(plan.results).parts
    if len(parts) != 6:
        return None
    dataset, paper, run, seed, stage, file = parts
    if not seed.startswith("seed") or stage not in STAGES:
        return None
    return Job(dataset, paper, run, int(seed.removeprefix("seed")), stage, file)


def inputs(plan: Plan, job: Job) -> list[str]:
    """Return the results of other jobs, and the weight files, that a job reads."""
    which = (job.dataset, job.paper, job.run, job.seed)
    if job.stage == "measure":
        home = plan.home(*which, job.measured)
        return plan.shards(home, job.measured, job.dataset, job.part)
    if job.stage == "submission":
        return plan.shards(plan.home(*which, "predict"), "predict", job.dataset, "test")
    if job.trains:
        return [*plan.learnt_from(*which, job.stage), *plan.references(*which, job.stage)]
    return [*same_shard(plan, job), *model(plan, job)]


def same_shard(plan: Plan, job: Job) -> list[str]:
    """Return the shard of the same images that a job reads, if it reads one."""
    source = STAGES[job.stage].shard_of
    if source is None:
        return []
    home = plan.home(job.dataset, job.paper, job.run, job.seed, source)
    stem = job.file.rpartition(".")[0]
    return [f"{home}/{stem}.npz"]


def model(plan: Plan, job: Job) -> list[str]:
    """Return the trained network that a job reads, if it reads one."""
    source = STAGES[job.stage].model_of
    if source is None:
        return []
    home = plan.home(job.dataset, job.paper, job.run, job.seed, source)
    return [f"{home}/model.pt"]
