"""The plan: which runs there are, which folder holds each stage of them, and which files feed which."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from wsss.errors import WsssError, choose
from wsss.files import digest, read_yaml
from wsss.plan import checks, papers, stages
from wsss.plan.resolve import PACKAGE, REFERENCE, resolve

# code that decides a stage's result; an edit elsewhere does not make it stale
CODE = {
    "train": ("backbones", "data", "devices.py", "methods", "schedule.py", "train.py"),
    "seed": ("backbones", "data", "devices.py", "methods", "localize.py", "stores.py"),
    "crf": ("data", "refine/__init__.py", "refine/crf.py", "stores.py"),
    "affinity": ("backbones", "data", "refine", "devices.py", "schedule.py", "stores.py", "train.py"),
    "walk": ("backbones", "data", "devices.py", "refine", "stores.py"),
    "irn_labels": ("data", "refine", "stores.py"),
    "irnet": ("backbones", "data", "refine", "devices.py", "schedule.py", "stores.py", "train.py"),
    "irn": ("backbones", "data", "devices.py", "refine", "stores.py"),
    "irn_instances": ("backbones", "data", "devices.py", "refine", "stores.py"),
    "deeplab": ("backbones", "data", "segment", "devices.py", "schedule.py", "stores.py", "train.py"),
    "segment": ("backbones", "data", "devices.py", "segment", "refine/crf.py", "stores.py"),
    "metrics": ("data", "measure", "stores.py"),
    "submission": ("data", "segment/submission.py", "stores.py"),
    "report": (
        "backbones",
        "data",
        "localize.py",
        "methods",
        "plan/drawings.py",
        "plan/state.py",
        "report",
        "stores.py",
    ),
    "data": ("data", "stores.py"),
}


PAPERS = PACKAGE.parent / "papers"
PRETRAINING = ("pretraining", "classifier")  # in place of paper and run: where trainings on a data set may start


class Plan:
    """Everything the rules and the command line need to know about one configuration."""

    def __init__(self, config: dict, paper_folder: str | Path = PAPERS):
        self.config = config
        self.results = Path(config["results"])
        self.papers = papers.load(config["papers"], paper_folder)
        self._order = [(paper, run) for paper, spec in self.papers.items() for run in spec["runs"]]

    # ---- runs and their configuration

    def dataset(self, name: str) -> dict:
        return choose(self.config["datasets"], name, "data set")

    @functools.cache  # noqa: B019  a plan lives as long as the process
    def resolve(self, dataset: str, paper: str, run: str) -> dict:
        """The run's complete configuration; references to runs name their paper and, if to itself, the run."""
        about = self.dataset(dataset)
        own = (f"datasets.{dataset}.runs.{paper}/{run}", about.get("runs", {}).get(f"{paper}/{run}"))
        every = ("overrides", self.config.get("overrides"))
        config = resolve(dataset, about, *self._run(dataset, paper, run), own, every)
        if (paper, run) == PRETRAINING:
            config["backbone"]["weights"] = None
        return replace_references(config, lambda owner, other: f"{REFERENCE}{owner or paper}/{other or run}")

    def _runs(self, dataset: str) -> list[tuple[str, str]]:
        """(paper, run) of all that can be trained on a data set, in the order of their declaration."""
        own = [PRETRAINING] if "pretraining" in self.dataset(dataset) else []
        return own + self._order

    def _run(self, dataset: str, paper: str, run: str) -> tuple[dict, str]:
        """What is said of a run, and where."""
        if (paper, run) == PRETRAINING and "pretraining" in self.dataset(dataset):
            return self.dataset(dataset)["pretraining"], f"config.yaml, datasets.{dataset}.pretraining"
        return choose(choose(self.papers, paper, "paper")["runs"], run, f"run of {paper}"), f"{paper}.yaml, run {run}"

    def departures(self, dataset: str, paper: str, run: str) -> list[str]:
        """Settings that the data set's entry or the command line change in a run, as their keys.

        Files of weights and numbers of processes decide no comparison.
        """
        spec = {"methods": self.dataset(dataset).get("methods", {})}
        published = resolve(dataset, spec, *self._run(dataset, paper, run))
        theirs, ours = dict(_leaves(published)), dict(_leaves(self.resolve(dataset, paper, run)))
        changed = (key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
        return [key for key in changed if key.rpartition(".")[2] not in ("weights", "workers")]

    def check(self, dataset: str) -> None:
        """Resolve every run, on companions as well: a wrong key or name is found before anything is computed."""
        if absent := self.absent(dataset):
            raise WsssError(absent)
        others = {path.stem: path for path in PAPERS.glob("*.yaml") if path.stem not in self.papers}
        specs = self.papers | {paper: read_yaml(path) or {} for paper, path in others.items()}
        for name in (dataset, *self.dataset(dataset).get("companions", {}).values()):
            checks.check_dataset(name, self.dataset(name), self.config.get("overrides", {}), specs)
            for paper, run in self._runs(name):
                checks.check_training(self.resolve(name, paper, run), f"{paper}/{run} on data set {name}")

    def absent(self, dataset: str) -> str | None:
        """Why there are no images of a data set: nobody has said where they are."""
        spec = self.dataset(dataset)
        if spec["builder"] in ("shapes", "voc") or spec["options"].get("root"):  # drawn, or downloaded
            return None
        return f"no folder of {dataset} is given (config.yaml, datasets.{dataset}.options.root)"

    def stage_config(self, dataset: str, paper: str, run: str, seed: int, stage: str) -> dict:
        """The sections that determine ``stage``, as written beside its results."""
        if stage == "metrics":
            return self.measure_config(dataset, paper, run, seed)
        config = self.resolve(dataset, paper, run)
        names = stages.sections(stage, config)

        def model(owner: str, other: str) -> str:
            return str(self.home(dataset, owner, other, seed, "train") / "model.pt")

        return {
            "dataset": {"name": dataset, "splits": self.dataset(dataset)["splits"]},
            "seed": int(seed),
            **replace_references({name: config[name] for name in names}, model),
        }

    @functools.cache  # noqa: B019
    def _key(self, dataset: str, paper: str, run: str, stage: str, extra: tuple[str, ...]) -> str:
        """Digest of what determines a stage; a model of another run counts by what determines it."""
        config = self.resolve(dataset, paper, run)
        content = {name: config[name] for name in (*stages.sections(stage, config), *extra)}
        known = replace_references(content, lambda owner, other: self._key(dataset, owner, other, "train", ()))
        return digest(json.dumps(known, sort_keys=True))

    @functools.cache  # noqa: B019
    def owner(self, dataset: str, paper: str, run: str, stage: str, *extra: str) -> tuple[str, str]:
        """The first declared run with the same configuration of ``stage`` (and ``extra``): its folder is shared."""
        key = self._key(dataset, paper, run, stage, extra)
        return next(pr for pr in self._runs(dataset) if self._key(dataset, *pr, stage, extra) == key)

    # ---- paths

    def home(self, dataset: str, paper: str, run: str, seed: int | str, stage: str) -> Path:
        """The folder of one stage of a run."""
        paper, run = self.owner(dataset, paper, run, stage)
        return self.results / dataset / paper / run / f"seed{seed}" / stage

    def data_config(self, dataset: str) -> dict:
        """What the index is built from. Without a folder of the user's own, VOC comes from the download."""
        spec = self.dataset(dataset)
        options = dict(spec["options"])
        if spec["builder"] == "voc" and options.get("root") is None:
            options["root"] = str(self.results / "downloads" / "voc12")
        return {"name": dataset, "builder": spec["builder"], **options}

    def test_options(self, dataset: str) -> dict:
        """What the data set says of its images without public masks."""
        spec = self.dataset(dataset)
        if "test" not in spec:
            raise WsssError(f"config.yaml, datasets.{dataset}: names no test images; give it test: {{root: <folder>}}")
        return spec["test"]

    def test_config(self, dataset: str) -> dict:
        """What the index of the test images is built from: one apart, so that adding them makes nothing stale."""
        options, voc = self.test_options(dataset), self.dataset(dataset)["builder"] == "voc"
        unknown = dict.fromkeys(("masks", "instances", "labels") if voc else ("masks",))
        config = {**self.data_config(dataset), **unknown, "lists": {"test": "test.txt"}, **options}
        return {**config, "root": config["root"] or str(self.results / "downloads" / "voc2012-test")}

    def data_source(self, dataset: str, test: bool = False) -> list[str]:
        """Marker of the download that the data set (or its test images) needs, if it needs one."""
        spec = self.dataset(dataset)
        options = {"root": ".", **self.test_options(dataset)} if test else spec["options"]
        needed = spec["builder"] == "voc" and options.get("root") is None
        name = "voc2012-test" if test else "voc12"
        return [str(self.results / "downloads" / name / ".complete")] if needed else []

    def data(self, dataset: str, part: str | None = None) -> Path:
        """The folder of the index: that of the test images for the part ``test``."""
        return self.results / dataset / "data" / ("test" if part == "test" else "")

    def submissions(self) -> list[tuple[str, str]]:
        """(paper, run) of every result on test images that a table reports; the VOC server measures them."""
        found = {
            papers.owner_of(cell["run"], paper)
            for paper, spec in self.papers.items()
            for name in spec["tables"]
            for _, cells in papers.rows(spec, name)
            for cell in cells
            if cell.get("run") and cell["split"] == "test"
        }
        return sorted((paper, run) for paper, run in found if paper in self.papers)

    def parts(self, dataset: str, *roles: str) -> list[str]:
        """The disjoint parts that make up the images of ``roles``; ``train`` is ``seed`` and, if any, ``rest``."""
        splits = self.dataset(dataset)["splits"]
        whole_train = ["seed"] if splits["train"] == splits["seed"] else ["seed", "rest"]
        return [part for role in roles for part in (whole_train if role == "train" else [role])]

    def shards(self, home: Path, stage: str, dataset: str, *roles: str) -> list[str]:
        """The shard files of a stage that cover the images of ``roles``."""
        suffix = "zip" if stages.result_kind(stage) == "masks" else "npz"
        n = self.config["shards"]
        return [f"{home}/{part}-{i}-of-{n}.{suffix}" for part in self.parts(dataset, *roles) for i in range(n)]

    def learnt_from(self, dataset: str, paper: str, run: str, seed: int, stage: str) -> list[str]:
        """The shards that a network behind the classifier is trained on.

        None for a DeepLab on ground truth, nor where official weights are read instead.
        """
        config = self.resolve(dataset, paper, run)
        source = {"affinity": "crf", "irnet": "irn_labels", "deeplab": config["segment"]["labels"]}.get(stage)
        if source in (None, "ground_truth") or stages.official_weights(stage, config):
            return []
        return self.shards(self.home(dataset, paper, run, seed, source), source, dataset, "train")

    def references(self, dataset: str, paper: str, run: str, seed: int, stage: str) -> list[str]:
        """Models of other runs, and weight files, that a training reads."""
        return stages.weights_read(stage, self.stage_config(dataset, paper, run, seed, stage))

    def metrics(self, dataset: str, paper: str, run: str, seed: int, stage: str, split: str | None = None) -> str:
        """The metrics file of a stage's result on the images of a role."""
        choose(dict.fromkeys(stages.MEASURED), stage, "measured stage")
        paper, run = self.owner(dataset, paper, run, stage, "measure")
        folder = self.results / dataset / paper / run / f"seed{seed}"
        return str(folder / "metrics" / f"{stage}_{split or stages.default_split(stage)}.json")

    def measure_config(self, dataset: str, paper: str, run: str, seed: int) -> dict:
        splits = self.dataset(dataset)["splits"]
        measure = self.resolve(dataset, paper, run)["measure"]
        return {"dataset": {"name": dataset, "splits": splits}, "seed": int(seed), "measure": measure}

    # ---- code

    def code(self, stage: str) -> str:
        """SHA-256 over the sources that decide a stage's result: a content trigger that no clone or touch changes."""
        files = (p for name in CODE[stage] for p in _sources(PACKAGE / name))
        return digest("".join(f"{p.relative_to(PACKAGE)} {digest(p.read_text())}\n" for p in files))


def _sources(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.suffix in (".py", ".yaml")) if path.is_dir() else [path]


def _leaves(value, key: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of everything in nested mappings."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def replace_references(value, replacement: Callable[[str, str], str]):
    """``value`` with every ``run:<paper>/<run>`` in it replaced by ``replacement(paper, run)``; both may be empty."""
    if isinstance(value, dict):
        return {k: replace_references(v, replacement) for k, v in value.items()}
    if isinstance(value, str) and value.startswith(REFERENCE):
        owner, _, run = value.removeprefix(REFERENCE).rpartition("/")
        return replacement(owner, run)
    return value
