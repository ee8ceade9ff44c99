"""The stages of a run, one row each. Everything that lists stages derives from these rows.

The rows follow the flow of the data: no stage reads what a later one wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from wsss.errors import WsssError
from wsss.registry import Registry

Kind = Literal["index", "model", "scores", "masks", "instances", "archive", "metrics"]
SUFFIXES = {"scores": "npz", "masks": "zip", "instances": "npz"}  # of shard files
GROUND_TRUTH = "ground_truth"  # the name of what a network may learn from in place of a stage's results


@dataclass(frozen=True)
class Stage:
    """One row: what a stage reads and makes, and what it is called.

    Args:
        function: the entry point, ``module:function``. The digest of the stage's code starts here.
        makes: kind of result.
        sections: the sections of settings that are the stage's own.
        shard_of: the stage whose shard of the same images it reads.
        model_of: the stage whose ``model.pt`` it reads.
        learns_from: the stage on whose results for all training images it is trained, or the setting that names that
            stage, such as ``deeplab.labels``.
        help: what ``wsss --help`` and ``snakemake --list`` say of it.
        one, many: words for its jobs, as ``wsss cost`` prints them.
        result: words for its result, as the report page prints them.
        network: the job calls a network, on the GPU where there is one.
        processes: the job works in several processes, or the setting that says so, such as ``walk.crf``.
        measured: it can be compared with ground truth.
        drawn: figures can show it.
    """

    function: str
    makes: Kind
    sections: tuple[str, ...] = ()
    shard_of: str | None = None
    model_of: str | None = None
    learns_from: str | None = None
    help: str = ""
    one: str = ""
    many: str = ""
    result: str = ""
    network: bool = False
    processes: bool | str = False
    measured: bool = False
    drawn: bool = False

    @property
    def trains(self) -> bool:
        """The result is a trained network."""
        return self.makes == "model"

    @property
    def in_shards(self) -> bool:
        """The result is stored in shards of images."""
        return self.makes in SUFFIXES


STAGES: Registry[Stage] = {
    "index": Stage(
        function="wsss.data:build",
        makes="index",
    ),
    "train": Stage(
        function="wsss.methods.stage:train",
        makes="model",
        sections=("backbone", "method", "train"),
        help="Train a method's networks on image-level labels.",
        one="training",
        many="trainings",
        result="classifier",
        network=True,
    ),
    "cam": Stage(
        function="wsss.cam:cam",
        makes="scores",
        sections=("cam",),
        model_of="train",
        help="Compute class maps of images with a trained classifier.",
        one="localization",
        many="localizations",
        result="class maps",
        network=True,
        measured=True,
        drawn=True,
    ),
    "crf": Stage(
        function="wsss.refine.crf:crf",
        makes="scores",
        sections=("crf",),
        shard_of="cam",
        help="Refine class maps with a dense CRF, once per background exponent.",
        one="dense CRF",
        many="dense CRFs",
        result="dense CRF",
        processes=True,
        measured=True,
        drawn=True,
    ),
    "pamr": Stage(
        function="wsss.refine.pamr:pamr",
        makes="scores",
        sections=("pamr",),
        shard_of="cam",
        help="Refine class maps with PAMR, once per background exponent.",
        one="pixel-adaptive refinement",
        many="pixel-adaptive refinements",
        result="pixel-adaptive refinement",
        network=True,
        measured=True,
        drawn=True,
    ),
    "affinity": Stage(
        function="wsss.refine.affinity:affinity",
        makes="model",
        sections=("affinity",),
        learns_from="crf",
        help="Train AffinityNet on the confident areas of the CRF results.",
        one="AffinityNet",
        many="AffinityNets",
        result="AffinityNet",
        network=True,
    ),
    "walk": Stage(
        function="wsss.refine.walk:walk",
        makes="masks",
        sections=("walk",),
        shard_of="cam",
        model_of="affinity",
        help="Turn class maps into pseudo masks by a random walk over AffinityNet's affinities.",
        one="random walk",
        many="random walks",
        result="AffinityNet's random walk",
        network=True,
        processes="walk.crf",
        measured=True,
        drawn=True,
    ),
    "irn_marks": Stage(
        function="wsss.refine.irn_marks:irn_marks",
        makes="masks",
        sections=("irn_marks",),
        shard_of="cam",
        help="Mark confident foreground and background for IRNet.",
        one="set of marks for IRNet",
        many="sets of marks for IRNet",
        result="marks for IRNet",
        processes=True,
    ),
    "irn_train": Stage(
        function="wsss.refine.irn_train:irn_train",
        makes="model",
        sections=("irn_train",),
        learns_from="irn_marks",
        help="Train IRNet's boundary and displacement branches on the marks of irn_marks.",
        one="IRNet",
        many="IRNets",
        result="IRNet",
        network=True,
    ),
    "irn_walk": Stage(
        function="wsss.refine.irn_walk:irn_walk",
        makes="masks",
        sections=("irn_walk",),
        shard_of="cam",
        model_of="irn_train",
        help="Turn class maps into pseudo masks by a random walk up to IRNet's boundaries.",
        one="IRNet walk",
        many="IRNet walks",
        result="IRNet's random walk",
        network=True,
        measured=True,
        drawn=True,
    ),
    "irn_instances": Stage(
        function="wsss.refine.irn_instances:irn_instances",
        makes="instances",
        sections=("irn_instances",),
        shard_of="cam",
        model_of="irn_train",
        help="Find instances: groups of areas whose displacements lead to the same centroid.",
        one="set of instance labels",
        many="sets of instance labels",
        result="IRNet's objects",
        network=True,
        measured=True,
    ),
    "deeplab": Stage(
        function="wsss.segment.deeplab:deeplab",
        makes="model",
        sections=("deeplab",),
        learns_from="deeplab.labels",
        help="Train a DeepLab on pseudo masks, or on ground truth for the upper bound.",
        one="DeepLab",
        many="DeepLabs",
        result="DeepLab",
        network=True,
    ),
    "predict": Stage(
        function="wsss.segment.predict:predict",
        makes="masks",
        sections=("predict",),
        model_of="deeplab",
        help="Segment images with a trained DeepLab.",
        one="prediction",
        many="predictions",
        result="segmentation network",
        network=True,
        processes="predict.crf.iterations",
        measured=True,
        drawn=True,
    ),
    "submission": Stage(
        function="wsss.segment.submission:submission",
        makes="archive",
        one="archive",
        many="archives",
    ),
    "measure": Stage(
        function="wsss.measure.stage:measure",
        makes="metrics",
        sections=("measure",),
        one="measurement",
        many="measurements",
    ),
}

TRAINED = tuple(name for name, stage in STAGES.items() if stage.trains)
IN_SHARDS = tuple(name for name, stage in STAGES.items() if stage.in_shards)
MEASURED = tuple(name for name, stage in STAGES.items() if stage.measured)
DRAWN = tuple(name for name, stage in STAGES.items() if stage.drawn)
WITH_SCORES = tuple(name for name, stage in STAGES.items() if stage.makes == "scores")
LABELS = tuple(name for name in DRAWN if STAGES[name].makes == "masks" and STAGES[name].shard_of)
CHOSEN_BY = ("cam", "measure")  # the sections that choose an epoch
SECTIONS = tuple(section for stage in STAGES.values() for section in stage.sections)


def setting(settings: Any, key: str) -> Any:
    """Return the value at a dotted key of nested settings."""
    for name in key.split("."):
        settings = settings[name]
    return settings


def learns_from(name: str, settings: Any) -> str | None:
    """Find the stage on whose results a network is trained; None for one that learns from ground truth or labels."""
    source = STAGES[name].learns_from
    if source is None or "." not in source:
        return source
    chosen = setting(settings, source)
    if chosen == GROUND_TRUTH:
        return None
    if chosen not in LABELS:
        raise WsssError(f"{source}: unknown '{chosen}': choose one of {', '.join((*LABELS, GROUND_TRUTH))}")
    return str(chosen)


def kind_learnt_from(stage: Stage) -> str | None:
    """Return the kind of results that a network is trained on; None for a classifier, which learns from labels."""
    if stage.learns_from is None:
        return None
    return "masks" if "." in stage.learns_from else STAGES[stage.learns_from].makes


def below(name: str, settings: Any) -> list[str]:
    """Return the stages that a stage reads directly."""
    stage = STAGES[name]
    return [source for source in (stage.shard_of, stage.model_of, learns_from(name, settings)) if source]


def sections(name: str, settings: Any) -> list[str]:
    """Return the sections that determine a stage's result: those of all stages below it and its own, each once."""
    found: dict[str, None] = {}
    for source in below(name, settings):
        found |= dict.fromkeys(sections(source, settings))
    return list(found | dict.fromkeys(STAGES[name].sections) | dict.fromkeys(_deciding(name, settings)))


