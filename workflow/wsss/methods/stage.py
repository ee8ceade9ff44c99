"""Stage ``train``: a method's networks learn from image-level labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsss.backbones.weights import initial
from wsss.data.samples import ClassificationSamples
from wsss.methods import build
from wsss.train import Training

if TYPE_CHECKING:
    from wsss.job import Given


def train(given: Given) -> Training:
    """Set up the training of the method that the section ``method`` names, on ``given.images``.

    Raises:
        WsssError: an image has no class; the line names it.
    """
    settings = given.settings
    method = build(initial(settings, settings["train"]), len(given.images.classes))
    if settings["train"]["weights"]:
        return Training(method, None, settings["train"])
    return Training(
        method, ClassificationSamples(given.images, settings["train"], method.backbone.input), settings["train"]
    )
