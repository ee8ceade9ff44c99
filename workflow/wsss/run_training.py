"""Run a stage that trains a network. Every training goes through here into the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wsss import devices
from wsss.registry import attribute
from wsss.train import fit

if TYPE_CHECKING:
    from wsss.job import Given
    from wsss.stages import Stage


def run_training(
    stage: Stage,
    given: Given,
    out: str | Path,
    loaders: int = 0,
    checkpoint_minutes: float | None = None,
    compiled: bool = False,
) -> Path:
    """Train what a stage sets up and return its ``model.pt`` in the folder ``out``.

    Args:
        stage: the row of the stage. Its function sets up the task and its samples; torch is seeded before.
        given: what the function works with.
        out: the folder of the results and, while the training runs, of its checkpoint.
        loaders: number of processes that load training images. It changes no result.
        checkpoint_minutes: time between two checkpoints. It changes no result.
        compiled: ``torch.compile`` the backbones; it changes the last bits.

    Raises:
        WsssError: a GPU is missing, or deterministic kernels are asked for and an operation has none.
    """
    devices.find(given.device)  # a missing GPU is reported before anything is read
    torch.manual_seed(given.settings["seed"])
    training = attribute(stage.function)(given)
    how = (given.device, loaders, checkpoint_minutes, given.deterministic, compiled)
    with devices.told_what_lacks_kernels():
        return fit(training, given.settings, out, *how)
