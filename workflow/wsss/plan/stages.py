"""The stages of a run: which sections of its configuration determine each, and which stage feeds which."""

from __future__ import annotations

from wsss.errors import WsssError

# stage -> sections that determine its result, beside data set and seed
TRAIN = ("backbone", "method", "train")
SEED = (*TRAIN, "localize")
CRF = (*SEED, "crf")
AFFINITY = (*CRF, "affinity")
WALK = (*AFFINITY, "walk")
IRN = (*SEED, "irn")

CLOSURE = {
    "train": TRAIN,
    "seed": SEED,
    "crf": CRF,
    "affinity": AFFINITY,
    "walk": WALK,
    "irn_labels": IRN,
    "irnet": IRN,
    "irn": IRN,
    "irn_instances": IRN,
}

TRAININGS = {"train": ("train",), "affinity": ("affinity", "train"), "irnet": ("irn", "train")}  # with official weights

LABELS = ("walk", "irn", "ground_truth")  # what DeepLab can be trained on
SCORES = ("seed", "crf")  # stages whose result is class scores; the others' are label maps
DRAWN = ("seed", "crf", "walk", "irn", "segment")  # what figures show
MEASURED = (*DRAWN, "irn_instances")


def sections(stage: str, config: dict) -> tuple[str, ...]:
    """The configuration sections that determine ``stage``. For DeepLab that depends on the labels it is trained on."""
    if stage in CLOSURE:
        return CLOSURE[stage]
    labels = config["segment"]["labels"]
    if labels not in LABELS:
        raise WsssError(f"segment.labels: unknown '{labels}': choose one of {', '.join(LABELS)}")
    trained_on = () if labels == "ground_truth" else CLOSURE[labels]
    return {"deeplab": (*trained_on, "segment"), "segment": (*trained_on, "segment", "predict")}[stage]


def official_weights(stage: str, config: dict) -> str | None:
    """The file of the authors' trained weights that ``stage`` reads instead of training, if one is configured."""
    for key in TRAININGS.get(stage, ()):
        config = config[key]
    return config["weights"] if stage in TRAININGS else None


def initialised(stage: str, config: dict) -> dict:
    """The part of a training's settings that may name weights which it starts from."""
    if stage != "affinity":
        return {key: config[key] for key in {"train": TRAIN, "irnet": ("irn",), "deeplab": ("segment",)}[stage]}
    own = config["affinity"]["backbone"] or {}
    return {"backbone": own if own.get("name") or own.get("weights") else config["backbone"]}


def weights_read(stage: str, config: dict) -> list[str]:
    """Weight files that a training reads: official ones, which make all others needless, or those it starts from."""
    if official := official_weights(stage, config):
        return [official]
    found = []

    def collect(value, key: str) -> None:
        if isinstance(value, dict):
            for k, v in value.items():
                collect(v, k)
        elif key == "weights" and isinstance(value, str):
            found.append(value)

    collect(initialised(stage, config), "")
    return sorted(set(found))


def result_kind(stage: str) -> str:
    """What a stage's shards hold: ``scores``, ``masks`` or ``instances``."""
    return "instances" if stage == "irn_instances" else "scores" if stage in SCORES else "masks"


def default_split(stage: str) -> str:
    """Pseudo labels are measured on images they are made for, the trained DeepLab on images it has not seen."""
    return "val" if stage == "segment" else "seed"
