"""The runs of a configuration: which there are on a data set, and the settings of each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsss.errors import choose
from wsss.plan.layers import Layer, Raw
from wsss.plan.references import REFERENCE, replace_references
from wsss.plan.resolve import method_of, paper_layer, resolve

PRETRAINING = ("pretraining", "classifier")  # in place of paper and run: where trainings on a data set may start


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

    def __init__(self, config: Raw, papers: dict[str, Raw], paper_folder: Path, files: tuple[Path, ...]):
        self.config = config
        self.papers = papers
        self.paper_folder = paper_folder
        self.files = files

    def dataset(self, name: str) -> Raw:
        """Return a data set's entry in the configuration."""
        return dict(choose(self.config["datasets"], name, "data set"))

    def on(self, dataset: str) -> list[Run]:
        """List all runs that can be trained on a data set, in the order of their declaration."""
        found = []
        if "pretraining" in self.dataset(dataset):
            found.append(Run(dataset, *PRETRAINING))
        for paper, spec in self.papers.items():
            found += [Run(dataset, paper, name) for name in spec["runs"]]
        return found

    def splits(self, run: Run) -> dict[str, str]:
        """Return role -> split of the index, as a run has it: pretraining may have training images of its own."""
        spec = self.dataset(run.dataset)
        found = dict(spec["splits"])
        if self._is_own(run):
            found["train"] = spec["pretraining"].get("images") or found["train"]
        return found

    # ---- settings

    @functools.cache  # noqa: B019  runs live as long as the process
    def resolve(self, run: Run) -> Raw:
        """Resolve all settings of a run. References name the paper and the run they mean, also the run itself."""
        spec = self.dataset(run.dataset)
        pixels, networks = spec.get("pixels", 1.0), spec.get("stand_ins")
        config = resolve(self._method(run), self._layers(run), pixels, networks)
        if run.is_pretraining:
            config = {**config, "backbone": {**config["backbone"], "weights": None}}

        def in_full(paper: str, name: str) -> str:
            return f"{REFERENCE}{paper or run.paper}/{name or run.name}"

        return dict(replace_references(config, in_full))

    @functools.cache  # noqa: B019
    def departures(self, run: Run) -> list[str]:
        """List the settings that the data set's entry or the command line change in a run, as dotted keys.

        Files of weights decide no comparison.
        """
        method = self._method(run)
        published = resolve(method, [self._of_method(run, method), self._of_paper(run)])
        theirs = dict(_leaves(published))
        ours = dict(_leaves(self.resolve(run)))
        found = []
        for key in theirs | ours:
            if theirs.get(key) != ours.get(key) and not _names_weights(key):
                found.append(key)
        return found

    # ---- who says what of a run

    def _layers(self, run: Run) -> list[Layer]:
        """List what is said of a run beyond the package's own settings, the weakest first."""
        return [
            self._layer(self.dataset(run.dataset).get("overrides"), "datasets", run.dataset, "overrides"),
            self._of_method(run, self._method(run)),
            self._of_paper(run),
            self._of_dataset(run),
            _without_method(self._layer(self.config.get("overrides"), "overrides")),
        ]

    def _of_method(self, run: Run, method: str) -> Layer:
        """Return what the data set says of all runs of a method."""
        said = self.dataset(run.dataset).get("methods", {})
        return self._layer(said.get(method), "datasets", run.dataset, "methods", method)

    def _of_paper(self, run: Run) -> Layer:
        """Return what the paper, or the data set of its own classifier, says of a run."""
        entry = self._entry(run)
        if self._is_own(run):
            keys = ("datasets", run.dataset, "pretraining")
            layer = paper_layer(f"config.yaml, {'.'.join(keys)}", entry, None, keys)
            return dataclasses.replace(layer, files=self.files)
        file = self.paper_folder / f"{run.paper}.yaml"
        return paper_layer(f"{run.paper}.yaml, run {run.name}", entry, file, ("runs", run.name))

    def _of_dataset(self, run: Run) -> Layer:
        """Return what the data set says of this run."""
        said = self.dataset(run.dataset).get("runs", {})
        layer = self._layer(said.get(run.word), "datasets", run.dataset, "runs", run.word)
        return _without_method(layer)

    def _layer(self, says: Raw | None, *keys: str) -> Layer:
        """Make the layer of what the configuration says at ``keys``."""
        name = f"configuration, {'.'.join(keys)}"
        return Layer(name, says, self.files, keys)

    def _entry(self, run: Run) -> Raw:
        """Return the entry of a run in its paper file or, of the data set's own classifier, in the configuration."""
        if self._is_own(run):
            found = dict(self.dataset(run.dataset)["pretraining"])
            found.pop("images", None)
            return found
        known = choose(self.papers, run.paper, "paper")["runs"]
        return dict(choose(known, run.name, f"run of {run.paper}"))

    def _method(self, run: Run) -> str:
        """Return the name of a run's method."""
        return method_of(self._entry(run))

    def _is_own(self, run: Run) -> bool:
        """Tell whether a run is the data set's own classifier, and there is one."""
        return run.is_pretraining and "pretraining" in self.dataset(run.dataset)


def _without_method(layer: Layer) -> Layer:
    """Return the layer; refuse one that names a method."""
    method = (layer.says or {}).get("method") or {}
    if isinstance(method, str) or "name" in method:
        raise layer.wrong(("method",), "names a method: only the paper says which one a run has, so leave it out")
    return layer


def _names_weights(key: str) -> bool:
    """Tell whether a dotted key is that of a file of weights."""
    return key.rpartition(".")[2] == "weights"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in nested mappings."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
