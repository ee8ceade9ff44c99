"""AEFT: the foreground of the anchor, and the image without it."""

from __future__ import annotations

from torch import Tensor

from wsss.methods import aeft
from wsss.report.insides import Look, Picture


def anchor_foreground(look: Look) -> Tensor:
    """Compute the foreground of the present classes, ``1×1×H×W``."""
    output = look.method(look.images)
    return aeft.foreground(output.cam, look.labels, look.size)


def foreground(look: Look) -> Picture:
    """Show the foreground of the present classes."""
    score = anchor_foreground(look)
    return look.heat(score)


def erased(look: Look) -> Picture:
    """Show the image whose foreground is masked."""
    settings = look.method.settings
    mask = aeft.MASKS[settings["mask"]]
    score = anchor_foreground(look)
    kept = mask(score, settings["erase_above"])
    return look.picture(look.images * kept)


KINDS = {"foreground": foreground, "erased": erased}
