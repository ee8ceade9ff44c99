"""What a target will cost, said before it starts: jobs, optimisation steps, images, and time where it was measured."""

from __future__ import annotations

import csv
import socket
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsss.files import read_json
from wsss.plan import drawings, stages
from wsss.plan.jobs import TRAINED, Job, Outlook, inputs, job_of
from wsss.plan.plan import PRETRAINING, Plan
from wsss.schedule import Schedule

WIDTH = 100  # columns of a terminal
NAMES = {  # in the order in which they run
    "train": "trainings",
    "seed": "localizations",
    "crf": "dense CRFs",
    "affinity": "AffinityNets",
    "walk": "random walks",
    "irn_labels": "IRNet marks",
    "irnet": "IRNets",
    "irn": "IRNet walks",
    "irn_instances": "instance labels",
    "deeplab": "DeepLabs",
    "segment": "predictions",
    "metrics": "measurements",
}
PUBLISHED = {  # images of the lists that are downloaded, or expected, but not indexed yet
    "voc": {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582},
    "coco": {"train": 82081, "val": 40137},
}


def sizes(plan: Plan, dataset: str) -> dict[str, int]:
    """Images of each part (``seed``, ``rest``, ``val``) and of ``train``; unknown parts are left out."""
    spec = plan.dataset(dataset)
    index = plan.data(dataset) / "index.csv"
    if index.is_file():
        members = defaultdict(set)
        with index.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                for split in row["split"].split(";"):
                    members[split].add(row["id"])
        counts = {split: len(ids) for split, ids in members.items()}
    elif spec["builder"] == "shapes":
        counts = {split: spec["options"][split] for split in ("train", "val")}
    else:
        counts = PUBLISHED.get(spec["builder"], {}) if spec.get("published") else {}
    found = {role: counts[split] for role, split in spec["splits"].items() if split in counts}
    if {"train", "seed"} <= set(found):
        found["rest"] = found["train"] - found["seed"]
    return found


def names(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """The tables and figures among what was asked for: by name, by paper, by a file of theirs, or those of no name."""
    asked = [str(word) for word in asked]
    if not asked or "all" in asked or str(plan.results / dataset / "report" / "index.html") in asked:
        return drawings.default(plan, dataset)
    folders = {Path(folder): name for name, _, folder in drawings.targets(plan, dataset)}
    known = drawings.words(plan, dataset)
    named = [word for word in asked if word in known]
    files = [name for folder, name in folders.items() if any(folder in Path(word).parents for word in asked)]
    return drawings.chosen(plan, dataset, named + files)


def describe(plan: Plan, dataset: str, asked: list[str]) -> str:
    """What is missing for these targets, as a short block of lines; empty if nothing has to be computed."""
    jobs = _missing(plan, dataset, asked)
    if not jobs:
        return ""
    title = ", ".join(asked) if len(asked) <= 3 else f"{len(asked)} tables and figures"
    lines = [f"Before {title} can be written, data set {' and '.join(sorted({job.dataset for job in jobs}))}:"]
    counts = {name: sizes(plan, name) for name in {job.dataset for job in jobs}}
    for stage, name in NAMES.items():
        members = [job for job in jobs if job.stage == stage]
        if members:
            words = f"{len(members):>6} {name if len(members) > 1 else name.removesuffix('s')}"
            lines += _wrapped(f"{words:<22} {_work(plan, members, counts)}", 25)
    lines += _wrapped(_time(plan, jobs, counts), 2)
    if random := at_random(plan, jobs):
        lines += _wrapped(f"At random, because they have no weights, start: {', '.join(random)}; see stand_ins.", 2)
    return "\n".join(lines)


def lacking(plan: Plan, dataset: str, asked: list[str]) -> list[str]:
    """Weight files that would be read before these targets can be written, and are not there."""
    trained = [job for job in _missing(plan, dataset, asked) if job.stage in TRAINED]
    read = {path for job in trained for path in inputs(plan, job) if job_of(plan, path) is None}
    return sorted(path for path in read if not Path(path).is_file())


def at_random(plan: Plan, jobs: list[Job]) -> list[str]:
    """The networks that these jobs train from random weights, by stage; a data set's pretraining means to."""
    found = {}
    for job in (job for job in jobs if job.stage in TRAINED and (job.paper, job.run) != PRETRAINING):
        config = config_of(plan, job)
        settings = {} if stages.official_weights(job.stage, config) else stages.initialised(job.stage, config)
        found |= dict.fromkeys(f"{name} ({NAMES[job.stage]})" for name in _empty(settings))
    return list(found)


def _empty(settings) -> Iterator[str]:
    """Names of the networks in nested settings that nothing is read into."""
    if isinstance(settings, dict) and not settings.get("weights"):
        for key, inner in settings.items():
            if key == "backbone" and inner and not inner.get("weights"):
                yield inner["name"]
            yield from _empty(inner)


def _missing(plan: Plan, dataset: str, asked: list[str]) -> list[Job]:
    known = {f"{paper}_{name}": (kind, paper, name) for paper, kind, name in drawings.everything(plan)}
    specs = [drawings.spec(plan, dataset, *known[name]) for name in asked if name in known]
    return Outlook(plan).missing([path for spec in specs for path in drawings.inputs(spec)])


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * indent)


