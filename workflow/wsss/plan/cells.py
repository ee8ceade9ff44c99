"""A cell of a table, a curve, one side of a claim: its run resolved to the files that it is read from."""

from __future__ import annotations

from typing import NamedTuple

from wsss.plan import papers
from wsss.plan.datasets import has_objects
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.runs import Run
from wsss.plan.wording import counted
from wsss.stages import STAGES, sections

NO_SERVER = "test masks are not public: the VOC server measures what `wsss submission` packs"


class Result(NamedTuple):
    """The result of a stage of a run, over all seeds."""

    plan: Plan
    run: Run
    stage: str

    def missing(self, images: str) -> str | None:
        """Say why this result is not measured on the images of a role; None if it is."""
        dataset, paper, _ = self.run
        if images == "test":
            return NO_SERVER
        if paper not in self.plan.papers:
            return f"paper {paper} is not among those configured"
        of_objects = STAGES[self.stage].makes == "instances"
        if of_objects and not has_objects(self.plan.dataset(dataset)):
            return f"data set {dataset} has no masks of objects"
        return None

    def metrics(self, images: str) -> list[str]:
        """List the metrics files, one per seed."""
        dataset = self.plan.dataset(self.run.dataset)
        found = []
        for seed in dataset["seeds"]:
            path = self.plan.metrics(self.run, seed, self.stage, images)
            found.append(path)
        return found

    def chosen(self) -> str | None:
        """Name the epochs among which the classifier behind this result was selected on masks.

        None if the last epoch was kept.
        """
        config = self.plan.resolve(self.run)
        if "train" not in sections(self.stage, config):
            return None
        train = config["train"]
        if train["select"] == "last":
            return None
        last = train["epochs"]
        first = train["select_from"] + 1
        looked_at = {last}
        looked_at.update(range(first, last, train["select_every"]))
        numbers = ", ".join(map(str, sorted(looked_at)))
        return f"epochs {numbers} of {last}"

    def not_comparable(self) -> str | None:
        """Say why this cannot be compared with the reported result: other images, or other settings than released."""
        dataset = self.run.dataset
        if not self.plan.dataset(dataset).get("published"):
            return f"data set {dataset}, backbone {self._network()}"
        changed = self.plan.departures(self.run)
        if changed:
            return f"other settings than the paper's: {counted(changed)}"
        return None

    def _network(self) -> str:
        """Name the network that makes this."""
        config = self.plan.resolve(self.run)
        section = config["deeplab"] if self.stage == "predict" else config
        return str(section["backbone"]["name"])


def companion(plan: Plan, dataset: str, spec: Raw) -> tuple[str, str | None]:
    """Find the data set that a cell or figure is about, and what is in the way, if something is.

    It is ``dataset``, or its companion: another data set, which ``companions`` of ``dataset`` lists under the name that
    the cell or figure gives.
    """
    role = spec.get("companion")
    if role is None:
        return dataset, None
    companions = plan.dataset(dataset).get("companions", {})
    if role not in companions:
        return dataset, f"no {role} data set beside {dataset}"
    beside = companions[role]
    return beside, plan.absent(beside)


def with_metrics(plan: Plan, dataset: str, paper: str, cell: Raw) -> Raw:
    """Give a cell the metrics files of its run, one per seed, or the reason why it has none.

    Args:
        plan: the plan.
        dataset: the data set that the table is made for.
        paper: the paper that the cell is in.
        cell: the settings of the cell.
    """
    if not cell.get("run"):
        return cell
    measured, missing = companion(plan, dataset, cell)
    run = Run(measured, *papers.owner_of(cell["run"], paper))
    result = Result(plan, run, cell["stage"])
    missing = missing or result.missing(cell["images"])
    if missing:
        return {**cell, "missing": missing}
    found = dict(cell)
    found["run"] = run.word
    found["dataset"] = measured
    found["metrics"] = result.metrics(cell["images"])
    if why := result.not_comparable():
        found["not_comparable"] = why
    if epochs := result.chosen():
        found["chosen"] = epochs
    return found
