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
    every = targets.every(plan)
    order = sorted(every, key=lambda target: _place(plan, target))
    return [_entry(outlook, dataset, target) for target in order]


def _entry(outlook: Outlook, dataset: str, target: Target) -> Raw:
    """Describe a target, what has been made of it, and the runs that it rests on."""
    plan = outlook.plan
    about = drawings.about(plan, target)
    logs = plan.results / "logs" / dataset / target.kind
    log = logs / f"{target.word}.log"
    return {
        "name": target.word,
        "kind": target.kind,
        "paper": target.paper,
        "title": about["title"],
        "caption": about["caption"],
        "folder": targets.folder(plan, dataset, target),
        "log": str(log),
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
    """Order a target by its paper, the table it shows (figures without a table come last), table before figure.

    Claims come first: those of all papers before everything, those of a paper before its tables.
    """
    if target.paper == claims.ALL:
        return -1, -1, 0
    papers = list(plan.papers)
    at = papers.index(target.paper)
    if target.kind == "claims":
        return at, -1, 0
    if target.kind == "tables":
        table = _place_of_table(plan, target.paper, target.name)
        return at, table, 0
    figure = drawings.about(plan, target)
    shown = figure.get("table", "")
    table = _place_of_table(plan, target.paper, shown)
    return at, table, 1


def _place_of_table(plan: Plan, paper: str, table: str) -> int:
    """Return the place of a table in its paper; for an unknown name, the place after all."""
    tables = list(plan.papers[paper]["tables"])
    if table not in tables:
        return len(tables)
    return tables.index(table)


def page(plan: Plan, dataset: str) -> Raw:
    """Return the contents of the page: papers, claims as far as computed, targets and their states, words of stages."""
    judged = claims.drawing(plan, dataset, claims.ALL, so_far=True)
    return {
        "dataset": dataset,
        "papers": _texts_of_papers(plan),
        "claims": judged,
        "entries": entries(plan, dataset),
        "stage_words": _words_of_stages(),
    }


def _texts_of_papers(plan: Plan) -> dict[str, Raw]:
    """Return what the page prints of each paper."""
    found = {}
    for name, spec in plan.papers.items():
        found[name] = {
            "title": spec.get("title"),
            "citation": spec.get("citation"),
            "note": spec.get("note"),
        }
    return found


def _words_of_stages() -> dict[str, str]:
    """Return the words for the results of all stages that the page speaks of."""
    shown = {*TRAINED, *DRAWN, *MEASURED}
    found = {}
    for name, stage in STAGES.items():
        if name in shown:
            found[name] = stage.result
    return found


# ---- states


def state(
    outlook: Outlook,
    dataset: str,
    folder: Path,
    drawing: Raw,
) -> str:
    """Return ``made``, ``stale: <why>``, ``ready to be drawn`` or ``needs <runs>``.

    A large file older than the record is not read again: this is asked often, and of gigabytes. ``wsss audit`` reads
    all.

    Args:
        outlook: the jobs that are still to do.
        dataset: the data set that the target is made for.
        folder: where it is written.
        drawing: what it is made from.
    """
    record = folder / "record.json"
    if not record.is_file():
        return _not_made(outlook, dataset, drawing)
    why = _stale(outlook, dataset, folder, drawing)
    return f"stale: {why}" if why else "made"


def _not_made(outlook: Outlook, dataset: str, drawing: Raw) -> str:
    """Say what a target that has not been made needs."""
    inputs = drawings.inputs(drawing)
    jobs = outlook.missing(inputs)
    if not jobs:
        return "ready to be drawn"
    return f"needs {_names(jobs, dataset)}"


def _stale(
    outlook: Outlook,
    dataset: str,
    folder: Path,
    drawing: Raw,
) -> str | None:
    """Say why a target that has been made would come out differently now; None if it would not.

    Args:
        outlook: the jobs that are still to do.
        dataset: the data set that the target is made for.
        folder: where it is written.
        drawing: what it is made from.
    """
    inputs = drawings.inputs(drawing)
    record = folder / "record.json"
    to_do = outlook.missing(inputs)
    if changed := [job for job in to_do if outlook.differs_now(job)]:
        return f"other settings or code of {_names(changed, dataset)}"
    if differs(folder, lambda: drawing):
        return "its entry in the paper, or the code that draws it, has changed"
    why = changed_output(record) or changed_input(record)
    if why:
        return why
    if to_do:
        return f"{_names(to_do, dataset)} has to be computed again"
    return None


def _names(jobs: list[Job], dataset: str) -> str:
    """Name the runs of jobs, or a few of them."""
    names = dict.fromkeys(_name(job, dataset) for job in jobs)
    return counted(list(names))


def _name(job: Job, dataset: str) -> str:
    """Name the run of a job, and its data set if that is another."""
    run = job.of_run.word
    if job.dataset == dataset:
        return run
    return f"{run} on {job.dataset}"


# ---- runs


def _runs(outlook: Outlook, drawing: Raw) -> list[Raw]:
    """List the runs of a drawing: name, data set, method, folders of logs and, of the first seed, networks.

    Networks are keyed by their folders. Those that a run's own network starts or learns from come first.
    """
    found: dict[Run, Raw] = {}
    for entry in drawings.entries(drawing):
        files = drawings.files(entry)
        if not files or "run" not in entry:
            continue
        run = _run_of(entry, drawing)
        if run not in found:
            found[run] = _run(outlook.plan, run)
        found[run]["networks"] |= _networks(outlook, run, files)
    return list(found.values())


def _run_of(entry: Raw, drawing: Raw) -> Run:
    """Return the run that an entry of a drawing shows."""
    dataset = entry.get("dataset", drawing["dataset"])
    paper, name = owner_of(entry["run"], drawing["paper"])
    return Run(str(dataset), paper, name)


def _run(plan: Plan, run: Run) -> Raw:
    """Describe a run, without its networks."""
    config = plan.resolve(run)
    seeds = plan.dataset(run.dataset)["seeds"]
    logs = plan.results / "logs" / run.dataset / run.word
    folders = [str(logs / f"seed{seed}") for seed in seeds]
    return {
        "run": run.word,
        "dataset": run.dataset,
        "method": config["method"]["name"],
        "backbone": config["backbone"]["name"],
        "networks": {},
        "logs": folders,
    }


def _networks(outlook: Outlook, run: Run, files: list[str]) -> dict[str, Raw]:
    """Describe the networks of the first seed that files come from, by their folders."""
    plan = outlook.plan
    first = plan.dataset(run.dataset)["seeds"][0]
    found = {}
    for job in outlook.jobs(files):
        if not job.trains or job.seed != first:
            continue
        folder = str(job.folder(plan))
        found[folder] = _network(plan, job, run)
    return found


def _network(plan: Plan, job: Job, run: Run) -> Raw:
    """Describe a trained network, and tell whether it is that of ``run`` itself."""
    config = plan.resolve(job.of_run)
    owner = plan.owner(run, job.stage)
    seeds = plan.dataset(job.of_run.dataset)["seeds"]
    return {
        "stage": job.stage,
        "method": config["method"]["name"],
        "backbone": config["backbone"]["name"],
        "own": owner == job.of_run,
        "seeds": 1 if job.of_run.is_pretraining else len(seeds),
    }
