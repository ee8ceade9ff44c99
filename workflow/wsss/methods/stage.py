"""Stage ``train``: a method's networks learn from image-level labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsss.backbones.weights import initial
from wsss.data.samples import ClassificationSamples
from wsss.methods import build
from wsss.registry import Registry, load
from wsss.scored import Choice
from wsss.train import Training

if TYPE_CHECKING:
    from wsss.job import Given

CHOICES: Registry[str] = {"best": "wsss.select:best"}  # how the epoch that is kept is chosen, if it is not the last one


def train(given: Given) -> Training:
    """Set up the training of the method that the section ``method`` names, on ``given.images``.

    Raises:
        WsssError: no image has a class.
    """
    settings = given.settings
    method = build(initial(settings, settings["train"]), len(given.images.classes))
    if settings["train"]["weights"]:
        return Training(method, None, settings["train"])
    samples = ClassificationSamples(given.images, settings["train"], method.backbone.input)
    return Training(method, samples, settings["train"], choice=choice(given))


def choice(given: Given) -> Choice | None:
    """Return how the epoch that is kept is chosen; None keeps the last epoch, which reads no mask."""
    selected = given.settings["train"]["select"]
    return None if selected == "last" else load(CHOICES, selected, "train.select")(given)
