"""Training of a segmentation network, and its way back from a file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from wsss.backbones.models import load_model
from wsss.errors import WsssError
from wsss.segment.presets import resolve
from wsss.segment.samples import SegmentationSamples
from wsss.segment.task import SegmentTask
from wsss.train import Schedule, fit

START_LEFT = 0.1  # share of the initial batch statistics in the final ones that is worth a word


def segment_stage(
    config: dict, dataset, mask_paths: Iterable[str | Path] | None, out_dir: str | Path, device: str = "auto"
) -> None:
    """Train ``segment.model`` on label maps of ``dataset``'s images and write ``model.pt`` to ``out_dir``.

    ``mask_paths`` are the shards of pseudo masks; ``None`` stands for ground truth, the upper bound.
    """
    config = resolve(config)
    segment = config["segment"]
    if (mask_paths is None) != (segment.get("labels") == "ground_truth"):
        raise WsssError(f"segment.labels is '{segment.get('labels')}': give mask shards, unless it is ground_truth")
    torch.manual_seed(config["seed"])
    task = SegmentTask(segment, len(dataset.classes))
    samples = SegmentationSamples(dataset, mask_paths, segment["train"], task.net.input)
    if note := unsettled_norms(task, Schedule(len(samples), segment["train"]).steps):
        print(f"{out_dir}: {note}", file=sys.stderr)
    fit(task, samples, segment["train"], config, out_dir, device)


def unsettled_norms(task: SegmentTask, steps: int) -> str | None:
    """What to say when a run is too short for the running statistics of its batch norms, which prediction uses."""
    momentum = task.settings["norm_momentum"]
    left = (1 - momentum) ** steps  # share of the initial values in the final ones
    followed = any(isinstance(module, _BatchNorm) and module.training for module in task.train().modules())
    if not followed or left < START_LEFT:
        return None
    enough = math.ceil(100 * (1 - START_LEFT ** (1 / steps))) / 100
    return (
        f"segment.norm_momentum {momentum} keeps {left:.0%} of the initial batch statistics after {steps} steps, so "
        f"predictions will be poor; raise it to {enough} or more, or train longer"
    )


def load_task(segment: dict, n_classes: int, path: str | Path) -> SegmentTask:
    """The trained network in evaluation mode; ``path`` is the ``model.pt`` of a training.

    Raises:
        WsssError: the file cannot be read, or was trained with other settings.
    """
    task = SegmentTask({**segment, "backbone": {**segment["backbone"], "weights": None}}, n_classes)
    return load_model(task, path, f"{segment['model']} on {segment['backbone']['name']}, {n_classes} classes")
