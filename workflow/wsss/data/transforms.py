"""From photographs to network inputs. Every random draw comes from the ``numpy.random.Generator`` that is passed in.

Images are ``H×W×3`` uint8 RGB until they are normalised. The mean colour is 0 after normalisation. PSA, SEAM and IRN
agree on these transforms unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from wsss.data.pixels import CAFFE_MEAN, LEVELS, RGB_MEAN, RGB_STD
from wsss.errors import WsssError, choose
from wsss.stores import IGNORE

if TYPE_CHECKING:
    from wsss.settings.sections import ClassifierTrain

VALUES = np.arange(LEVELS + 1)[:, None]  # of a pixel; a table over all of them has the same bits as the float64 formula
RGB_TABLE = ((VALUES / LEVELS - np.array(RGB_MEAN)) / np.array(RGB_STD)).astype(np.float32)
BGR_TABLE = (VALUES - np.array(CAFFE_MEAN[::-1])).astype(np.float32)  # blue first
INPUTS = {"rgb": (RGB_TABLE, [0, 1, 2]), "vgg_bgr": (BGR_TABLE, [2, 1, 0])}  # table, order of channels


def normalise(image: np.ndarray, input: str = "rgb") -> np.ndarray:
    """Normalise an image as a backbone expects it: ``H×W×3`` uint8 RGB -> ``H×W×3`` float32.

    ``input`` is ``rgb`` (from 0 to 1, minus ImageNet's mean, over its standard deviation) or ``vgg_bgr`` (blue first,
    from 0 to 255, minus Caffe's mean).
    """
    table, order = choose(INPUTS, input, "network input")
    return np.stack([table[image[..., source], c] for c, source in enumerate(order)], axis=-1)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Turn an array ``H×W×3`` float32 into a contiguous tensor ``3×H×W``."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a uint8 image by bicubic interpolation with Pillow's antialiasing."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resize_plain(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Resize ``H×W×3`` by bicubic interpolation without antialiasing, as OpenCV's ``INTER_CUBIC`` (a = -0.75) does.

    Given a factor, OpenCV steps through the image by its inverse, not by the ratio of the rounded sizes. At the far
    edge the two differ by up to a pixel. A uint8 result is rounded and clamped, a float32 one is not.
    """
    given = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float()
    height, width = pixels.shape[:2]
    size = scaled_size(height, width, scale)
    resized: torch.Tensor = torch.ops.aten.upsample_bicubic2d(given, size, False, scale, scale)  # takes size and factor
    found = resized[0].permute(1, 2, 0)
    if pixels.dtype == np.uint8:
        found = found.round().clamp(0, LEVELS).to(torch.uint8)
    return found.contiguous().numpy()


def resize_label_plain(label: np.ndarray, scale: float) -> np.ndarray:
    """Resize a label map ``H×W`` as OpenCV's ``INTER_NEAREST``: pixel ``x`` is that at ``x / scale``, rounded down."""
    height, width = label.shape
    sizes = zip(scaled_size(height, width, scale), (height, width), strict=True)
    y, x = (np.minimum((np.arange(new) * (1 / scale)).astype(int), old - 1) for new, old in sizes)
    return label[np.ix_(y, x)]


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a label map ``H×W`` uint8 by nearest neighbour."""
    return np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))


def long_side_size(height: int, width: int, long_side: int, by_factor: bool = False) -> tuple[int, int]:
    """Return height and width for a longer side of ``long_side`` pixels. Halves round to even.

    IRN multiplies the shorter side by a factor (``by_factor``), PSA does not. The factor's rounding moves that side by
    a pixel in one of fifty cases.
    """
    short, long = sorted((height, width))
    other = max(1, round(short * (long_side / long) if by_factor else short * long_side / long))  # at least a pixel
    return (long_side, other) if height > width else (other, long_side)


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Multiply height and width by ``scale``. Halves round to even."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def multi_scale(
    image: np.ndarray, scales: Sequence[float], flip: bool, input: str = "rgb", antialias: bool = True
) -> list[torch.Tensor]:
    """Make the network inputs of an image ``H×W×3`` uint8 at several scales.

    Args:
        image: the image.
        scales: factors of its size.
        flip: add the mirror image at every scale.
        input: the pixels that the network expects; see :func:`normalise`.
        antialias: resize the pixels with antialiasing; else normalise them first, then resize without it, as YudeWang's
            codebase does.

    Returns:
        One input per scale: ``1×3×h×w``, or ``2×3×h×w`` with the mirror image.
    """
    height, width = image.shape[:2]
    inputs = []
    for scale in scales:
        if antialias:
            pixels = normalise(resize(image, *scaled_size(height, width, scale)), input)
        else:
            pixels = resize_plain(normalise(image, input), scale)
        tensor = to_tensor(pixels)
        inputs.append(torch.stack([tensor, tensor.flip(-1)] if flip else [tensor]))
    return inputs


def colour_jitter(image: np.ndarray, strengths: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue by random amounts in random order (torchvision's ColorJitter).

    The first three factors are uniform in ``[1 - s, 1 + s]``, the hue's shift in ``[-s, s]`` turns of the circle.
    """
    from torchvision.transforms import functional as tf  # takes seconds to load, which most stages are spared

    *factors, hue = strengths
    draws = [rng.uniform(max(0, 1 - s), 1 + s) for s in factors] + [rng.uniform(-hue, hue)]
    steps = (tf.adjust_brightness, tf.adjust_contrast, tf.adjust_saturation, tf.adjust_hue)
    picture = Image.fromarray(image)
    for which in rng.permutation(4):
        if strengths[which]:
            picture = steps[which](picture, draws[which])
    return np.asarray(picture)


@dataclass(frozen=True)
class Window:
    """The part of an axis that is cut out, and its place in the crop."""

    source: slice
    target: slice

    @classmethod
    def draw(cls, length: int, size: int, rng: np.random.Generator) -> Window:
        """Draw the offset of the crop in a longer axis, or of a shorter axis in the crop."""
        offset = int(rng.integers(abs(length - size) + 1))
        kept = min(length, size)
        inside, whole = slice(offset, offset + kept), slice(0, kept)
        return cls(inside, whole) if length > size else cls(whole, inside)


def random_crop(
    arrays: Sequence[np.ndarray], size: int, fills: Sequence[float], rng: np.random.Generator
) -> list[np.ndarray]:
    """Crop arrays ``H×W`` or ``H×W×K`` at one random place to ``size×size``.

    Args:
        arrays: arrays of one height and width.
        size: pixels per side.
        fills: for each array, the value outside of it.
        rng: the source of the place.
    """
    height, width = arrays[0].shape[:2]
    y, x = Window.draw(height, size, rng), Window.draw(width, size, rng)
    crops = []
    for array, fill in zip(arrays, fills, strict=True):
        crop = np.full((size, size, *array.shape[2:]), fill, array.dtype)
        crop[y.target, x.target] = array[y.source, x.source]
        crops.append(crop)
    return crops


def random_resized_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Crop a random box and resize it bilinearly to ``size×size`` (torchvision's RandomResizedCrop).

    The box has 8 to 100 % of the area and an aspect of 3/4 to 4/3.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            break
    else:  # an image so long that no box fits: its middle, at the nearest admissible aspect
        h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
        top, left = (height - h) // 2, (width - w) // 2
    box = Image.fromarray(image[top : top + h, left : left + w])
    return np.asarray(box.resize((size, size), Image.Resampling.BILINEAR))


def _jittered(image: np.ndarray, jitter: Sequence[float] | None, p: float, rng: np.random.Generator) -> np.ndarray:
    return colour_jitter(image, jitter, rng) if jitter and rng.random() < p else image


@dataclass(frozen=True)
class TrainView:
    """A classifier's training input: random long side, mirroring, jitter, random crop padded with the mean colour.

    ``(image H×W×3, rng) -> 3×crop×crop``. ``long_side`` is ``[low, high]`` in pixels, both included, or null.
    ``by_factor`` is as in :func:`long_side_size`.
    """

    crop: int
    long_side: Sequence[int] | None
    flip: float
    jitter: Sequence[float] | None
    jitter_p: float = 1.0
    input: str = "rgb"
    by_factor: bool = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        if self.long_side:
            low, high = self.long_side
            height, width = image.shape[:2]
            size = long_side_size(height, width, int(rng.integers(low, high + 1)), self.by_factor)
            image = resize(image, *size)
        image = image[:, ::-1] if rng.random() < self.flip else image
        image = _jittered(np.ascontiguousarray(image), self.jitter, self.jitter_p, rng)
        return to_tensor(*random_crop([normalise(image, self.input)], self.crop, [0], rng))


@dataclass(frozen=True)
class ResizedCropView:
    """EADER's training input: random resized crop, mirroring, jitter. ``(image H×W×3, rng) -> 3×crop×crop``."""

    crop: int
    flip: float
    jitter: Sequence[float] | None
    jitter_p: float = 1.0
    input: str = "rgb"

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        image = random_resized_crop(image, self.crop, rng)
        image = image[:, ::-1] if rng.random() < self.flip else image
        return to_tensor(normalise(_jittered(np.ascontiguousarray(image), self.jitter, self.jitter_p, rng), self.input))


@dataclass(frozen=True)
class MaskedView:
    """An image and its label map for DeepLab and IRNet, which are scaled, mirrored and cropped together.

    ``(image H×W×3, label H×W, rng) -> (3×crop×crop float32, crop×crop uint8)``. The size changes by a factor uniform in
    ``scale`` (YudeWang, IRN) or to a long side uniform in ``long_side`` (AEFT); at most one of them is given. Outside
    the image are the mean colour and the label 255. If ``antialias`` is false, both are resized as OpenCV does, by
    :func:`resize_plain` and :func:`resize_label_plain`; ``long_side`` does not allow that.
    """

    crop: int
    scale: Sequence[float] | None
    flip: float
    long_side: Sequence[int] | None = None
    jitter: Sequence[float] | None = None
    jitter_p: float = 1.0
    input: str = "rgb"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.scale and self.long_side:
            raise WsssError("scale and long_side are both given: set one of them to false")
        if self.long_side and not self.antialias:
            raise WsssError("antialias: without it sizes change by a factor: set scale, and long_side to false")

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = image.shape[:2]
        size, factor = (height, width), 1.0
        if self.scale:
            smallest, largest = self.scale
            factor = rng.uniform(smallest, largest)
            size = scaled_size(height, width, factor)
        if self.long_side:
            low, high = self.long_side
            size = long_side_size(height, width, int(rng.integers(low, high + 1)))
        if not self.antialias:
            image, label = resize_plain(image, factor), resize_label_plain(label, factor)
        elif size != (height, width):
            image, label = resize(image, *size), resize_label(label, *size)
        if rng.random() < self.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        image = _jittered(np.ascontiguousarray(image), self.jitter, self.jitter_p, rng)
        image, label = random_crop([normalise(image, self.input), label], self.crop, [0, IGNORE], rng)
        return to_tensor(image), torch.from_numpy(label)


@dataclass(frozen=True)
class ScoredView:
    """An image and its score planes for AffinityNet: jitter, then crop and mirroring of both. Their scale stays.

    ``(image H×W×3, scores K×H×W, rng) -> (3×crop×crop, K×crop×crop)``, float32. PSA crops before it normalises, so the
    image is padded with black, not with the mean colour. Scores are 0 there.
    """

    crop: int
    flip: float
    jitter: Sequence[float] | None
    jitter_p: float = 1.0
    input: str = "rgb"

    def __call__(
        self, image: np.ndarray, scores: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image = _jittered(image, self.jitter, self.jitter_p, rng)
        image, scores = random_crop([image, scores.transpose(1, 2, 0)], self.crop, [0, 0], rng)
        if rng.random() < self.flip:
            image, scores = image[:, ::-1], scores[:, ::-1]
        return to_tensor(normalise(image, self.input)), to_tensor(scores)


VIEWS: dict[str, type[TrainView] | type[ResizedCropView]] = {"long_side": TrainView, "resized_crop": ResizedCropView}


def classification_view(
    train: ClassifierTrain, convention: str = "rgb"
) -> Callable[[np.ndarray, np.random.Generator], torch.Tensor]:
    """Make the training input that the section ``train`` describes, with pixels as in :func:`normalise`.

    Raises:
        WsssError: ``train["view"]`` is unknown.
    """
    view = choose(VIEWS, train["view"], "train.view")
    given: Mapping[str, Any] = train
    options = {field.name: given[field.name] for field in fields(view) if field.name != "input"}
    return view(**options, input=convention)
