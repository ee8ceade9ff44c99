"""ACR: the map of the target, and what the reconstructor paints inside and outside of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from wsss.backbones.base import resize
from wsss.methods import acr
from wsss.report.insides import Look, Picture


def target_map(look: Look) -> Tensor:
    """Compute the class map of the target, ``1×1×H×W``."""
    cam, _ = look.method.classifier(look.images)
    return acr.class_map(cam, look.labels, look.target, look.size)


def foreground(look: Look) -> Picture:
    """Show the class map of the target."""
    return look.heat(target_map(look))


def painted(inside: bool) -> Callable[[Look], Picture]:
    """Make a function that shows the reconstruction from the features inside the map, or from those outside."""

    def draw(look: Look) -> Picture:
        multiple = 2 ** look.method.settings["unet_depth"]  # the decoder halves that often
        size = [max(1, round(side / multiple)) * multiple for side in look.size]
        look.images = resize(look.images, size)
        reconstructor, c_t = look.method.reconstructor, target_map(look)
        features = resize(reconstructor.features(reconstructor.backbone(look.images)), size)  # 1 D H W
        return look.picture(reconstructor.genUnet(features * (c_t if inside else 1 - c_t)))

    return draw


KINDS = {"foreground": foreground, "painted_inside": painted(True), "painted_outside": painted(False)}
