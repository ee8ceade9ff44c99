"""Declare the section of each stage. The YAML files hold the values and say what a key means.

At run time a section is a plain mapping. Its type is checked before anything runs (``wsss.settings.check``).
"""

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from wsss.settings.base import (
    Backbone,
    BackboneOptions,
    Below1,
    Exponents,
    FactorRange,
    File,
    Jitter,
    Names,
    Network,
    NonNegative,
    NonNegativeInt,
    Pair,
    PixelRange,
    Pixels,
    Positive,
    PositiveInt,
    Precision,
    Probability,
    Scales,
    Section,
    Share,
    Thresholds,
    rule,
)

# ---- networks


class OwnBackbone(BackboneOptions):
    """AffinityNet's network. Null is the value of the run's backbone."""

    name: Network | None
    weights: File | None
    output_stride: PositiveInt | None
    dropout: Below1 | Pair | None
    freeze: Names | None
    freeze_norm: bool | Literal["statistics"] | None


# ---- trainings


class Optimizer(Section):
    """SGD with a poly schedule."""

    lr: Positive
    momentum: Below1
    weight_decay: NonNegative
    poly_power: NonNegative
    poly_epochs: Positive | None


class Loop(Section):
    """The options of the one training loop."""

    weights: File | None
    start: File | None
    epochs: PositiveInt
    steps: PositiveInt | None
    batch_size: (
        PositiveInt | Annotated[dict[NonNegativeInt, PositiveInt], rule("a mapping from epochs to such numbers")]
    )
    drop_last: bool
    accumulate: PositiveInt
    precision: Precision
    may_skip: Probability
    optimizer: Optimizer


class ClassifierTrain(Loop):
    """A classifier's training."""

    view: Literal["long_side", "resized_crop"]
    crop: Pixels
    long_side: PixelRange | None
    by_factor: bool
    flip: Probability
    jitter: Jitter | Literal[False] | None
    jitter_p: Probability
    select: Literal["last", "best"]
    select_every: PositiveInt
    select_from: NonNegativeInt


class AffinityTrain(Loop):
    """AffinityNet's training."""

    crop: Pixels
    flip: Probability
    jitter: Jitter | Literal[False] | None


class IrnLoop(Loop):
    """IRNet's training."""

    crop: Pixels
    scale: FactorRange | Literal[False] | None
    flip: Probability


class DeepLabTrain(Loop):
    """A DeepLab's training."""

    crop: Pixels
    antialias: bool
    scale: FactorRange | Literal[False] | None
    long_side: PixelRange | Literal[False] | None
    flip: Probability
    jitter: Jitter | Literal[False] | None
    jitter_p: Probability


# ---- scores


class Cam(Section):
    """Class maps of images."""

    scales: Scales
    flip: bool
    round_up: Pixels | None
    relu: Literal["before", "after", "sum", "none"]
    normalise: Literal["max", "minmax", "floor", "range"]
    precision: Precision
    attention: NotRequired[Literal["cam", "gradcam", "gradcam++"]]  # of method cam
    tap: NotRequired[Literal["conv3", "conv4", "conv5", "conv6"]]  # of method cam
    norm: NotRequired[Literal["running", "image"]]  # of method eader


class Gaussian(Section):
    """The CRF's kernel of positions."""

    sxy: Positive
    compat: NonNegative


class Bilateral(Section):
    """The CRF's kernel of positions and colours."""

    sxy: Positive
    srgb: Positive
    compat: NonNegative


class DenseCrf(Section):
    """A parameter set of the dense CRF."""

    gaussian: Gaussian
    bilateral: Bilateral
    iterations: NonNegativeInt


class Crf(DenseCrf):
    """The dense CRF on scores."""

    alphas: Exponents


class Pamr(Section):
    """Pixel-adaptive mask refinement of scores."""

    alphas: Exponents
    iterations: NonNegativeInt
    dilations: Annotated[list[PositiveInt], rule("a list of whole numbers of 1 or more", min_length=1)]


# ---- pseudo masks


class Affinity(Section):
    """AffinityNet and its training."""

    low_alpha: NonNegative
    high_alpha: NonNegative
    radius: PositiveInt
    dropout_until: NonNegativeInt | None
    backbone: OwnBackbone
    train: AffinityTrain


class Walk(Section):
    """The random walk over AffinityNet's affinities."""

    alpha: NonNegative
    beta: Positive
    log_steps: NonNegativeInt
    crf: bool


class MarksCrf(DenseCrf):
    """The dense CRF that smooths IRNet's marks."""

    gt_prob: Share


class IrnMarks(Section):
    """The marks that IRNet learns from."""

    fg_threshold: Probability
    bg_threshold: Probability
    crf: MarksCrf


class IrnTrain(Section):
    """IRNet and its training."""

    backbone: Backbone
    radius: PositiveInt
    dp_lr_scale: NonNegative
    train: IrnLoop


class Propagation(Section):
    """The walk of scores up to IRNet's boundaries."""

    radius: PositiveInt
    beta: Positive
    log_steps: NonNegativeInt
    score_power: Positive
    background: Probability


class IrnWalk(Propagation):
    """Pseudo masks by IRNet."""


class IrnInstances(Propagation):
    """Instances by IRNet."""

    centroid_steps: NonNegativeInt
    centroid_strength: Positive


# ---- segmentation


class Loss(Section):
    """The loss of a DeepLab."""

    balanced: bool
    scales: Annotated[list[Positive], rule("a list of numbers above 0")]
    align_corners: bool
    at: Literal["image", "logits"]


class DeepLab(Section):
    """A DeepLab and its training, completed by its preset."""

    labels: Literal["walk", "irn_walk", "ground_truth"]
    model: Literal["largefov_aeft", "largefov_seam", "largefov_vgg16", "deeplab_v2", "deeplab_v3plus"]
    backbone: Backbone
    norm_momentum: Share
    train_norms: bool
    new_lr: NonNegative
    loss: Loss
    train: DeepLabTrain


class Predict(Section):
    """Label maps by a trained DeepLab."""

    scales: Scales
    antialias: bool
    flip: bool
    fusion: Literal["softmax", "logits", "max"]
    multi_scale: Literal["image", "pass", False]
    crf: DenseCrf
    precision: Precision


class Measure(Section):
    """The comparison with ground truth."""

    thresholds: Thresholds
    sweep: Thresholds
    fixed: Probability
    floor: bool
    absent: Literal["zero", "skip"]


# ---- all of them


class DatasetSettings(Section):
    """The data set that a stage works on: its name, and which split has which role."""

    name: str
    splits: dict[str, str]


class Sections(TypedDict, total=False):
    """All sections of a run."""

    backbone: Backbone
    method: Any  # the class Settings... of the method's own file
    train: ClassifierTrain
    cam: Cam
    crf: Crf
    pamr: Pamr
    affinity: Affinity
    walk: Walk
    irn_marks: IrnMarks
    irn_train: IrnTrain
    irn_walk: IrnWalk
    irn_instances: IrnInstances
    deeplab: DeepLab
    predict: Predict
    measure: Measure


class Settings(Sections, total=False):
    """The resolved settings of a stage: the sections that determine it, and what else does."""

    seed: NonNegativeInt
    stage: str
    code: str  # digest of the code that computes it
    dataset: DatasetSettings
