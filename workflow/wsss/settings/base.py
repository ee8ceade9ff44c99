"""The building blocks of sections of settings: mappings with known keys, and numbers with a range.

A description completes the sentence "give ..." in messages, and it is shown by editors.
"""

import functools
import importlib.util
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

Number = TypeVar("Number", int, float)


@with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Section(TypedDict):
    """The base of all sections. An unknown key is an error, and a boolean is no number."""


def rule(description: str, **bounds: Any) -> Any:
    """Annotate a type with the values that it takes.

    Args:
        description: completes "give ...".
        bounds: of numbers ``ge``, ``gt``, ``le`` and ``lt``, of lists ``min_length`` and ``max_length``, of texts
            ``pattern``.
    """
    return Field(description=description, **bounds)


def _ascending(values: list[Number]) -> list[Number]:
    if any(before > after for before, after in pairwise(values)):
        raise ValueError("not ascending")
    return values


def _range(values: list[float]) -> list[float]:
    start, stop, step = values
    if not (0 <= start < stop and step > 0):
        raise ValueError("no range")
    return values


def _hue(values: list[float]) -> list[float]:
    if values[-1] > 0.5:
        raise ValueError("more than half a turn")
    return values


def _known_to_timm(name: str) -> str:
    """Refuse a network that timm lacks. Otherwise the training that uses it would, which may be days later."""
    family, _, variant = name.partition(":")
    if variant and variant.partition(".")[0] not in timm_networks():
        raise ValueError(f"no network of {family}")
    return name


@functools.cache
def timm_networks() -> set[str]:
    """Return the names of timm's networks without their tags, the outdated ones, too.

    They are read from timm's files: importing timm takes seconds, and every job checks all settings.
    """
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    files = sorted(Path(spec.origin).parent.glob("models/*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    now = re.findall(r"^@register_model\ndef (\w+)\(", text, flags=re.MULTILINE)
    before = re.findall(r"""^    ['"](\w+)['"] *: *['"]""", text, flags=re.MULTILINE)
    return {*now, *before}


Ascending = AfterValidator(_ascending)
PositiveInt: TypeAlias = Annotated[int, rule("a whole number of 1 or more", ge=1)]
NonNegativeInt: TypeAlias = Annotated[int, rule("a whole number of 0 or more", ge=0)]
Pixels: TypeAlias = Annotated[int, rule("a number of 1 pixel or more", ge=1)]
Positive: TypeAlias = Annotated[float, rule("a number above 0", gt=0)]
NonNegative: TypeAlias = Annotated[float, rule("a number of 0 or more", ge=0)]
Probability: TypeAlias = Annotated[float, rule("a number from 0 to 1", ge=0, le=1)]
Share: TypeAlias = Annotated[float, rule("a number above 0 and up to 1", gt=0, le=1)]
Below1: TypeAlias = Annotated[float, rule("a number from 0 to below 1", ge=0, lt=1)]

Exponents: TypeAlias = Annotated[list[NonNegative], rule("a list of numbers of 0 or more", min_length=1)]
Names: TypeAlias = Annotated[list[str], rule("a list of names of modules")]
Scales: TypeAlias = Annotated[list[Positive], rule("a list of numbers above 0", min_length=1)]
Pair: TypeAlias = Annotated[list[Below1], rule("two numbers from 0 to below 1", min_length=2, max_length=2)]
PixelRange: TypeAlias = Annotated[
    list[Pixels],
    Ascending,
    rule("the least and the greatest number of pixels", min_length=2, max_length=2),
]
FactorRange: TypeAlias = Annotated[
    list[Positive],
    Ascending,
    rule("the least and the greatest factor", min_length=2, max_length=2),
]
Jitter: TypeAlias = Annotated[
    list[NonNegative],
    AfterValidator(_hue),
    rule(
        "four numbers of 0 or more (brightness, contrast, saturation, and hue up to 0.5)",
        min_length=4,
        max_length=4,
    ),
]
Thresholds: TypeAlias = Annotated[
    list[Annotated[float, rule("a number")]],
    AfterValidator(_range),
    rule("start, stop and step with 0 <= start < stop and step > 0", min_length=3, max_length=3),
]

Precision: TypeAlias = Literal["float32", "bf16"]
NETWORKS = (
    *("resnet38d", "vgg16", "resnet18", "resnet50", "resnet101", "wide_resnet50"),
    *("mobilenet_v2", "tiny", "vit"),
)
FAMILIES = ("timm", "vit")  # each of many networks, named <family>:<name>
Network: TypeAlias = Annotated[
    str,
    rule(
        f"one of {', '.join((*NETWORKS, *(f'{family}:<name>' for family in FAMILIES)))}, with a name that timm knows",
        pattern=f"^({'|'.join(NETWORKS)}|({'|'.join(FAMILIES)}):.+)$",
    ),
    AfterValidator(_known_to_timm),
]
File: TypeAlias = Annotated[str, rule("a file, run:<paper>/<run> or package:<name>", min_length=1)]


class BackboneOptions(Section):
    """Options that only some networks take."""

    dilate: NotRequired[bool | None]  # ResNets
    fc6_dilation: NotRequired[PositiveInt | None]  # VGG16
    pool5: NotRequired[bool | None]  # VGG16
    tf_padding: NotRequired[bool | None]  # MobileNetV2
    variant: NotRequired[str | None]  # ViT


class Backbone(BackboneOptions):
    """A network under a head. Null is the network's own value."""

    name: Network
    weights: File | None
    output_stride: PositiveInt | None
    dropout: Below1 | Pair | None
    freeze: Names | None
    freeze_norm: bool | Literal["statistics"] | None
