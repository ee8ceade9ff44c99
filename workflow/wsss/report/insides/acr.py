"""ACR: the map of the target, and what the reconstructor paints inside and outside of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from wsss.backbones.base import resize
from wsss.methods import acr
from wsss.report.insides import Look, Picture


def target_map(look: Look) -> Tensor:
    """Compute the class map of the target, ``1×1×H×W``."""
    classifier = look.method.classifier
    cam, _ = classifier(look.images)
    return acr.class_map(cam, look.labels, look.target, look.size)


def foreground(look: Look) -> Picture:
    """Show the class map of the target."""
    c_t = target_map(look)
    return look.heat(c_t)


def painted(inside: bool) -> Callable[[Look], Picture]:
    """Make a function that shows the reconstruction from the features inside the map, or from those outside."""

    def draw(look: Look) -> Picture:
        depth = look.method.settings["unet_depth"]  # the decoder halves that often
        size = _multiples(look.size, 2**depth)
        look.images = resize(look.images, size)
        c_t = target_map(look)
        part = c_t if inside else 1 - c_t
        reconstructor = look.method.reconstructor
        taps = reconstructor.backbone(look.images)
        features = reconstructor.features(taps)
        features = resize(features, size)  # 1 D H W
        images = reconstructor.genUnet(features * part)
        return look.picture(images)

    return draw


def _multiples(size: Sequence[int], of: int) -> list[int]:
    """Round sides to multiples of a number, but to no less than it."""
    times = [max(1, round(side / of)) for side in size]
    return [number * of for number in times]


KINDS = {
    "foreground": foreground,
    "painted_inside": painted(True),
    "painted_outside": painted(False),
}
