"""AEFT: the foreground of the anchor, and the image without it."""

from __future__ import annotations

from torch import Tensor

from wsss.methods import aeft
from wsss.report.insides import Look, Picture


def anchor_foreground(look: Look) -> Tensor:
    """Compute the foreground of the present classes, ``1×1×H×W``."""
    return aeft.foreground(look.method(look.images).cam, look.labels, look.size)


def foreground(look: Look) -> Picture:
    """Show the foreground of the present classes."""
    return look.heat(anchor_foreground(look))


def erased(look: Look) -> Picture:
    """Show the image whose foreground is masked."""
    settings = look.method.settings
    mask = aeft.MASKS[settings["mask"]]
    return look.picture(look.images * mask(anchor_foreground(look), settings["erase_above"]))


KINDS = {"foreground": foreground, "erased": erased}
