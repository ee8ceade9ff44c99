"""Every table and figure, and its state: made, stale, or what is missing."""

from __future__ import annotations

from pathlib import Path

from wsss.plan import claims, drawings, targets
from wsss.plan.jobs import Job
from wsss.plan.layers import Raw
from wsss.plan.outlook import Outlook, differs
from wsss.plan.papers import owner_of
from wsss.plan.plan import Plan
from wsss.plan.runs import Run
from wsss.plan.target import Target
from wsss.plan.wording import counted
from wsss.provenance.state import changed_input, changed_output
from wsss.stages import DRAWN, MEASURED, STAGES, TRAINED


def listing(plan: Plan, dataset: str) -> list[tuple[str, str, str, str]]:
    """List (word, kind, title, state) of all claims, tables and figures."""
    found = []
    for entry in entries(plan, dataset):
        kind = entry["kind"].removesuffix("s")
        found.append((entry["name"], kind, entry["title"], entry["state"]))
    return found


def entries(plan: Plan, dataset: str) -> list[Raw]:
    """Return all claims, tables and figures: names, texts, folder, log, state, and the runs they rest on.

    Figures drawn from a table come right after it.
    """
    outlook = Outlook(plan)
    order = sorted(targets.every(plan), key=lambda target: _place(plan, target))
    return [_entry(outlook, dataset, target) for target in order]


def _entry(outlook: Outlook, dataset: str, target: Target) -> Raw:
    """Describe a target, what has been made of it, and the runs that it rests on."""
    plan = outlook.plan
    about = drawings.about(plan, target)
    logs = plan.results / "logs" / dataset / target.kind
    return {
        "name": target.word,
        "kind": target.kind,
        "paper": target.paper,
        "title": about["title"],
        "caption": about["caption"],
        "folder": targets.folder(plan, dataset, target),
        "log": str(logs / f"{target.word}.log"),
        **_now(outlook, dataset, target),
    }


def _now(outlook: Outlook, dataset: str, target: Target) -> Raw:
    """Return the state of a target, and the runs that it rests on; none where it cannot be made."""
    plan = outlook.plan
    if why := drawings.obstacle(plan, dataset, target):
        return {"runs": [], "state": why}
    drawing = drawings.drawing(plan, dataset, target)
    folder = Path(targets.folder(plan, dataset, target))
    return {
        "runs": _runs(outlook, drawing),
        "state": state(outlook, dataset, folder, drawing),
    }


def _place(plan: Plan, target: Target) -> tuple[int, int, int]:
    """Order a target by its paper, the table it shows (figures of pictures come last), table before figure.

    Claims come first: those of all papers before everything, those of a paper before its tables.
    """
    if target.paper == claims.ALL:
        return -1, -1, 0
    at = list(plan.papers).index(target.paper)
    if target.kind == "claims":
        return at, -1, 0
    if target.kind == "tables":
        return at, _place_of_table(plan, target.paper, target.name), 0
    figure = drawings.about(plan, target)
    return at, _place_of_table(plan, target.paper, figure.get("table", "")), 1


def _place_of_table(plan: Plan, paper: str, table: str) -> int:
    """Return the place of a table in its paper; behind all for a name that is none."""
    tables = list(plan.papers[paper]["tables"])
    return tables.index(table) if table in tables else len(tables)


def page(plan: Plan, dataset: str) -> Raw:
    """Return the contents of the page: papers, claims as far as computed, targets and their states, words of stages."""
    papers = {}
    for name, spec in plan.papers.items():
        papers[name] = {key: spec.get(key) for key in ("title", "citation", "note")}
    return {
        "dataset": dataset,
        "papers": papers,
        "claims": claims.drawing(plan, dataset, claims.ALL, so_far=True),
        "entries": entries(plan, dataset),
        "stage_words": _words_of_stages(),
    }


def _words_of_stages() -> dict[str, str]:
    """Return the words for the results of all stages that the page speaks of."""
    shown = {*TRAINED, *DRAWN, *MEASURED}
    found = {}
    for name, stage in STAGES.items():
        if name in shown:
            found[name] = stage.result
    return found


# ---- states


