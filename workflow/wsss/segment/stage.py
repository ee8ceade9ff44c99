"""Training of a segmentation network, and its way back from a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from wsss.backbones.formats import read_state
from wsss.errors import WsssError
from wsss.segment.presets import resolve
from wsss.segment.samples import SegmentationSamples
from wsss.segment.task import SegmentTask
from wsss.train import fit


def segment_stage(
    config: dict, dataset, mask_paths: Iterable[str | Path] | None, out_dir: str | Path, device: str = "auto"
) -> None:
    """Train ``segment.model`` on label maps of ``dataset``'s images and write ``model.pt`` to ``out_dir``.

    ``mask_paths`` are the shards of pseudo masks; ``None`` stands for ground truth, the upper bound.
    """
    segment = resolve(config)["segment"]
    if (mask_paths is None) != (segment.get("labels") == "ground_truth"):
        raise WsssError(f"segment.labels is '{segment.get('labels')}': give mask shards, unless it is ground_truth")
    torch.manual_seed(config["seed"])
    task = SegmentTask(segment, len(dataset.classes))
    samples = SegmentationSamples(dataset, mask_paths, segment["train"], task.net.input)
    fit(task, samples, segment["train"], config["seed"], out_dir, device)


def load_task(segment: dict, n_classes: int, path: str | Path) -> SegmentTask:
    """The trained network in evaluation mode; ``path`` is the ``model.pt`` of a training.

    Raises:
        WsssError: the file cannot be read, or was trained with other settings.
    """
    task = SegmentTask({**segment, "backbone": {**segment["backbone"], "weights": None}}, n_classes)
    own, state = task.state_dict(), read_state(path)
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        expected = f"{segment['model']} on {segment['backbone']['name']}, {n_classes} classes"
        raise WsssError(f"{path}: not a model of {expected} ('{wrong[0]}' differs); train it with these settings")
    task.load_state_dict(state)
    return task.eval()
