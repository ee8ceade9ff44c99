"""The time that jobs take, from the records of earlier ones."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from wsss import stages
from wsss.files import read_json
from wsss.plan.cost import Work, amount, config_of
from wsss.plan.jobs import Job, job_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.sizes import Counts
from wsss.stages import STAGES

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


class Pace:
    """The seconds that earlier jobs took per training step or image, by kind, and the hosts on which they ran."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self._seconds: dict[Kind, float] = defaultdict(float)
        self._units: dict[Kind, int] = defaultdict(int)

    def learn(self, plan: Plan, path: Path, counts: Counts) -> None:
        """Add the record of a job at ``path``, if it is of one that can be compared."""
        record = read_json(path)
        job = job_of_record(plan, path, record)
        if job is None:
            return
        config = record["config"]
        done = units_of(job, config, counts)
        if done:
            kind = kind_of(job, config)
            self._seconds[kind] += record["seconds"]
            self._units[kind] += done
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


def measure(plan: Plan, counts: dict[str, Counts]) -> Pace:
    """Measure the pace of earlier jobs on data sets, whose numbers of images are given, from their records."""
    pace = Pace()
    for dataset, known in counts.items():
        records = plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json")
        for path in sorted(records):
            pace.learn(plan, path, known)
    return pace


def job_of_record(plan: Plan, path: Path, record: Raw) -> Job | None:
    """Find the job that left a record, by the model, the shard or the metrics beside it."""
    for output in record["outputs"]:
        file = Path(output)
        beside = f"{file.stem}.record.json"
        if file.name == "model.pt" or beside == path.name:
            return job_of(plan, plan.results / output)
    return None


# ---- in words


def time_of(work: Work) -> str:
    """Estimate the time that jobs take, as a sentence, or say why that cannot be done; empty where they take none."""
    pace = measure(work.plan, work.counts)
    seconds = 0.0
    unknown: dict[str, dict[str, None]] = defaultdict(dict)  # stage -> what tells its jobs apart
    for job in work.jobs:
        config = config_of(work.plan, job)
        kind = kind_of(job, config)
        units = units_of(job, config, work.counts[job.dataset])
        if units == 0:  # official weights take the place of a training
            continue
        if units is not None and pace.knows(kind):
            seconds += pace.seconds(kind, units)
        else:
            unknown[job.stage][kind[1]] = None
    if not seconds and not unknown:
        return ""
    if not seconds:
        return "The time for that is not known, since none of it has run here yet."
    about = duration(seconds)
    text = f"About {about}, one job after the other, at the pace of earlier runs on {pace.where()}."
    return text + _not_counted(unknown)


def _not_counted(unknown: dict[str, dict[str, None]]) -> str:
    """Name the jobs whose time is not known, by stage; nothing where there are none."""
    if not unknown:
        return ""
    named = [_named(stage, words) for stage, words in unknown.items()]
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