def _work(plan: Plan, jobs: list[Job], counts: dict) -> str:
    """Steps and images of the jobs of one stage, and, of trainings, of which runs."""
    amounts = [amount(job, config_of(plan, job), counts[job.dataset]) for job in jobs]
    steps, images = (None if None in column else sum(column) for column in zip(*amounts, strict=True))
    work = f"{images:,} images" if images is not None else "as many images as the index will have"
    if jobs[0].stage not in TRAINED:
        return work
    return f"{f'{steps:,} steps over ' if steps is not None else ''}{work}; {_runs(jobs)}"


def _runs(jobs: list[Job]) -> str:
    """The runs and seeds, paper by paper."""
    papers = defaultdict(dict)
    for job in jobs:
        papers[job.paper][job.run] = None
    seeds = sorted({job.seed for job in jobs})
    named = "; ".join(f"{paper}: {', '.join(runs)}" for paper, runs in papers.items())
    return f"{named}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def config_of(plan: Plan, job: Job) -> dict:
    return plan.stage_config(job.dataset, job.paper, job.run, job.seed, job.stage)


def amount(job: Job, config: dict, counts: dict[str, int]) -> tuple[int | None, int | None]:
    """(optimisation steps, images) of a job; None where the number of images is not known yet."""
    if stages.official_weights(job.stage, config):
        return 0, 0
    if job.stage in TRAINED:
        settings = _training(job.stage, config)
        if "train" in counts:
            schedule = Schedule(counts["train"], settings)
            return schedule.steps, schedule.images
        return settings.get("steps"), None
    if job.part not in counts:
        return 0, None
    return 0, round(counts[job.part] / job.shards)


def _training(stage: str, config: dict) -> dict:
    section = config[TRAINED[stage]]
    return section if stage == "train" else section["train"]


def kind_of(job: Job, config: dict) -> tuple[str, ...]:
    """What decides how long a step or an image takes: stage, method or network, and more. One kind has one rate."""
    if job.stage in ("train", "seed"):
        words = (config["method"]["name"], config["backbone"]["name"])
    elif job.stage in ("deeplab", "segment"):
        words = (str(config["segment"]["model"]), str(config["segment"]["backbone"]["name"]))
    elif job.stage == "metrics":
        words = (job.measured,)
    else:
        words = ("",)
    batch = str(_training(job.stage, config)["batch_size"]) if job.stage in TRAINED else ""
    return (job.stage, *words, batch, job.dataset)


def rates(plan: Plan, counts: dict[str, dict[str, int]]) -> tuple[dict[tuple, float], set[str]]:
    """Seconds per step (of trainings) or per image, by ``kind_of``, from the records of what has run; and the hosts."""
    spent: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    hosts = set()
    for dataset, known in counts.items():
        for path in plan.results.glob(f"{dataset}/*/*/seed*/*/*record.json"):
            record = read_json(path)
            made = next(
                (
                    p
                    for p in record["outputs"]
                    if Path(p).name == "model.pt" or Path(p).stem + ".record.json" == path.name
                ),
                None,
            )
            job = made and job_of(plan, made)
            if not job:
                continue
            steps, images = amount(job, record["config"], known)
            if units := steps or images:
                total = spent[kind_of(job, record["config"])]
                total[0] += record["seconds"]
                total[1] += units
                hosts.add(record["machine"]["host"])
    return {kind: seconds / units for kind, (seconds, units) in spent.items()}, hosts


def _time(plan: Plan, jobs: list[Job], counts: dict) -> str:
    """An estimate of the time, or why there is none."""
    known, hosts = rates(plan, counts)
    seconds, unknown = 0.0, defaultdict(dict)
    for job in jobs:
        config = config_of(plan, job)
        steps, images = amount(job, config, counts[job.dataset])
        kind = kind_of(job, config)
        if kind in known and (steps or images) is not None:
            seconds += known[kind] * (steps or images)
        else:
            unknown[job.stage][kind[1]] = None
    if not seconds:
        return "How long that takes is not known: none of it has run with these results yet."
    where = "this machine" if hosts == {socket.gethostname()} else ", ".join(sorted(hosts))
    text = f"About {_duration(seconds)}, one job after the other, at the pace of earlier runs on {where}."
    rest = [NAMES[stage] + (f" ({', '.join(of)})" if any(of) else "") for stage, of in unknown.items()]
    return text + (f" Not counted, because not measured yet: {', '.join(rest)}." if rest else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
