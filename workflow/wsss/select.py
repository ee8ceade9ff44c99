"""The choice of an epoch: how well the class maps of a classifier that is being trained fit the masks.

It reads masks, as the authors of OC-CSE, AEFT and ACR do. So every number that rests on the choice says so, and so does
the record of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsss.cam import localized
from wsss.errors import WsssError
from wsss.measure.counts import Sweep, threshold_grid
from wsss.measure.metrics import summary
from wsss.scored import Choice

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.methods import Method
    from wsss.settings.sections import Settings


def best(given: Given) -> Choice:
    """Return the choice of the epoch whose class maps have the highest mIoU on the measured images.

    Raises:
        WsssError: a measured image has no mask; the message names it.
    """
    settings, images = given.settings, given.dataset.part("measured", given.settings["dataset"]["splits"])
    if without := [record.id for record in images.records if record.mask is None]:
        raise WsssError(f"train.select: best needs masks, and image '{without[0]}' has none; use last")
    start, stop, step = settings["measure"]["thresholds"]
    protocol = (
        f"mIoU of class maps on the masks of the {len(images)} images of the role measured, at the best background "
        f"threshold from {start:g} to below {stop:g} in steps of {step:g}"
    )
    train = settings["train"]
    return Choice(lambda method: miou(method, images, settings), train["select_every"], train["select_from"], protocol)


def miou(method: Method, images: Dataset, settings: Settings) -> float:
    """Return the mIoU of a method's class maps on the masks of images, at the best threshold of section ``measure``.

    The method is left in evaluation mode.
    """
    measure = settings["measure"]
    sweep = Sweep(threshold_grid(*measure["thresholds"]), len(images.classes) + 1, measure["floor"])
    for image_id, classes, scores in localized(method.eval(), images, settings["cam"]):
        sweep.add(classes, scores, images.mask(image_id))
    return float(summary(sweep.counts(), measure["absent"])["miou"].max())
