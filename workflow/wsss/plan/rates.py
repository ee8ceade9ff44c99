"""How long jobs take, from the records of earlier ones."""

from __future__ import annotations

import socket
from collections import defaultdict
from pathlib import Path

from wsss import stages
from wsss.files import read_json
from wsss.plan.cost import Counts, amount, config_of
from wsss.plan.jobs import Job, job_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.stages import STAGES

Kind = tuple[str, ...]


def kind_of(job: Job, config: Raw) -> Kind:
    """What decides how long a step or an image takes: stage, method or network, and more. One kind has one rate."""
    batch = str(stages.training(job.stage, config)["batch_size"]) if job.trains else ""
    return (job.stage, *_words(job, config), batch, job.dataset)


def _words(job: Job, config: Raw) -> tuple[str, ...]:
    if job.stage in ("train", "cam"):
        return config["method"]["name"], config["backbone"]["name"]
    if job.stage in ("deeplab", "predict"):
        return str(config["deeplab"]["model"]), str(config["deeplab"]["backbone"]["name"])
    return (job.measured if job.stage == "measure" else "",)


def rates(plan: Plan, counts: dict[str, Counts]) -> tuple[dict[Kind, float], set[str]]:
    """Seconds per step (of trainings) or per image, by kind, from the records of what has run; and the hosts."""
    seconds: dict[Kind, float] = defaultdict(float)
    units: dict[Kind, int] = defaultdict(int)
    hosts = set()
    for dataset, known in counts.items():
        for path in sorted(plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json")):
            record = read_json(path)
            job = _job_of_record(plan, path, record)
            if job is None:
                continue
            steps, images = amount(job, record["config"], known)
            if done := steps or images:
                kind = kind_of(job, record["config"])
                seconds[kind] += record["seconds"]
                units[kind] += done
                hosts.add(record["machine"]["host"])
    return {kind: seconds[kind] / units[kind] for kind in units}, hosts


def _job_of_record(plan: Plan, path: Path, record: Raw) -> Job | None:
    """The job that left a record, told by the model, or the shard or metrics beside the record."""
    for output in record["outputs"]:
        name = Path(output)
        if name.name == "model.pt" or f"{name.stem}.record.json" == path.name:
            return job_of(plan, str(plan.results / output))
    return None


def time_of(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> str:
    """An estimate of the time that jobs take, as a sentence, or why there is none."""
    known, hosts = rates(plan, counts)
    seconds, unknown = 0.0, defaultdict[str, dict[str, None]](dict)
    for job in jobs:
        config = config_of(plan, job)
        steps, images = amount(job, config, counts[job.dataset])
        kind, units = kind_of(job, config), steps or images
        if kind in known and units is not None:
            seconds += known[kind] * units
        else:
            unknown[job.stage][kind[1]] = None
    if not seconds:
        return "How long that takes is not known: none of it has run with these results yet."
    where = "this machine" if hosts == {socket.gethostname()} else ", ".join(sorted(hosts))
    text = f"About {duration(seconds)}, one job after the other, at the pace of earlier runs on {where}."
    rest = [_named(stage, list(of)) for stage, of in unknown.items()]
    return text + (f" Not counted, because not measured yet: {', '.join(rest)}." if rest else "")


def _named(stage: str, of: list[str]) -> str:
    words = [word for word in of if word]
    return STAGES[stage].many + (f" ({', '.join(words)})" if words else "")


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``70 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
