"""Processes that load images, of trainings and of inference."""

from __future__ import annotations

import torch

from wsss.children import start_child


def start_loader(parent: int, _: int) -> None:
    """Prepare a loader process: it works in one thread and ends with its parent."""
    torch.set_num_threads(1)
    start_child(parent)


def want_of_memory(loaders: int) -> str:
    """Return the words for what to do when a loader process died."""
    return (
        "probably for want of memory, or of shared memory (df /dev/shm); ask for more memory, or for fewer loader "
        f"processes than {loaders} (--loaders, or snakemake --config loaders=...), and run it again to go on"
    )
