"""The plan: which runs there are, which folder holds each stage of them, and which files feed which."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wsss import stages
from wsss.errors import WsssError, choose
from wsss.files import INSTALLED, digest
from wsss.plan import datasets, papers
from wsss.plan.check_dataset import check_dataset
from wsss.plan.code import stage_code
from wsss.plan.layers import Layer, Raw
from wsss.plan.references import REFERENCE, replace_references
from wsss.plan.resolve import PACKAGE, method_of, paper_layer, resolve
from wsss.plan.sizes import Counts, sizes
from wsss.plan.written import read

PAPERS = PACKAGE.parent / "papers"
PRETRAINING = ("pretraining", "classifier")  # in place of paper and run: where trainings on a data set may start
OLD_FOLDERS = ("seed", "metrics", "segment", "irnet", "irn", "irn_labels")  # of stages, before these had their names


class Plan:
    """Everything the rules and the command line need to know about one configuration.

    Args:
        config: the configuration, as ``config.yaml`` has it.
        paper_folder: the folder of the paper files.
        files: the files that the configuration comes from; errors name their lines.
    """

    def __init__(self, config: Raw, paper_folder: str | Path = PAPERS, files: Sequence[str | Path] = ()):
        self.config = config
        self.results = Path(config["results"])
        self.paper_folder = Path(paper_folder)
        self.papers = papers.load(config["papers"], paper_folder)
        self._files = tuple(map(Path, files))
        self._order: list[tuple[str, str]] = []
        for paper, spec in self.papers.items():
            self._order += [(paper, run) for run in spec["runs"]]

    # ---- runs and their settings

    def dataset(self, name: str) -> Raw:
        """Return a data set's entry in the configuration."""
        return dict(choose(self.config["datasets"], name, "data set"))

    @functools.cache  # noqa: B019  a plan lives as long as the process
    def resolve(self, dataset: str, paper: str, run: str) -> Raw:
        """Resolve all settings of a run. References name the paper and the run they mean, also the run itself."""
        spec = self.dataset(dataset)
        said, layer = self._run(dataset, paper, run)
        method = method_of(said)
        layers = [*self._before(dataset, method), layer, *self._after(dataset, paper, run)]
        config = resolve(method, layers, spec.get("pixels", 1.0), spec.get("stand_ins"))
        if (paper, run) == PRETRAINING:
            config = {**config, "backbone": {**config["backbone"], "weights": None}}
        return dict(replace_references(config, lambda owner, other: f"{REFERENCE}{owner or paper}/{other or run}"))

    def _before(self, dataset: str, method: str) -> list[Layer]:
        """List the layers below a paper: the data set's word on all runs, and that on the runs of a method."""
        spec, keys = self.dataset(dataset), ("datasets", dataset)
        of_method = spec.get("methods", {}).get(method)
        return [
            self._layer(spec.get("overrides"), *keys, "overrides"),
            self._layer(of_method, *keys, "methods", method),
        ]

    def _after(self, dataset: str, paper: str, run: str) -> list[Layer]:
        """List the layers over a paper: the data set's word on the run, and the configuration's on every run."""
        own = self.dataset(dataset).get("runs", {}).get(f"{paper}/{run}")
        layers = [
            self._layer(own, "datasets", dataset, "runs", f"{paper}/{run}"),
            self._layer(self.config.get("overrides"), "overrides"),
        ]
        for layer in layers:
            method = (layer.says or {}).get("method") or {}
            if isinstance(method, str) or "name" in method:
                raise layer.wrong(("method",), "names a method: which one a run has is said by its paper alone")
        return layers

    def _layer(self, says: Raw | None, *keys: str) -> Layer:
        return Layer(f"configuration, {'.'.join(keys)}", says, self._files, keys)

    def _runs(self, dataset: str) -> list[tuple[str, str]]:
        """List (paper, run) of all that can be trained on a data set, in the order of their declaration."""
        own = [PRETRAINING] if "pretraining" in self.dataset(dataset) else []
        return own + self._order

    def _run(self, dataset: str, paper: str, run: str) -> tuple[Raw, Layer]:
        """Return the entry of a run, and the layer of settings that it is."""
        if (paper, run) == PRETRAINING and "pretraining" in self.dataset(dataset):
            keys = ("datasets", dataset, "pretraining")
            said = self.dataset(dataset)["pretraining"]
            layer = paper_layer(f"config.yaml, {'.'.join(keys)}", said, None, keys)
            return said, Layer(layer.name, layer.says, self._files, keys)
        said = choose(choose(self.papers, paper, "paper")["runs"], run, f"run of {paper}")
        return said, paper_layer(f"{paper}.yaml, run {run}", said, self.paper_folder / f"{paper}.yaml", ("runs", run))

    @functools.cache  # noqa: B019
    def departures(self, dataset: str, paper: str, run: str) -> list[str]:
        """List the settings that the data set's entry or the command line change in a run, as dotted keys.

        Files of weights decide no comparison.
        """
        said, layer = self._run(dataset, paper, run)
        method = method_of(said)
        published = resolve(method, [self._before(dataset, method)[1], layer])
        theirs = dict(_leaves(published))
        ours = dict(_leaves(self.resolve(dataset, paper, run)))
        both = [*theirs, *(key for key in ours if key not in theirs)]
        compared = [key for key in both if key.rpartition(".")[2] != "weights"]
        return [key for key in compared if theirs.get(key) != ours.get(key)]

    def check(self, dataset: str) -> None:
        """Resolve every run, on companions as well, so that a fault is found before anything is computed.

        Raises:
            WsssError: the first finding.
        """
        if why := self.absent(dataset):
            raise WsssError(why)
        self._refuse_old_results()
        others = [path for path in PAPERS.glob("*.yaml") if path.stem not in self.papers]
        specs = self.papers | {path.stem: read(path) or {} for path in others}
        companions = self.dataset(dataset).get("companions", {})
        for name in (dataset, *companions.values()):
            check_dataset(name, self.dataset(name), self.config.get("overrides", {}), specs)
            for paper, run in self._runs(name):
                self.resolve(name, paper, run)

    def _refuse_old_results(self) -> None:
        """Refuse results from the time when stages had other names: they must not be mistaken for anything."""
        for folder in OLD_FOLDERS:
            for found in self.results.glob(f"*/*/*/seed*/{folder}"):
                raise WsssError(
                    f"{found}: made by an earlier version, whose stages had other names; "
                    f"move {self.results} away, or set 'results' to another folder"
                )

    def absent(self, dataset: str) -> str | None:
        """Return the reason why there are no images of a data set."""
        return datasets.absent(dataset, self.dataset(dataset))

    def stage_config(self, dataset: str, paper: str, run: str, seed: int | str, stage: str) -> Raw:
        """Collect everything that decides a stage's result: its settings and the digest of its code.

        It is written beside the result. Where it differs from what is written there, the result is stale.
        """
        config = self.resolve(dataset, paper, run)
        names = STAGE_ALONE[stage] if stage in STAGE_ALONE else stages.sections(stage, config)

        def model(owner: str, other: str) -> str:
            return str(self.home(dataset, owner, other, seed, "train") / "model.pt")

        own = replace_references({name: config[name] for name in names}, model)
        return {
            "stage": stage,
            "code": stage_code(stage, own),
            "dataset": {"name": dataset, "splits": self.dataset(dataset)["splits"]},
            "seed": int(seed),
            **own,
        }

    @functools.cache  # noqa: B019
    def _key(self, dataset: str, paper: str, run: str, stage: str, extra: tuple[str, ...]) -> str:
        """Return digest a stage's settings. A model of another run counts by its own settings."""
        config = self.resolve(dataset, paper, run)
        names = [*stages.sections(stage, config), *extra]
        content = {name: config[name] for name in names}

        def key(owner: str, other: str) -> str:
            return self._key(dataset, owner, other, "train", ())

        known = replace_references(content, key)
        return digest(json.dumps(known, sort_keys=True))

    @functools.cache  # noqa: B019
    def owner(self, dataset: str, paper: str, run: str, stage: str, *extra: str) -> tuple[str, str]:
        """Find the first declared run with the same settings of ``stage`` (and ``extra``). Its folder is shared."""
        key = self._key(dataset, paper, run, stage, extra)
        same = (pair for pair in self._runs(dataset) if self._key(dataset, *pair, stage, extra) == key)
        return next(same)

    # ---- paths

    @functools.cache  # noqa: B019
    def home(self, dataset: str, paper: str, run: str, seed: int | str, stage: str) -> Path:
        """Return the folder of one stage of a run."""
        paper, run = self.owner(dataset, paper, run, stage)
        return self.results / dataset / paper / run / f"seed{seed}" / stage

    def data(self, dataset: str, part: str | None = None) -> Path:
        """Return the folder of the index: that of the test images for the part ``test``."""
        return self.results / dataset / "data" / ("test" if part == "test" else "")

    def sizes(self, dataset: str) -> Counts:
        """Count the images of each part of a data set, as far as they are known."""
        return sizes(self.dataset(dataset), self.data(dataset) / "index.csv")

    def data_config(self, dataset: str) -> Raw:
        """Return the settings of a data set's index."""
        return datasets.index_config(dataset, self.dataset(dataset), self.results)

    def test_options(self, dataset: str) -> Raw:
        """Read the data set's options of its images without public masks."""
        return datasets.test_options(dataset, self.dataset(dataset))

    def test_config(self, dataset: str) -> Raw:
        """Return the settings of the index of the test images."""
        return datasets.test_config(dataset, self.dataset(dataset), self.results)

    def data_source(self, dataset: str, test: bool = False) -> list[str]:
        """Return the marker of the download that the data set (or its test images) needs, if it needs one."""
        return datasets.source(dataset, self.dataset(dataset), self.results, test)

    def parts(self, dataset: str, *roles: str) -> list[str]:
        """Return the disjoint parts that make up the images of ``roles``."""
        return datasets.parts(self.dataset(dataset), *roles)

    def shards(self, home: Path | str, stage: str, dataset: str, *roles: str) -> list[str]:
        """List the shard files of a stage that cover the images of ``roles``."""
        suffix, files = stages.SUFFIXES[stages.STAGES[stage].makes], []
        for part in self.parts(dataset, *roles):
            n = self._number_of_shards(Path(home), stage, part)
            files += [f"{home}/{part}-{i}-of-{n}.{suffix}" for i in range(n)]
        return files

    def _number_of_shards(self, home: Path, stage: str, part: str) -> int:
        """Count the shards of a stage's result for one part of the images.

        Shards that are there stay, also when the configured number has changed: it decides no result.
        """
        if found := shards_there(home, part):
            return found
        source = stages.STAGES[stage].shard_of
        if source is None:
            return self._wanted_shards(home.relative_to(self.results).parts[0], part)
        dataset, paper, run, seed = home.relative_to(self.results).parts[:4]
        read = self.home(dataset, paper, run, seed.removeprefix("seed"), source)
        return self._number_of_shards(read, source, part)

    def _wanted_shards(self, dataset: str, part: str) -> int:
        """Return the configured number of shards; fewer where they would hold fewer images than is configured."""
        most, least = int(self.config["shards"]), self.config.get("shard_images")
        if most == 1 or not least or part not in (known := self.sizes(dataset)):
            return most
        return min(most, max(1, math.ceil(known[part] / int(least))))

    def learnt_from(self, dataset: str, paper: str, run: str, seed: int | str, stage: str) -> list[str]:
        """List the shards that a network behind the classifier is trained on.

        There are none for a DeepLab on ground truth, nor where official weights are read instead.
        """
        config = self.resolve(dataset, paper, run)
        source = stages.learns_from(stage, config)
        if source is None or stages.official_weights(stage, config):
            return []
        return self.shards(self.home(dataset, paper, run, seed, source), source, dataset, "train")

    @functools.cache  # noqa: B019
    def references(self, dataset: str, paper: str, run: str, seed: int | str, stage: str) -> list[str]:
        """List the models of other runs and the weight files that a training reads, without those of packages."""
        read = stages.weights_read(stage, self.stage_config(dataset, paper, run, seed, stage))
        return [path for path in read if not path.startswith(INSTALLED)]

    def metrics(
        self, dataset: str, paper: str, run: str, seed: int | str, stage: str, images: str | None = None
    ) -> str:
        """Return the metrics file of a stage's result on the images of a role."""
        choose(dict.fromkeys(stages.MEASURED), stage, "measured stage")
        paper, run = self.owner(dataset, paper, run, stage, "measure")
        folder = self.results / dataset / paper / run / f"seed{seed}" / "measure"
        return str(folder / f"{stage}_{images or stages.default_images(stage)}.json")

    def submissions(self) -> list[tuple[str, str]]:
        """List (paper, run) of every result on test images that a table reports; the VOC server measures them."""
        found = set()
        for paper, cell in self._cells():
            if cell["images"] == "test":
                found.add(papers.owner_of(cell["run"], paper))
        return sorted((paper, run) for paper, run in found if paper in self.papers)

    def _cells(self) -> Iterator[tuple[str, Raw]]:
        """Yield (paper, cell) of every cell of a table that has a run."""
        for paper, spec in self.papers.items():
            for name in spec["tables"]:
                for _, cells in papers.rows(spec, name):
                    yield from ((paper, cell) for cell in cells if cell.get("run"))


# stages that depend on no other stage's settings: of what they read, the content counts
STAGE_ALONE = {"measure": ["measure"], "submission": []}


def shards_there(home: Path, part: str) -> int:
    """Count the shards of a part in a folder, if all of them are there; else 0."""
    first = min(home.glob(f"{part}-0-of-*.[nz][pi][zp]"), default=None)
    if first is None:
        return 0
    n = int(first.stem.rpartition("-")[2])
    whole = all((home / f"{part}-{i}-of-{n}{first.suffix}").is_file() for i in range(n))
    return n if whole else 0


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in nested mappings."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
