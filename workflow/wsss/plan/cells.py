"""A cell of a table, a curve, one side of a claim: its run resolved to the files that it is read from."""

from __future__ import annotations

from wsss.plan import papers
from wsss.plan.datasets import has_objects
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.stages import STAGES, sections

NO_SERVER = "test masks are not public: the VOC server measures what `wsss submission` packs"


def companion(plan: Plan, dataset: str, spec: Raw) -> tuple[str, str | None]:
    """Find the data set that a cell or figure is about, and what is in the way, if something is.

    It is ``dataset``, or the one beside it in the role that the cell or figure names.
    """
    role = spec.get("companion")
    if role is None:
        return dataset, None
    beside = plan.dataset(dataset).get("companions", {}).get(role)
    if beside is None:
        return dataset, f"no {role} data set beside {dataset}"
    return beside, plan.absent(beside)


def with_metrics(plan: Plan, dataset: str, paper: str, cell: Raw) -> Raw:
    """Return a cell with the metrics files of its run, one per seed, or with the reason why it has none."""
    if not cell.get("run"):
        return cell
    owner, run = papers.owner_of(cell["run"], paper)
    measured, missing = companion(plan, dataset, cell)
    if missing is None and cell["images"] == "test":
        missing = NO_SERVER
    if missing is None and owner not in plan.papers:
        missing = f"paper {owner} is not among those configured"
    if missing is None and STAGES[cell["stage"]].makes == "instances" and not has_objects(plan.dataset(measured)):
        missing = f"data set {measured} has no masks of objects"
    if missing:
        return {**cell, "missing": missing}
    stage, seeds = cell["stage"], plan.dataset(measured)["seeds"]
    files = [plan.metrics(measured, owner, run, seed, stage, cell["images"]) for seed in seeds]
    found = {**cell, "run": f"{owner}/{run}", "dataset": measured, "metrics": files}
    if why := _not_comparable(plan, measured, owner, run, stage):
        found["not_comparable"] = why
    if chosen := _chosen(plan, measured, owner, run, stage):
        found["chosen"] = chosen
    return found


def _chosen(plan: Plan, dataset: str, paper: str, run: str, stage: str) -> str | None:
    """Tell the epochs of the classifier out of which the one that a result rests on was chosen on masks."""
    config = plan.resolve(dataset, paper, run)
    train = config["train"]
    if "train" not in sections(stage, config) or train["select"] == "last":
        return None
    first, every, last = train["select_from"] + 1, train["select_every"], train["epochs"]
    return f"epochs {', '.join(map(str, sorted({*range(first, last + 1, every), last})))} of {last}"


def _not_comparable(plan: Plan, dataset: str, paper: str, run: str, stage: str) -> str | None:
    """Say why a result cannot be compared with the reported one: other images, or other settings than released."""
    if not plan.dataset(dataset).get("published"):
        config = plan.resolve(dataset, paper, run)
        network = (config["deeplab"] if stage == "predict" else config)["backbone"]["name"]
        return f"data set {dataset}, backbone {network}"
    if changed := plan.departures(dataset, paper, run):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        return f"other settings than the paper's: {', '.join(changed[:3])}{more}"
    return None
