"""What has to be computed before a file can be made: the rules' inputs, followed from a result down to the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsss.files import read_yaml
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

    def folder(self, plan: Plan) -> Path:
        return plan.results / self.dataset / self.paper / self.run / f"seed{self.seed}" / self.stage

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
        return int(self.file.rpartition(".")[0].rpartition("-of-")[2]) if "-of-" in self.file else 1


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

    shard = file.rpartition(".")[0]
    if stage == "metrics":
        return plan.shards(home(job.measured), job.measured, dataset, job.part)
    if stage in TRAINED:
        which = (dataset, paper, run, seed, stage)
        return [*plan.learnt_from(*which), *plan.references(*which)]
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


class Outlook:
    """What files are made from, and what has to be computed before they are. Each folder of results is read once."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._settings: dict[Path, bool] = {}
        self._stale: dict[str, bool] = {}
        self._all: dict[str, dict[str, Job]] = {}
        self._missing: dict[str, set[str]] = {}

    def jobs(self, paths: list[str]) -> list[Job]:
        """All jobs that ``paths`` come from, done or not."""
        return list({path: job for wanted in paths for path, job in self._below(wanted).items()}.values())

    def missing(self, paths: list[str]) -> list[Job]:
        """The jobs that have to run before all ``paths`` are there, without those that have been.

        A file is made when it is missing, and anew when its settings or those of something below it have changed, or
        when something that it is made from is. What is missing below a file that stays is not needed.
        """
        below = {path: job for wanted in paths for path, job in self._below(wanted).items()}  # inputs come first
        found = set().union(*map(self._to_do, paths))
        grown = True
        while grown:  # what is made anew may need, in turn, what is missing
            before = len(found)
            for path, job in below.items():
                read = inputs(self.plan, job)
                if path not in found and not found.isdisjoint(read):
                    found |= {path}.union(*map(self._to_do, read))
            grown = len(found) > before
        return [job for path, job in below.items() if path in found]

    def changed(self, paths: list[str]) -> list[Job]:
        """Those of the jobs below ``paths`` that have been done, with other settings."""
        return [job for job in self.missing(paths) if self._has_other_settings(job)]

    def _below(self, path: str) -> dict[str, Job]:
        if path not in self._all:
            job, found = job_of(self.plan, path), {}
            for other in inputs(self.plan, job) if job else ():
                found |= self._below(other)
            self._all[path] = {**found, path: job} if job else {}
        return self._all[path]

    def _to_do(self, path: str) -> set[str]:
        """What is made before a file is there, itself included."""
        if path not in self._missing:
            job, found = job_of(self.plan, path), set()
            if job and (not Path(path).is_file() or self._is_stale(path)):
                found = {path}.union(*map(self._to_do, inputs(self.plan, job)))
            self._missing[path] = found
        return self._missing[path]

    def _is_stale(self, path: str) -> bool:
        """What the settings were when the file or something below it was made is not what they are."""
        if path not in self._stale:
            job = job_of(self.plan, path)
            self._stale[path] = job is not None and (
                self._has_other_settings(job) or any(self._is_stale(other) for other in inputs(self.plan, job))
            )
        return self._stale[path]

    def _has_other_settings(self, job: Job) -> bool:
        """The stage's folder, or the index, was made with settings that are no longer the configured ones."""
        plan = self.plan
        folder = job.folder(plan)
        stage = (folder, lambda: plan.stage_config(job.dataset, job.paper, job.run, job.seed, job.stage))
        index = (plan.data(job.dataset), lambda: plan.data_config(job.dataset))
        for at, configured in (stage, index):
            if at not in self._settings:
                self._settings[at] = differs(at, configured)
        return self._settings[folder] or self._settings[index[0]]


def differs(folder: Path, configured: Callable[[], dict]) -> bool:
    """Whether the ``config.yaml`` in a folder says something else than what is configured now."""
    written = folder / "config.yaml"
    return written.is_file() and read_yaml(written) != configured()
