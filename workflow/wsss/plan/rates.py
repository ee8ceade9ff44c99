"""The time that jobs take, from the records of earlier ones."""

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
    """Name the kind of a job: stage, method or network, and all else that decides the time of a step or an image."""
    batch = str(stages.training(job.stage, config)["batch_size"]) if job.trains else ""
    return (job.stage, *_words(job, config), batch, job.dataset)


def _words(job: Job, config: Raw) -> tuple[str, ...]:
    if job.stage in ("train", "cam"):
        return config["method"]["name"], config["backbone"]["name"]
    if job.stage in ("deeplab", "predict"):
        return str(config["deeplab"]["model"]), str(config["deeplab"]["backbone"]["name"])
    return (job.measured if job.stage == "measure" else "",)


def rates(plan: Plan, counts: dict[str, Counts]) -> tuple[dict[Kind, float], set[str]]:
    """Measure seconds per training step or per image, by kind, from the records of earlier jobs; and list the hosts."""
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
    """Find the job that left a record, by the model, the shard or the metrics beside it."""
    for output in record["outputs"]:
        name = Path(output)
        if name.name == "model.pt" or f"{name.stem}.record.json" == path.name:
            return job_of(plan, str(plan.results / output))
    return None


def time_of(plan: Plan, jobs: list[Job], counts: dict[str, Counts]) -> str:
    """Estimate the time that jobs take, as a sentence, or say why that cannot be done."""
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
        return "The time for that is not known, since none of it has run here yet."
    where = "this machine" if hosts == {socket.gethostname()} else ", ".join(sorted(hosts))
    text = f"About {duration(seconds)}, one job after the other, at the pace of earlier runs on {where}."
    rest = [_named(stage, list(of)) for stage, of in unknown.items()]
    return text + (f" Not counted, because not measured yet: {', '.join(rest)}." if rest else "")


def _named(stage: str, of: list[str]) -> str:
    words = [word for word in of if word]
    return STAGES[stage].many + (f" ({', '.join(words)})" if words else "")


def duration(seconds: float) -> str:
    """Write seconds as a person says them: ``70 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
