"""The plan: which folder holds each stage of a run, and which files feed which."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from wsss import stages
from wsss.errors import WsssError, choose
from wsss.files import INSTALLED, digest
from wsss.plan import datasets, papers
from wsss.plan.check_dataset import check_dataset
from wsss.plan.code import stage_code
from wsss.plan.layers import Raw
from wsss.plan.references import replace_references
from wsss.plan.resolve import PACKAGE
from wsss.plan.runs import Run, Runs
from wsss.plan.shards import shards_there
from wsss.plan.sizes import Counts, sizes
from wsss.plan.written import read
from wsss.stages import STAGES

__all__ = ["PAPERS", "Plan", "Run"]

PAPERS = PACKAGE.parent / "papers"
OLD_FOLDERS = ("seed", "metrics", "segment", "irnet", "irn", "irn_labels")  # of stages, before these had their names
# stage -> the only sections in its folder's config.yaml; other settings show in the files that the stage reads
STAGE_ALONE = {"measure": ["measure"], "submission": []}


class Plan:
    """Everything the rules and the command line need to know about one configuration.

    Most methods are asked about a stage of a run, in the same words:

    * ``run``: the run, which knows its data set, its paper and its name in the paper's file;
    * ``seed``: the random seed, a number or its digits;
    * ``stage``: the stage.

    Args:
        config: the configuration, as ``config.yaml`` has it.
        paper_folder: the folder of the paper files.
        files: the files that the configuration comes from; errors name their lines.
    """

    def __init__(
        self,
        config: Raw,
        paper_folder: str | Path = PAPERS,
        files: Sequence[str | Path] = (),
    ):
        self.config = config
        self.results = Path(config["results"])
        self.paper_folder = Path(paper_folder)
        self.papers = papers.load(config["papers"], paper_folder)
        said_in = tuple(map(Path, files))
        self.runs = Runs(config, self.papers, self.paper_folder, said_in)

    # ---- settings

    def resolve(self, run: Run) -> Raw:
        """Resolve all settings of a run, in which every reference to a run is written out with paper and name."""
        return self.runs.resolve(run)

    def departures(self, run: Run) -> list[str]:
        """List the settings that the data set's entry or the command line change in a run, as dotted keys."""
        return self.runs.departures(run)

    def stage_config(self, run: Run, seed: int | str, stage: str) -> Raw:
        """Collect everything that decides a stage's result: its settings and the digest of its code.

        It is written beside the result. Where it differs from what is written there, the result is stale.
        """
        found = self._stage_config(run, int(seed), stage)
        return dict(found)

    @functools.cache  # noqa: B019  a plan lives as long as the process
    def _stage_config(self, run: Run, seed: int, stage: str) -> Raw:
        """Collect what decides a stage's result once for all who ask."""

        def model(paper: str, name: str) -> str:
            other = run.beside(paper, name)
            return str(self.model(other, self._seed_beside(other, seed)))

        settings = self._sections_of(run, stage)
        own = replace_references(settings, model)
        return {
            "stage": stage,
            "code": stage_code(stage, own),
            "dataset": {
                "name": run.dataset,
                "splits": self.runs.splits(run),
            },
            "seed": seed,
            **own,
        }

    def _seed_beside(self, other: Run, seed: int) -> int:
        """Return the seed with which a run reads another one: the same, or the pretraining's first seed."""
        return int(self.dataset(other.dataset)["seeds"][0]) if other.is_pretraining else seed

    def _sections_of(self, run: Run, stage: str) -> Raw:
        """Return the settings of a run that are written beside the result of a stage."""
        config = self.runs.resolve(run)
        if stage in STAGE_ALONE:
            return _picked(config, STAGE_ALONE[stage])
        return _picked(config, stages.sections(stage, config))

    # ---- checks

    def check(self, dataset: str) -> None:
        """Resolve every run, on companions as well, so that a fault is found before anything is computed.

        Raises:
            WsssError: the first finding.
        """
        if why := self.absent(dataset):
            raise WsssError(why)
        self._refuse_file_of_results()
        self._refuse_old_results()
        specs = self._all_papers()
        overrides = self.config.get("overrides", {})
        companions = self.dataset(dataset).get("companions", {})
        for name in (dataset, *companions.values()):
            spec = self.dataset(name)
            check_dataset(name, spec, overrides, specs, self.runs.files)
            for run in self.runs.on(name):
                self.runs.resolve(run)
                self.runs.refuse_circle(run)

    def _all_papers(self) -> dict[str, Raw]:
        """Return all paper files, the configured ones first."""
        found = dict(self.papers)
        for path in PAPERS.glob("*.yaml"):
            if path.stem not in found:
                found[path.stem] = read(path) or {}
        return found

    def _refuse_file_of_results(self) -> None:
        """Refuse a folder of results that cannot be made, since it or a folder above it is a file."""
        for folder in (self.results, *self.results.parents):
            if folder.is_dir():
                return
            if folder.exists():
                raise WsssError(f"results: {folder} is a file; set 'results' to a folder, which need not be there yet")

    def _refuse_old_results(self) -> None:
        """Refuse results from the time when stages had other names: they must not be mistaken for anything."""
        for folder in OLD_FOLDERS:
            old = self.results.glob(f"*/*/*/seed*/{folder}")
            for found in old:
                raise WsssError(
                    f"{found}: made by an earlier version, whose stages had other names; "
                    f"move {self.results} away, or set 'results' to another folder"
                )

    # ---- data sets

    def dataset(self, name: str) -> Raw:
        """Return a data set's entry in the configuration."""
        return self.runs.dataset(name)

    def absent(self, dataset: str) -> str | None:
        """Return the reason why there are no images of a data set."""
        spec = self.dataset(dataset)
        return datasets.absent(dataset, spec)

    def sizes(self, dataset: str) -> Counts:
        """Count the images of each part of a data set, as far as they are known."""
        index = self.data(dataset) / "index.csv"
        return sizes(self.dataset(dataset), index)

    @functools.cache  # noqa: B019  a plan lives as long as the process
    def data(self, dataset: str, part: str | None = None) -> Path:
        """Return the folder of the index: that of the test images for the part ``test``."""
        folder = self.results / dataset / "data"
        return folder / "test" if part == "test" else folder

    def data_config(self, dataset: str) -> Raw:
        """Return the settings of a data set's index."""
        spec = self.dataset(dataset)
        return datasets.index_config(dataset, spec, self.results)

    def test_options(self, dataset: str) -> Raw:
        """Read the data set's options of its images without public masks."""
        spec = self.dataset(dataset)
        return datasets.test_options(dataset, spec)

    def test_config(self, dataset: str) -> Raw:
        """Return the settings of the index of the test images."""
        spec = self.dataset(dataset)
        return datasets.test_config(dataset, spec, self.results)

    def data_source(self, dataset: str, test: bool = False) -> list[str]:
        """Return the marker of the download that the data set (or its test images) needs, if it needs one."""
        spec = self.dataset(dataset)
        return datasets.source(dataset, spec, self.results, test)

    def parts(self, dataset: str, *roles: str) -> list[str]:
        """Return the disjoint parts that make up the images of ``roles``."""
        spec = self.dataset(dataset)
        return datasets.parts(spec, *roles)

    # ---- folders

    @functools.cache  # noqa: B019
    def folder(self, run: Run, seed: int | str) -> Path:
        """Return the folder of a run with a seed."""
        of_paper = self.results / run.dataset / run.paper
        return of_paper / run.name / f"seed{seed}"

    @functools.cache  # noqa: B019  a plan lives as long as the process
    def home(self, run: Run, seed: int | str, stage: str) -> Path:
        """Return the folder of one stage of a run. Runs that share its settings share its folder."""
        owner = self.owner(run, stage)
        return self.folder(owner, seed) / stage

    def model(self, run: Run, seed: int | str, stage: str = "train") -> Path:
        """Return the network that a stage of a run trains; by default its classifier."""
        return self.home(run, seed, stage) / "model.pt"

    def metrics(
        self,
        run: Run,
        seed: int | str,
        stage: str,
        images: str | None = None,
    ) -> str:
        """Return the metrics file of a stage's result.

        Args:
            run: the run.
            seed: the random seed.
            stage: the stage, one whose results are measured.
            images: the role of the images; by default the one that the stage is usually measured on.
        """
        choose(dict.fromkeys(stages.MEASURED), stage, "measured stage")
        owner = self.owner(run, stage, "measure")
        role = images or stages.default_images(stage)
        folder = self.folder(owner, seed) / "measure"
        return str(folder / f"{stage}_{role}.json")

    @functools.cache  # noqa: B019
    def owner(self, run: Run, stage: str, *extra: str) -> Run:
        """Find the first declared run with the same images and settings of ``stage`` (and ``extra``).

        Its folder is shared.
        """
        key = self._key(run, stage, extra)
        for other in self.runs.on(run.dataset):
            if self._key(other, stage, extra) == key:
                return other
        raise AssertionError(f"{run.word} is not declared")

    @functools.cache  # noqa: B019
    def _key(self, run: Run, stage: str, extra: tuple[str, ...]) -> str:
        """Return the digest of a stage's splits and settings. A model of another run counts by its own settings."""
        config = self.runs.resolve(run)
        splits = self.runs.splits(run)
        sections = {*stages.sections(stage, config), *extra}
        known = [json.dumps(splits, sort_keys=True)]
        for name in sorted(sections):
            known.append(self._section_key(run, name))
        return digest("\n".join(known))

    @functools.cache  # noqa: B019
    def _section_key(self, run: Run, section: str) -> str:
        """Write a section of a run's settings as a text, once for all stages of the run that have it."""

        def key(paper: str, name: str) -> str:
            other = run.beside(paper, name)
            return self._key(other, "train", ())

        settings = self.runs.resolve(run)[section]
        known = replace_references(settings, key)
        return json.dumps({section: known}, sort_keys=True)

    # ---- what stages read

    def learnt_from(self, run: Run, seed: int | str, stage: str) -> list[str]:
        """List the shards that a network after the classifier is trained on.

        There are none for a DeepLab on ground truth, nor where official weights are read instead.
        """
        config = self.resolve(run)
        source = stages.learns_from(stage, config)
        if source is None:
            return []
        if stages.official_weights(stage, config):
            return []
        home = self.home(run, seed, source)
        return self.shards(home, source, run.dataset, "train")

    @functools.cache  # noqa: B019
    def references(self, run: Run, seed: int | str, stage: str) -> list[str]:
        """List the models of other runs and the weight files that a training reads, without those of packages."""
        config = self.stage_config(run, seed, stage)
        read_by_it = stages.weights_read(stage, config)
        return [path for path in read_by_it if not path.startswith(INSTALLED)]

    def shards(
        self,
        home: Path | str,
        stage: str,
        dataset: str,
        *roles: str,
    ) -> list[str]:
        """List the shard files of a stage that cover the images of ``roles``.

        Args:
            home: the folder of the stage.
            stage: the stage.
            dataset: the data set.
            roles: the roles of images.
        """
        suffix = stages.SUFFIXES[STAGES[stage].makes]
        files = []
        for part in self.parts(dataset, *roles):
            n = self._number_of_shards(Path(home), stage, part)
            for i in range(n):
                files.append(f"{home}/{part}-{i}-of-{n}.{suffix}")
        return files

    def _number_of_shards(self, home: Path, stage: str, part: str) -> int:
        """Count the shards of a stage's result for one part of the images.

        Shards that are there stay, also when the configured number has changed: it decides no result.
        """
        if found := shards_there(home, part):
            return found
        run, seed = self._run_of(home)
        source = STAGES[stage].shard_of
        if source is None:
            return self._wanted_shards(run.dataset, part)
        read_by_it = self.home(run, seed, source)
        return self._number_of_shards(read_by_it, source, part)

    def _run_of(self, home: Path) -> tuple[Run, str]:
        """Return the run and the seed that the folder of a stage belongs to."""
        place = home.relative_to(self.results)
        dataset, paper, name, folder, *_ = place.parts
        seed = folder.removeprefix("seed")
        return Run(dataset, paper, name), seed

    def _wanted_shards(self, dataset: str, part: str) -> int:
        """Return the configured number of shards; fewer where each would hold fewer images than ``shard_images``."""
        most = int(self.config["shards"])
        least = self.config.get("shard_images")
        if most == 1 or not least:
            return most
        images = self.sizes(dataset).get(part)
        if images is None:
            return most
        full = math.ceil(images / int(least))
        return min(most, max(1, full))

    # ---- the VOC server

    def submissions(self) -> list[tuple[str, str]]:
        """List (paper, run) of every result on test images that a table reports; the VOC server measures them."""
        found = set()
        for paper, cell in self._cells_with_runs():
            if cell["images"] != "test":
                continue
            owner, run = papers.owner_of(cell["run"], paper)
            if owner in self.papers:
                found.add((owner, run))
        return sorted(found)

    def _cells_with_runs(self) -> Iterator[tuple[str, Raw]]:
        """Yield (paper, cell) of every cell of a table that has a run."""
        for paper, spec in self.papers.items():
            for cell in papers.cells(spec):
                if cell.get("run"):
                    yield paper, cell


def _picked(config: Raw, sections: Iterable[str]) -> Raw:
    """Return some sections of the settings."""
    return {name: config[name] for name in sections}
