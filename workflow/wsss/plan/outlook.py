"""The work before files can be made: inputs are followed from a result down to the images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from wsss.plan import jobs
from wsss.plan.jobs import Job, job_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.runs import Run
from wsss.plan.written import read


class Outlook:
    """The jobs that files are made by, done or still to do. Each folder of results is read once."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def jobs(self, paths: list[str]) -> list[Job]:
        """List all jobs that ``paths`` come from, done or not."""
        below = self._below_all(paths)
        return list(below.values())

    def missing(self, paths: list[str]) -> list[Job]:
        """List the jobs that have to run before all ``paths`` are there and up to date.

        A file is made when it is missing. It is made anew when its settings or its code have changed, or those of
        anything below it. It is also made anew when something that it is made from is made anew. What is missing below
        a file that stays is not needed.
        """
        below = self._below_all(paths)  # inputs come first
        to_do = self._all_to_do(paths)
        while more := self._drawn_in(below, to_do):  # what is made anew may need, in turn, what is missing
            to_do |= more
        found = []
        for path, job in below.items():
            if path in to_do:
                found.append(job)
        return found

    @functools.cache  # noqa: B019  an outlook is for one look: nothing is computed meanwhile
    def stale_index(self, dataset: str) -> bool:
        """Tell whether a data set's index was made with other settings or other code."""
        folder = self.plan.data(dataset)
        return differs(folder, lambda: self.plan.data_config(dataset))

    def differs_now(self, job: Job) -> bool:
        """Tell whether the stage's folder, or the index, was made with other settings or code than there are now."""
        if self._stage_differs(job.of_run, job.seed, job.stage):
            return True
        return self.stale_index(job.dataset)

    # ---- what is below

    @functools.cache  # noqa: B019
    def _inputs(self, job: Job) -> list[str]:
        """List the files that a job reads."""
        return jobs.inputs(self.plan, job)

    @functools.cache  # noqa: B019
    def _below(self, path: str) -> dict[str, Job]:
        """Collect all jobs that a file comes from, its own last."""
        job = job_of(self.plan, path)
        if job is None:
            return {}
        read_by_it = self._inputs(job)
        found = self._below_all(read_by_it)
        found[path] = job
        return found

    def _below_all(self, paths: Iterable[str]) -> dict[str, Job]:
        """Collect all jobs that files come from, each after those whose results it reads."""
        found: dict[str, Job] = {}
        for path in paths:
            found |= self._below(path)
        return found

    # ---- what is made anew

    @functools.cache  # noqa: B019
    def _to_do(self, path: str) -> set[str]:
        """Collect the files that are made before a file is there and up to date, itself included."""
        job = job_of(self.plan, path)
        if job is None or self._stays(path):
            return set()
        read_by_it = self._inputs(job)
        return {path} | self._all_to_do(read_by_it)

    def _all_to_do(self, paths: Iterable[str]) -> set[str]:
        """Collect the files that are made before all ``paths`` are there and up to date."""
        found: set[str] = set()
        for path in paths:
            found |= self._to_do(path)
        return found

    def _drawn_in(self, below: dict[str, Job], found: set[str]) -> set[str]:
        """Collect, out of ``below``, the files that read one of ``found``, and what they need in turn."""
        more: set[str] = set()
        for path, job in below.items():
            if path in found:
                continue
            read_by_it = self._inputs(job)
            if not found.isdisjoint(read_by_it):
                more.add(path)
                more |= self._all_to_do(read_by_it)
        return more

    def _stays(self, path: str) -> bool:
        """Tell whether a file is there and up to date."""
        if not Path(path).is_file():
            return False
        return not self._is_stale(path)

    @functools.cache  # noqa: B019
    def _is_stale(self, path: str) -> bool:
        """Tell whether the settings or the code of a file, or of something below it, have changed since it was made."""
        job = job_of(self.plan, path)
        if job is None:
            return False
        if self.differs_now(job):
            return True
        read_by_it = self._inputs(job)
        return any(map(self._is_stale, read_by_it))

    @functools.cache  # noqa: B019
    def _stage_differs(self, run: Run, seed: int, stage: str) -> bool:
        """Tell whether the folder of a stage was made with other settings or code than there are now."""
        folder = self.plan.folder(run, seed) / stage
        return differs(folder, lambda: self.plan.stage_config(run, seed, stage))


def differs(folder: Path, configured: Callable[[], Raw]) -> bool:
    """Tell whether the ``config.yaml`` in a folder says something else than what decides its results now."""
    written = folder / "config.yaml"
    if not written.is_file():
        return False
    return bool(read(written) != configured())
