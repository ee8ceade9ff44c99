"""Stage ``deeplab``: the training of a segmentation network on label maps."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from wsss.errors import WsssError
from wsss.schedule import Schedule
from wsss.segment.samples import SegmentationSamples
from wsss.segment.task import SegmentTask
from wsss.train import Training

if TYPE_CHECKING:
    from wsss.job import Given

START_LEFT = 0.1  # share of the initial batch statistics in the final ones that is worth a warning
GROUND_TRUTH = "ground_truth"


def deeplab(given: Given) -> Training:
    """Set up the training of ``deeplab.model`` on label maps of ``given.images``.

    ``given.masks`` are shards of pseudo masks. None stands for ground truth, the upper bound.

    Raises:
        WsssError: an image has no label map; or ``deeplab.labels`` asks for shards and none are given; or it asks for
            ground truth and shards are given.
    """
    settings = given.settings["deeplab"]
    if (given.masks is None) != (settings["labels"] == GROUND_TRUTH):
        raise WsssError(f"deeplab.labels is '{settings['labels']}': give mask shards, unless it is {GROUND_TRUTH}")
    task = SegmentTask(settings, len(given.images.classes))
    samples = SegmentationSamples(given.images, given.masks, settings["train"], task.net.input)
    if note := unsettled_norms(task, Schedule(len(samples), settings["train"]).steps):
        print(note, file=sys.stderr)
    return Training(task, samples, settings["train"])


def unsettled_norms(task: SegmentTask, steps: int) -> str | None:
    """Return advice if a training is too short for the running statistics of its batch norms, which prediction uses."""
    momentum = task.settings["norm_momentum"]
    left = (1 - momentum) ** steps  # share of the initial values in the final ones
    followed = any(isinstance(module, _BatchNorm) and module.training for module in task.train().modules())
    if not followed or left < START_LEFT:
        return None
    enough = math.ceil(100 * (1 - START_LEFT ** (1 / steps))) / 100
    return (
        f"deeplab.norm_momentum {momentum} keeps {left:.0%} of the initial batch statistics after {steps} steps, so "
        f"predictions will be poor; raise it to {enough} or more, or train longer"
    )
