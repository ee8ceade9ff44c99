"""Every table and figure, and its state: made, stale, or what is missing."""

from __future__ import annotations

from pathlib import Path

from wsss.plan import claims, drawings, targets
from wsss.plan.jobs import Job
from wsss.plan.layers import Raw
from wsss.plan.outlook import Outlook, differs
from wsss.plan.papers import owner_of
from wsss.plan.plan import Plan
from wsss.plan.targets import Target
from wsss.provenance.state import changed_input, changed_output
from wsss.stages import DRAWN, MEASURED, STAGES

NAMED = 3  # runs that a state names before it counts


def listing(plan: Plan, dataset: str) -> list[tuple[str, str, str, str]]:
    """(word, kind, title, state) of all claims, tables and figures."""
    found = []
    for entry in entries(plan, dataset):
        found.append((entry["name"], entry["kind"].removesuffix("s"), entry["title"], entry["state"]))
    return found


def entries(plan: Plan, dataset: str) -> list[Raw]:
    """Return all claims, tables and figures: names, texts, folder, log, state, and the runs they rest on.

    Figures drawn from a table come right after it.
    """
    outlook = Outlook(plan)
    order = sorted(targets.every(plan), key=lambda target: _place(plan, target))
    return [_entry(outlook, dataset, target) for target in order]


def _entry(outlook: Outlook, dataset: str, target: Target) -> Raw:
    plan, (paper, kind, name) = outlook.plan, target
    about = drawings.about(plan, kind, paper, name)
    entry = {
        "name": target.word,
        "kind": kind,
        "paper": paper,
        "title": about["title"],
        "caption": about["caption"],
        "folder": targets.folder(plan, dataset, target),
        "log": str(plan.results / "logs" / dataset / kind / f"{target.word}.log"),
        "runs": [],
        "state": drawings.obstacle(plan, dataset, kind, paper, name),
    }
    if entry["state"] is None:
        drawing = drawings.drawing(plan, dataset, kind, paper, name)
        entry["state"] = state(outlook, dataset, Path(entry["folder"]), drawing)
        entry["runs"] = _runs(outlook, drawing)
    return entry


def _place(plan: Plan, target: Target) -> tuple[int, int, int]:
    """Order a target by its paper, the table it shows (figures of pictures come last), table before figure.

    Claims come first: those of all papers before everything, those of a paper before its tables.
    """
    if target.kind == "claims":
        return (list(plan.papers).index(target.paper) if target.paper else -1), -1, 0
    tables = list(plan.papers[target.paper]["tables"])
    table = target.name
    if target.kind == "figures":
        table = drawings.about(plan, target.kind, target.paper, target.name).get("table", "")
    at = tables.index(table) if table in tables else len(tables)
    return list(plan.papers).index(target.paper), at, int(target.kind == "figures")


def page(plan: Plan, dataset: str) -> Raw:
    """Return the contents of the page: papers, claims as far as computed, targets and their states, words of stages."""
    papers = {name: {key: spec.get(key) for key in ("title", "citation", "note")} for name, spec in plan.papers.items()}
    shown = {name: stage.result for name, stage in STAGES.items() if stage.trains or name in (*DRAWN, *MEASURED)}
    so_far = claims.drawing(plan, dataset, claims.ALL, so_far=True)
    return {
        "dataset": dataset,
        "papers": papers,
        "claims": so_far,
        "entries": entries(plan, dataset),
        "stage_words": shown,
    }


# ---- states


def state(outlook: Outlook, dataset: str, folder: Path, drawing: Raw) -> str:
    """Return ``made``, ``stale: <why>``, ``ready to be drawn`` or ``needs <runs>``.

    A large file older than the record is not read again: this is asked often, and of gigabytes. ``wsss audit`` reads
    all.
    """
    inputs = drawings.inputs(drawing)
    if not (folder / "record.json").is_file():
        jobs = outlook.missing(inputs)
        return f"needs {_names(jobs, dataset)}" if jobs else "ready to be drawn"
    if jobs := outlook.changed(inputs):
        return f"stale: other settings or code of {_names(jobs, dataset)}"
    if differs(folder, lambda: drawing):
        return "stale: its entry in the paper, or the code that draws it, has changed"
    record = folder / "record.json"
    if why := changed_output(record) or changed_input(record):
        return f"stale: {why}"
    if jobs := outlook.missing(inputs):
        return f"stale: {_names(jobs, dataset)} has to be computed again"
    return "made"


def _names(jobs: list[Job], dataset: str) -> str:
    """Name the runs of jobs, or a few of them."""
    names: dict[str, None] = {}
    for job in jobs:
        names[f"{job.paper}/{job.run}" + (f" on {job.dataset}" if job.dataset != dataset else "")] = None
    found = list(names)
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


# ---- runs


def _runs(outlook: Outlook, drawing: Raw) -> list[Raw]:
    """List the runs of a drawing: name, data set, method, seeds, folders of logs and, of the first seed, networks.

    Networks are keyed by their folders. Those that a run's own network starts or learns from come first.
    """
    found: dict[tuple[str, str, str], Raw] = {}
    for entry in drawings.entries(drawing):
        if "run" not in entry or not drawings.files(entry):
            continue
        owner, run = owner_of(entry["run"], drawing["paper"])
        which = (str(entry.get("dataset", drawing["dataset"])), owner, run)
        about = found.setdefault(which, _run(outlook.plan, *which))
        for job in outlook.jobs(drawings.files(entry)):
            if job.trains and job.seed == about["seeds"][0]:
                folder = str(job.folder(outlook.plan))
                about["networks"][folder] = _network(outlook.plan, job, (owner, run))
    return list(found.values())


def _run(plan: Plan, dataset: str, paper: str, run: str) -> Raw:
    config, seeds = plan.resolve(dataset, paper, run), plan.dataset(dataset)["seeds"]
    logs = plan.results / "logs" / dataset / paper / run
    return {
        "run": f"{paper}/{run}",
        "dataset": dataset,
        "method": config["method"]["name"],
        "backbone": config["backbone"]["name"],
        "seeds": seeds,
        "networks": {},
        "logs": [str(logs / f"seed{seed}") for seed in seeds],
    }


def _network(plan: Plan, job: Job, run: tuple[str, str]) -> Raw:
    """Describe a trained network, and tell whether it is that of ``run`` itself."""
    config = plan.resolve(job.dataset, job.paper, job.run)
    own = plan.owner(job.dataset, *run, job.stage) == (job.paper, job.run)
    return {"stage": job.stage, "method": config["method"]["name"], "backbone": config["backbone"]["name"], "own": own}
