"""The work before files can be made: inputs are followed from a result down to the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wsss.plan.jobs import Job, inputs, job_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.written import read


class Outlook:
    """The jobs that files are made by, done or still to do. Each folder of results is read once."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._differs: dict[Path, bool] = {}
        self._stale: dict[str, bool] = {}
        self._all: dict[str, dict[str, Job]] = {}
        self._to_make: dict[str, set[str]] = {}

    def jobs(self, paths: list[str]) -> list[Job]:
        """List all jobs that ``paths`` come from, done or not."""
        return list(self._below_all(paths).values())

    def missing(self, paths: list[str]) -> list[Job]:
        """List the jobs that have to run before all ``paths`` are there and up to date.

        A file is made when it is missing. It is made anew when its settings or its code have changed, when those of
        something below it have, or when something that it is made from is made anew. What is missing below a file that
        stays is not needed.
        """
        below = self._below_all(paths)  # inputs come first
        found: set[str] = set()
        for path in paths:
            found |= self._to_do(path)
        grown = True
        while grown:  # what is made anew may need, in turn, what is missing
            before = len(found)
            for path, job in below.items():
                self._add_what_reads(path, job, found)
            grown = len(found) > before
        return [job for path, job in below.items() if path in found]

    def changed(self, paths: list[str]) -> list[Job]:
        """List the jobs below ``paths`` that have been done with other settings or other code."""
        return [job for job in self.missing(paths) if self._differs_now(job)]

    def stale_index(self, dataset: str) -> bool:
        """Tell whether a data set's index was made with other settings or other code."""
        folder = self.plan.data(dataset)
        return self._once(folder, lambda: self.plan.data_config(dataset))

    def _add_what_reads(self, path: str, job: Job, found: set[str]) -> None:
        """Add a job that reads something which is made anew, with what it needs."""
        read = inputs(self.plan, job)
        if path in found or found.isdisjoint(read):
            return
        found.add(path)
        for other in read:
            found |= self._to_do(other)

    def _below_all(self, paths: list[str]) -> dict[str, Job]:
        found: dict[str, Job] = {}
        for path in paths:
            found |= self._below(path)
        return found

    def _below(self, path: str) -> dict[str, Job]:
        """Collect all jobs that a file comes from, its own last."""
        if path not in self._all:
            found: dict[str, Job] = {}
            if job := job_of(self.plan, path):
                found = self._below_all(inputs(self.plan, job))
                found[path] = job
            self._all[path] = found
        return self._all[path]

    def _to_do(self, path: str) -> set[str]:
        """Collect the files that are made before a file is there, itself included."""
        if path not in self._to_make:
            job = job_of(self.plan, path)
            found: set[str] = set()
            if job and (not Path(path).is_file() or self._is_stale(path)):
                found.add(path)
                for other in inputs(self.plan, job):
                    found |= self._to_do(other)
            self._to_make[path] = found
        return self._to_make[path]

    def _is_stale(self, path: str) -> bool:
        """Tell whether the settings or the code of a file, or of something below it, have changed since it was made."""
        if path not in self._stale:
            job = job_of(self.plan, path)
            below = inputs(self.plan, job) if job else []
            own = job is not None and self._differs_now(job)
            self._stale[path] = own or any(self._is_stale(other) for other in below)
        return self._stale[path]

    def _differs_now(self, job: Job) -> bool:
        """Tell whether the stage's folder, or the index, was made with other settings or code than there are now."""

        def configured() -> Raw:
            return self.plan.stage_config(job.dataset, job.paper, job.run, job.seed, job.stage)

        return self._once(job.folder(self.plan), configured) or self.stale_index(job.dataset)

    def _once(self, folder: Path, configured: Callable[[], Raw]) -> bool:
        if folder not in self._differs:
            self._differs[folder] = differs(folder, configured)
        return self._differs[folder]


def differs(folder: Path, configured: Callable[[], Raw]) -> bool:
    """Tell whether the ``config.yaml`` in a folder says something else than what decides its results now."""
    written = folder / "config.yaml"
    return written.is_file() and bool(read(written) != configured())
