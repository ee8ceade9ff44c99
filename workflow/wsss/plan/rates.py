"""The time that jobs take, from the records of earlier ones."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wsss import stages
from wsss.errors import WsssError
from wsss.files import read_json
from wsss.plan.jobs import Job, job_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.sizes import Counts
from wsss.plan.work import Work, amount, config_of
from wsss.stages import STAGES

READ: dict[str, type | tuple[type, ...]] = {  # what is read of a record
    "attempts": dict,
    "config": dict,
    "machine": dict,
    "outputs": dict,
    "peak_memory_mib": dict,
    "seconds": (int, float),
}
Kind = tuple[str, ...]  # stage, method or network, and all else that decides the time of a step or an image


def kind_of(job: Job, config: Raw) -> Kind:
    """Return the kind of a job. Jobs of one kind take the same time per step or image."""
    batch = ""
    if job.trains:
        settings = stages.training(job.stage, config)
        batch = str(settings["batch_size"])
    words = _words(job, config)
    return (job.stage, *words, batch, job.dataset)


def _words(job: Job, config: Raw) -> tuple[str, ...]:
    """Return what tells the jobs of a stage apart."""
    if job.stage in ("train", "cam"):
        method = config["method"]["name"]
        backbone = config["backbone"]["name"]
        return method, backbone
    if job.stage in ("deeplab", "predict"):
        network = config["deeplab"]
        backbone = network["backbone"]["name"]
        return str(network["model"]), str(backbone)
    if job.stage == "measure":
        return (job.measured,)
    return ("",)


def units_of(job: Job, config: Raw, counts: Counts) -> int | None:
    """Count what a job does one after the other: steps of a training, else images; None where that is unknown."""
    steps, images = amount(job, config, counts)
    return steps or images


# ---- what is recorded


def records(plan: Plan, dataset: str) -> Iterator[tuple[Job, Raw]]:
    """Yield the jobs of runs on a data set that have left a record, each with its record.

    A damaged record is left out: an audit names it.
    """
    paths = plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json")
    for path in sorted(paths):
        record = _read_record(path)
        if record and (job := _job_of_record(plan, path, record)):
            yield job, record


def _read_record(path: Path) -> Raw | None:
    """Read a record; None if it is damaged."""
    try:
        record = read_json(path)
    except WsssError:
        return None
    whole = isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in READ.items())
    return record if whole else None


def _job_of_record(plan: Plan, path: Path, record: Raw) -> Job | None:
    """Find the job that left a record, by the model, the shard or the metrics beside it."""
    for output in record["outputs"]:
        file = Path(output)
        beside = f"{file.stem}.record.json"
        if file.name == "model.pt" or beside == path.name:
            return job_of(plan, plan.results / output)
    return None


class Pace:
    """The seconds that earlier jobs took per training step or image, by kind, and the hosts on which they ran."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self._seconds: dict[Kind, float] = defaultdict(float)
        self._units: dict[Kind, int] = defaultdict(int)

    def learn(
        self,
        job: Job,
        record: Raw,
        units: int | None,
        weight: int = 1,
    ) -> None:
        """Add the record of a job, unless its units are unknown or its weight is 0.

        Args:
            job: the job.
            record: its record.
            units: what it did, see :func:`units_of`.
            weight: how often its time counts; 0 leaves it out.
        """
        if not units or not weight:
            return
        kind = kind_of(job, record["config"])
        self._seconds[kind] += record["seconds"] * weight
        self._units[kind] += units
        host = record["machine"]["host"]
        self.hosts.add(host)

    def knows(self, kind: Kind) -> bool:
        """Tell whether a job of this kind has run."""
        return kind in self._units

    def seconds(self, kind: Kind, units: int) -> float:
        """Estimate the time of a job of a kind that is known."""
        took = self._seconds[kind]
        of_units = self._units[kind]
        return units * took / of_units

    def where(self) -> str:
        """Name the hosts."""
        here = socket.gethostname()
        if self.hosts == {here}:
            return "this machine"
        names = sorted(self.hosts)
        return ", ".join(names)


def _once(record: Raw) -> int:
    """Count the time of every job once."""
    return 1


def pace_of(
    plan: Plan,
    counts: dict[str, Counts],
    weight: Callable[[Raw], int] = _once,
) -> Pace:
    """Measure the pace of earlier jobs on data sets, from their records.

    Args:
        plan: the plan.
        counts: the numbers of images, by data set.
        weight: how often the time of a job counts, by its record.
    """
    pace = Pace()
    for dataset, known in counts.items():
        for job, record in records(plan, dataset):
            units = units_of(job, record["config"], known)
            pace.learn(job, record, units, weight(record))
    return pace


def estimate(work: Work, jobs: Iterable[Job], pace: Pace) -> tuple[dict[str, float], list[Job]]:
    """Estimate the seconds of jobs of some work by paper, and list the jobs whose time is not known."""
    seconds: dict[str, float] = defaultdict(float)
    unknown = []
    for job in jobs:
        config = config_of(work.plan, job)
        kind = kind_of(job, config)
        units = units_of(job, config, work.counts[job.dataset])
        if units == 0:  # official weights take the place of a training
            continue
        if units is not None and pace.knows(kind):
            seconds[job.paper] += pace.seconds(kind, units)
        else:
            unknown.append(job)
    return seconds, unknown


# ---- in words


def time_of(work: Work) -> str:
    """Estimate the time that jobs take, as a sentence, or say why that cannot be done; empty where they take none."""
    pace = pace_of(work.plan, work.counts)
    seconds, unknown = estimate(work, work.jobs, pace)
    if not seconds and not unknown:
        return ""
    if not seconds:
        return "The time for that is not known, since none of it has run here yet."
    about = duration(sum(seconds.values()))
    text = f"About {about}, one job after the other, at the pace of earlier runs on {pace.where()}."
    return text + _not_counted(work, unknown)


def _not_counted(work: Work, unknown: list[Job]) -> str:
    """Name the jobs whose time is not known, by stage; nothing where there are none."""
    if not unknown:
        return ""
    stages_of_them: dict[str, dict[str, None]] = defaultdict(dict)  # stage -> what tells its jobs apart
    for job in unknown:
        config = config_of(work.plan, job)
        word, *_ = _words(job, config)
        stages_of_them[job.stage][word] = None
    named = [_named(stage, words) for stage, words in stages_of_them.items()]
    return f" Not counted, because not measured yet: {', '.join(named)}."


def _named(stage: str, words: Iterable[str]) -> str:
    """Name the jobs of a stage, with what tells them apart."""
    many = STAGES[stage].many
    told = ", ".join(filter(None, words))
    if not told:
        return many
    return f"{many} ({told})"


def duration(seconds: float) -> str:
    """Write seconds as a person says them: ``70 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min"