def _deciding(name: str, settings: Any) -> tuple[str, ...]:
    """Return further sections: those that make and measure the class maps by which a training's epoch is chosen."""
    return CHOSEN_BY if name == "train" and settings["train"].get("select") == "best" else ()


def training(name: str, settings: Any) -> Any:
    """Return the options of the training loop that a stage runs."""
    section = settings[STAGES[name].sections[-1]]
    return section if name == "train" else section["train"]


def official_weights(name: str, settings: Any) -> str | None:
    """Return the file of the authors' trained weights that a stage reads instead of training, if one is configured."""
    return training(name, settings)["weights"] if STAGES[name].trains else None


def initialised(name: str, settings: Any) -> dict[str, Any]:
    """Return the part of a training's settings that may name weights which it starts from."""
    if name != "affinity":
        return {section: settings[section] for section in STAGES[name].sections}
    own = settings["affinity"]["backbone"]
    return {"backbone": own if own["name"] or own["weights"] else settings["backbone"]}


def weights_read(name: str, settings: Any) -> list[str]:
    """Return the weight files that a training reads, sorted.

    Official weights of the whole network make all others needless.
    """
    if official := official_weights(name, settings):
        return [official]
    found: set[str] = set()

    def collect(value: Any) -> None:
        for key, inner in value.items() if isinstance(value, dict) else ():
            if key in ("weights", "start") and isinstance(inner, str):
                found.add(inner)
            collect(inner)

    collect(initialised(name, settings))
    return sorted(found)


def as_markdown() -> str:
    """Write the rows as a table: name, sections, what a stage reads and makes, and its function."""
    lines = ["| stage | sections | reads | makes | function |", "| --- | --- | --- | --- | --- |"]
    for name, stage in STAGES.items():
        reads = [stage.shard_of, stage.model_of, stage.learns_from]
        own, sources = _quoted(stage.sections), _quoted(reads)
        lines.append(f"| `{name}` | {own} | {sources} | {stage.makes} | `{stage.function}` |")
    return "\n".join(lines)


def _quoted(words: Iterable[str | None]) -> str:
    """List words as code, or a dash if there is none."""
    return ", ".join(f"`{word}`" for word in words if word) or "-"


def default_images(name: str) -> str:
    """Return the part of the images (``measured`` or ``val``) on which a stage is measured where a paper does not say.

    Pseudo labels are measured on images they are made for, a trained DeepLab on images it has not seen.
    """
    return "val" if name == "predict" else "measured"
