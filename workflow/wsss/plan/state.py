"""What there is to ask for, and how it stands: made, stale, or what is missing."""

from __future__ import annotations

import functools
from pathlib import Path

from wsss.files import read_json, sha256
from wsss.plan import drawings
from wsss.plan.jobs import TRAINED, Job, Outlook, differs
from wsss.plan.papers import owner_of
from wsss.plan.plan import Plan

SMALL = 2**20  # bytes of a file that is always read again


def listing(plan: Plan, dataset: str) -> list[tuple[str, str, str, str]]:
    """(name, table or figure, what it shows, state) of every table and figure."""
    return [
        (entry["name"], entry["kind"].removesuffix("s"), entry["title"], entry["state"])
        for entry in entries(plan, dataset)
    ]


def entries(plan: Plan, dataset: str) -> list[dict]:
    """Every table and figure: name, kind, paper, title, caption, folder, state, and the runs it rests on.

    Figures drawn from a table come right after it.
    """
    outlook, found = Outlook(plan), []
    for paper, kind, name in sorted(drawings.everything(plan), key=functools.partial(_place, plan)):
        about = drawings.about(plan, kind, paper, name)
        folder = drawings.folder(plan, dataset, kind, paper, name)
        entry = {"name": f"{paper}_{name}", "kind": kind, "paper": paper, "folder": folder, "runs": []}
        entry |= {"title": about["title"], "caption": about["caption"]}
        entry["log"] = str(plan.results / "logs" / dataset / kind / f"{paper}_{name}.log")
        entry["state"] = drawings.obstacle(plan, dataset, kind, paper, name)
        if entry["state"] is None:
            drawing = drawings.spec(plan, dataset, kind, paper, name)
            entry["state"] = state(outlook, dataset, Path(folder), drawing)
            entry["runs"] = _runs(outlook, drawing)
        found.append(entry)
    return found


def _place(plan: Plan, drawing: tuple[str, str, str]) -> tuple[int, int, int]:
    """Where a drawing stands: its paper, the table it shows (figures of pictures come last), table before figure."""
    paper, kind, name = drawing
    tables = list(plan.papers[paper]["tables"])
    table = name if kind == "tables" else drawings.about(plan, kind, paper, name).get("table")
    return list(plan.papers).index(paper), tables.index(table) if table else len(tables), int(kind == "figures")


def page(plan: Plan, dataset: str) -> dict:
    """What the report page shows: the papers, and every table and figure with its state."""
    papers = {name: {key: spec.get(key) for key in ("title", "citation", "note")} for name, spec in plan.papers.items()}
    return {"dataset": dataset, "papers": papers, "entries": entries(plan, dataset)}


def state(outlook: Outlook, dataset: str, folder: Path, drawing: dict) -> str:
    """``made``, ``stale: <why>``, ``ready to be drawn`` or ``needs <runs>``.

    A large file older than the record is not read again: this is asked often, and of gigabytes. ``wsss audit`` reads
    all.
    """
    inputs = drawings.inputs(drawing)
    record = folder / "record.json"
    if not record.is_file():
        jobs = outlook.missing(inputs)
        return f"needs {_runs_of(jobs, dataset)}" if jobs else "ready to be drawn"
    if jobs := outlook.changed(inputs):
        return f"stale: other settings of {_runs_of(jobs, dataset)}"
    if differs(folder, lambda: drawing):
        return "stale: its entry in the paper has changed"
    for path, expected in read_json(record)["inputs"].items():
        if not Path(path).is_file():
            return f"stale: {path} is gone"
        found = Path(path).stat()
        if (found.st_size < SMALL or found.st_mtime > record.stat().st_mtime) and sha256(path) != expected:
            return f"stale: {path} has changed"
    return "made"


def _runs_of(jobs: list[Job], dataset: str, at_most: int = 3) -> str:
    def name(job: Job) -> str:
        return f"{job.paper}/{job.run}" + (f" on {job.dataset}" if job.dataset != dataset else "")

    names = list(dict.fromkeys(map(name, jobs)))
    return ", ".join(names[:at_most]) + (f" and {len(names) - at_most} more" if len(names) > at_most else "")


def _runs(outlook: Outlook, drawing: dict) -> list[dict]:
    """The runs a drawing rests on: name, data set, method, seeds, folders of logs and, of the first seed, networks.

    Networks are told by their folders; those that a run's own start or learn from are among them, and come first.
    """
    plan, found = outlook.plan, {}
    for entry in drawings.entries(drawing):
        if "run" not in entry or not drawings.files(entry):
            continue
        owner, run = owner_of(entry["run"], drawing["paper"])
        dataset = entry.get("dataset", drawing["dataset"])
        seeds = plan.dataset(dataset)["seeds"]
        config = plan.resolve(dataset, owner, run)
        about = {
            "run": f"{owner}/{run}",
            "dataset": dataset,
            "method": config["method"]["name"],
            "backbone": config["backbone"]["name"],
            "seeds": seeds,
            "networks": {},
            "logs": [str(plan.results / "logs" / dataset / owner / run / f"seed{seed}") for seed in seeds],
        }
        networks = found.setdefault((dataset, owner, run), about)["networks"]
        for job in outlook.jobs(drawings.files(entry)):
            if job.stage in TRAINED and job.seed == seeds[0]:
                networks[str(job.folder(plan))] = _network(plan, job, (owner, run))
    return list(found.values())


def _network(plan: Plan, job: Job, run: tuple[str, str]) -> dict:
    """What a trained network is, and whether it is that of ``run`` itself."""
    config = plan.resolve(job.dataset, job.paper, job.run)
    own = plan.owner(job.dataset, *run, job.stage) == (job.paper, job.run)
    return {"stage": job.stage, "method": config["method"]["name"], "backbone": config["backbone"]["name"], "own": own}
