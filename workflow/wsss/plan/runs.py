"""The runs of a configuration: which there are on a data set, and the settings of each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsss.errors import WsssError, choose
from wsss.plan.layers import Layer, Raw
from wsss.plan.references import REFERENCE, replace_references
from wsss.plan.resolve import method_of, paper_layer, resolve
from wsss.stages import STAGES

# paper and run of a data set's own classifier, from which its other trainings may start
PRETRAINING = ("pretraining", "classifier")


class Run(NamedTuple):
    """A run on a data set."""

    dataset: str
    paper: str
    name: str

    @property
    def word(self) -> str:
        """The name that the configuration has for it: ``<paper>/<run>``."""
        return f"{self.paper}/{self.name}"

    def beside(self, paper: str, name: str) -> Run:
        """Return another run on the same data set."""
        return Run(self.dataset, paper, name)

    @property
    def is_pretraining(self) -> bool:
        """It is the data set's own classifier, from which others start."""
        return (self.paper, self.name) == PRETRAINING


class Runs:
    """The runs of all configured papers on all data sets.

    Args:
        config: the configuration.
        papers: the paper files, by name.
        paper_folder: the folder that they are in.
        files: the files that the configuration comes from; errors name their lines.
    """

    def __init__(
        self,
        config: Raw,
        papers: dict[str, Raw],
        paper_folder: Path,
        files: tuple[Path, ...],
    ):
        self.config = config
        self.papers = papers
        self.paper_folder = paper_folder
        self.files = files

    def dataset(self, name: str) -> Raw:
        """Return a data set's entry in the configuration."""
        entry = choose(self.config["datasets"], name, "data set")
        return dict(entry)

    def on(self, dataset: str) -> list[Run]:
        """List all runs that can be trained on a data set, in the order of their declaration."""
        found = []
        if "pretraining" in self.dataset(dataset):
            own = Run(dataset, *PRETRAINING)
            found.append(own)
        for paper, spec in self.papers.items():
            for name in spec["runs"]:
                run = Run(dataset, paper, name)
                found.append(run)
        return found

    def splits(self, run: Run) -> dict[str, str]:
        """Return role -> split of the index, as a run has it: pretraining may have training images of its own."""
        spec = self.dataset(run.dataset)
        found = dict(spec["splits"])
        if self._is_own(run):
            images = spec["pretraining"].get("images")
            found["train"] = images or found["train"]
        return found

    def refuse_circle(self, run: Run, before: tuple[Run, ...] = ()) -> None:
        """Refuse a classifier that starts from itself, at once or by way of others.

        Args:
            run: the run.
            before: the runs that start from it, each from the next.

        Raises:
            WsssError: names the runs of the circle.
        """
        if run in before:
            circle = [*before[before.index(run) :], run]
            way = " starts from ".join(each.word for each in circle)
            raise WsssError(f"data set '{run.dataset}': {way}; give one of them other weights, or null")
        for other in self._starts(run):
            self.refuse_circle(other, (*before, run))

    @functools.cache  # noqa: B019  runs live as long as the process
    def _starts(self, run: Run) -> list[Run]:
        """List the runs from whose classifiers a run's own classifier starts."""
        found = []

        def note(paper: str, name: str) -> str:
            found.append(run.beside(paper, name))
            return ""

        config = self.resolve(run)
        replace_references({name: config[name] for name in STAGES["train"].sections}, note)
        return found

    # ---- settings

    @functools.cache  # noqa: B019
    def resolve(self, run: Run) -> Raw:
        """Resolve all settings of a run, in which every reference to a run is written out with paper and name."""
        spec = self.dataset(run.dataset)
        config = resolve(
            self._method(run),
            self._layers(run),
            spec.get("pixels", 1.0),
            spec.get("stand_ins"),
        )
        if run.is_pretraining:
            config = _from_scratch(config)
        return _with_full_references(run, config)

    @functools.cache  # noqa: B019
    def departures(self, run: Run) -> list[str]:
        """List the settings that the data set's entry or the command line change in a run, as dotted keys.

        What the entry gives for the run's method counts as the paper's.

        Settings that name files of weights are left out: they make no result incomparable.
        """
        theirs = dict(_leaves(self._published(run)))
        ours = dict(_leaves(self.resolve(run)))
        found = []
        for key in theirs | ours:
            if _names_weights(key):
                continue
            if theirs.get(key) != ours.get(key):
                found.append(key)
        return found

    def _published(self, run: Run) -> Raw:
        """Resolve the settings of a run as its paper has them, with those that the data set gives for its method."""
        method = self._method(run)
        layers = [
            self._of_method(run, method),
            self._of_paper(run),
        ]
        config = resolve(method, layers)
        return _with_full_references(run, config)

    # ---- who says what of a run

    def _layers(self, run: Run) -> list[Layer]:
        """List what is said of a run beyond the package's own settings, the weakest first."""
        return [
            self._of_all_runs(run.dataset),
            self._of_method(run, self._method(run)),
            self._of_paper(run),
            self._of_dataset(run),
            self._of_command_line(),
        ]

    def _of_all_runs(self, dataset: str) -> Layer:
        """Return what the data set says of all runs."""
        says = self.dataset(dataset).get("overrides")
        return self._layer(says, "datasets", dataset, "overrides")

    def _of_command_line(self) -> Layer:
        """Return what the configuration, often by the command line, says of all runs on all data sets."""
        says = self.config.get("overrides")
        layer = self._layer(says, "overrides")
        return _without_method(layer)

    def _of_method(self, run: Run, method: str) -> Layer:
        """Return what the data set says of all runs of a method."""
        said = self.dataset(run.dataset).get("methods", {})
        says = said.get(method)
        return self._layer(says, "datasets", run.dataset, "methods", method)

    def _of_paper(self, run: Run) -> Layer:
        """Return what a paper says of its run, or what a data set says of its own classifier."""
        entry = self._entry(run)
        if self._is_own(run):
            return self._of_pretraining(run, entry)
        file = self.paper_folder / f"{run.paper}.yaml"
        name = f"{file.name}, run {run.name}"
        keys = ("runs", run.name)
        return paper_layer(name, entry, file, keys)

    def _of_pretraining(self, run: Run, entry: Raw) -> Layer:
        """Return what the data set says of its own classifier."""
        keys = ("datasets", run.dataset, "pretraining")
        place = ".".join(keys)
        layer = paper_layer(f"config.yaml, {place}", entry, None, keys)
        return dataclasses.replace(layer, files=self.files)

    def _of_dataset(self, run: Run) -> Layer:
        """Return what the data set says of this run."""
        said = self.dataset(run.dataset).get("runs", {})
        says = said.get(run.word)
        layer = self._layer(says, "datasets", run.dataset, "runs", run.word)
        return _without_method(layer)

    def _layer(self, says: Raw | None, *keys: str) -> Layer:
        """Make the layer of what the configuration says at ``keys``."""
        place = ".".join(keys)
        return Layer(f"configuration, {place}", says, self.files, keys)

    def _entry(self, run: Run) -> Raw:
        """Return the entry of a run in its paper file or, of the data set's own classifier, in the configuration."""
        if self._is_own(run):
            found = dict(self.dataset(run.dataset)["pretraining"])
            found.pop("images", None)
            return found
        paper = choose(self.papers, run.paper, "paper")
        entry = choose(paper["runs"], run.name, f"run of {run.paper}")
        return dict(entry)

    def _method(self, run: Run) -> str:
        """Return the name of a run's method."""
        entry = self._entry(run)
        return method_of(entry)

    def _is_own(self, run: Run) -> bool:
        """Tell whether a run is the data set's own classifier, and there is one."""
        if not run.is_pretraining:
            return False
        return "pretraining" in self.dataset(run.dataset)


def _with_full_references(run: Run, config: Raw) -> Raw:
    """Return the settings of a run with every reference to a run, even to itself, written out with paper and name."""

    def in_full(paper: str, name: str) -> str:
        other = run.beside(paper or run.paper, name or run.name)
        return REFERENCE + other.word

    named = replace_references(config, in_full)
    return dict(named)


def _from_scratch(config: Raw) -> Raw:
    """Return settings under which the classifier's backbone starts without weights."""
    backbone = {**config["backbone"], "weights": None}
    return {**config, "backbone": backbone}


def _without_method(layer: Layer) -> Layer:
    """Return the layer; refuse one that names a method."""
    says = layer.says or {}
    method = says.get("method") or {}
    if isinstance(method, str) or "name" in method:
        message = "names a method: only the paper says which one a run has, so leave it out"
        raise layer.wrong(("method",), message)
    return layer


def _names_weights(key: str) -> bool:
    """Tell whether a dotted key is that of a file of weights."""
    last = key.split(".")[-1]
    return last == "weights"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in nested mappings."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        below = f"{key}.{name}" if key else str(name)
        yield from _leaves(inner, below)
