"""What has to be computed before a file can be made: the rules' inputs, followed from a result down to the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsss.plan.plan import Plan

TRAINED = {"train": "train", "affinity": "affinity", "irnet": "irn", "deeplab": "segment"}  # stage -> its settings in


@dataclass(frozen=True)
class Job:
    """One job of a run, told by a file it makes: ``results/{dataset}/{paper}/{run}/seed{seed}/{stage}/{file}``."""

    dataset: str
    paper: str
    run: str
    seed: int
    stage: str
    file: str  # model.pt, seed-0-of-1.npz, walk_val.json

    @property
    def measured(self) -> str:
        """The stage whose result a metrics file is about."""
        return self.file.rpartition("_")[0]

    @property
    def part(self) -> str:
        """The part of the images that a shard covers, or the role that a metrics file is about."""
        stem = self.file.rpartition(".")[0]
        return stem.rpartition("_")[2] if self.stage == "metrics" else stem.partition("-")[0]

    @property
    def shards(self) -> int:
        """How many shards there are beside this one, itself included."""
        return int(self.file.rpartition(".")[0].rpartition("-of-")[2] or 1) if "-of-" in self.file else 1


def job_of(plan: Plan, path: str | Path) -> Job | None:
    """The job that makes ``path``; None for what no run makes (an index, a weight file, a table)."""
    path = Path(path)
    if not path.is_relative_to(plan.results):
        return None
    parts = path.relative_to(plan.results).parts
    if len(parts) != 6 or not parts[3].startswith("seed"):
        return None
    dataset, paper, run, seed, stage, file = parts
    return Job(dataset, paper, run, int(seed.removeprefix("seed")), stage, file)


def inputs(plan: Plan, job: Job) -> list[str]:
    """The results of other jobs that a job reads, as the rules have it."""
    dataset, paper, run, seed, stage, file = (getattr(job, name) for name in Job.__dataclass_fields__)

    def home(of: str) -> Path:
        return plan.home(dataset, paper, run, seed, of)

    def of_training_images(of: str) -> list[str]:
        return plan.shards(home(of), of, dataset, "train")

    shard = file.rpartition(".")[0]
    if stage == "metrics":
        return plan.shards(home(job.measured), job.measured, dataset, job.part)
    if stage in TRAINED:
        labels = plan.resolve(dataset, paper, run)["segment"]["labels"]
        learnt_from = {"train": None, "affinity": "crf", "irnet": "irn_labels", "deeplab": labels}[stage]
        marks = [] if learnt_from in (None, "ground_truth") else of_training_images(learnt_from)
        return [*marks, *plan.references(dataset, paper, run, seed, stage)]
    scores = f"{home('seed')}/{shard}.npz"
    return {
        "seed": [f"{home('train')}/model.pt"],
        "crf": [scores],
        "irn_labels": [scores],
        "walk": [scores, f"{home('affinity')}/model.pt"],
        "irn": [scores, f"{home('irnet')}/model.pt"],
        "irn_instances": [scores, f"{home('irnet')}/model.pt"],
        "segment": [f"{home('deeplab')}/model.pt"],
    }[stage]


def missing(plan: Plan, paths: list[str]) -> list[Job]:
    """The jobs that have to run before all ``paths`` are there, without those that have been.

    A file is made anew when it is missing or when something below it is.
    """
    found: dict[str, Job | None] = {}

    def to_do(path: str) -> bool:
        if path not in found:
            job = job_of(plan, path)
            if job is None:
                return False
            below = [to_do(other) for other in inputs(plan, job)]  # all of them: each may be missing
            found[path] = job if any(below) or not Path(path).is_file() else None
        return found[path] is not None

    for path in paths:
        to_do(path)
    return [job for job in found.values() if job]