def state(outlook: Outlook, dataset: str, folder: Path, drawing: Raw) -> str:
    """Return ``made``, ``stale: <why>``, ``ready to be drawn`` or ``needs <runs>``.

    A large file older than the record is not read again: this is asked often, and of gigabytes. ``wsss audit`` reads
    all.

    Args:
        outlook: the jobs that are still to do.
        dataset: the data set that the target is made for.
        folder: where it is written.
        drawing: what it is made from.
    """
    if (folder / "record.json").is_file():
        why = _stale(outlook, dataset, folder, drawing)
        return f"stale: {why}" if why else "made"
    jobs = outlook.missing(drawings.inputs(drawing))
    return f"needs {_names(jobs, dataset)}" if jobs else "ready to be drawn"


def _stale(outlook: Outlook, dataset: str, folder: Path, drawing: Raw) -> str | None:
    """Say why a target that has been made would come out differently now; None if it would not.

    Args:
        outlook: the jobs that are still to do.
        dataset: the data set that the target is made for.
        folder: where it is written.
        drawing: what it is made from.
    """
    inputs = drawings.inputs(drawing)
    record = folder / "record.json"
    if jobs := outlook.changed(inputs):
        return f"other settings or code of {_names(jobs, dataset)}"
    if differs(folder, lambda: drawing):
        return "its entry in the paper, or the code that draws it, has changed"
    if why := changed_output(record) or changed_input(record):
        return why
    if jobs := outlook.missing(inputs):
        return f"{_names(jobs, dataset)} has to be computed again"
    return None


def _names(jobs: list[Job], dataset: str) -> str:
    """Name the runs of jobs, or a few of them."""
    names = dict.fromkeys(_name(job, dataset) for job in jobs)
    return counted(list(names))


def _name(job: Job, dataset: str) -> str:
    """Name the run of a job, and its data set if that is another."""
    run = f"{job.paper}/{job.run}"
    return run if job.dataset == dataset else f"{run} on {job.dataset}"


# ---- runs


def _runs(outlook: Outlook, drawing: Raw) -> list[Raw]:
    """List the runs of a drawing: name, data set, method, seeds, folders of logs and, of the first seed, networks.

    Networks are keyed by their folders. Those that a run's own network starts or learns from come first.
    """
    found: dict[Run, Raw] = {}
    for entry in drawings.entries(drawing):
        files = drawings.files(entry)
        if not files or "run" not in entry:
            continue
        dataset = str(entry.get("dataset", drawing["dataset"]))
        run = Run(dataset, *owner_of(entry["run"], drawing["paper"]))
        about = found.setdefault(run, _run(outlook.plan, run))
        about["networks"] |= _networks(outlook, run, files)
    return list(found.values())


def _run(plan: Plan, run: Run) -> Raw:
    """Describe a run, without its networks."""
    config = plan.resolve(run)
    seeds = plan.dataset(run.dataset)["seeds"]
    logs = plan.results / "logs" / run.dataset / run.word
    return {
        "run": run.word,
        "dataset": run.dataset,
        "method": config["method"]["name"],
        "backbone": config["backbone"]["name"],
        "seeds": seeds,
        "networks": {},
        "logs": [str(logs / f"seed{seed}") for seed in seeds],
    }


def _networks(outlook: Outlook, run: Run, files: list[str]) -> dict[str, Raw]:
    """Describe the networks of the first seed that files come from, by their folders."""
    plan = outlook.plan
    first = plan.dataset(run.dataset)["seeds"][0]
    found = {}
    for job in outlook.jobs(files):
        if job.trains and job.seed == first:
            folder = str(job.folder(plan))
            found[folder] = _network(plan, job, run)
    return found


def _network(plan: Plan, job: Job, run: Run) -> Raw:
    """Describe a trained network, and tell whether it is that of ``run`` itself."""
    config = plan.resolve(job.of_run)
    here = Run(job.dataset, run.paper, run.name)
    owner = plan.owner(here, job.stage)
    return {
        "stage": job.stage,
        "method": config["method"]["name"],
        "backbone": config["backbone"]["name"],
        "own": owner == job.of_run,
    }
