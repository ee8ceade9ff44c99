"""EADER: what the localizer attends to, and the image without it."""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.report.insides import Look, Picture


def attention(look: Look) -> Tensor:
    """Compute the attention to the target, ``1×1×H×W``."""
    method = look.method
    features = method.backbone(look.images)["conv6"]
    return method.attention(features, _first(), look.target, look.size)


def foreground(look: Look) -> Picture:
    """Show the attention to the target."""
    mask = attention(look)
    return look.heat(mask)


def erased(look: Look) -> Picture:
    """Show the image that the adversary gets to see."""
    mask = attention(look)
    images = look.method.erase(look.images, mask, _first())
    return look.picture(images)


def _first() -> Tensor:
    """Return the place of the image in its batch, where it is alone."""
    return torch.zeros(1, dtype=torch.long)


KINDS = {"foreground": foreground, "erased": erased}
