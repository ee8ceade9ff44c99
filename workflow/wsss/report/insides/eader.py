"""EADER: what the localizer attends to, and the image without it."""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.report.insides import Look, Picture


def attention(look: Look) -> Tensor:
    """Compute the soft mask of the target, ``1×1×H×W``."""
    features = look.method.backbone(look.images)["conv6"]
    return look.method.attention(features, torch.zeros(1, dtype=torch.long), look.target, look.size)


def foreground(look: Look) -> Picture:
    """Show the soft mask of the target."""
    return look.heat(attention(look))


def erased(look: Look) -> Picture:
    """Show the image that the adversary gets to see."""
    first = torch.zeros(1, dtype=torch.long)
    return look.picture(look.method.erase(look.images, attention(look), first))


KINDS = {"foreground": foreground, "erased": erased}
