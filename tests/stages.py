"""Running single stages in tests, as the commands run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsss.data.index import Dataset
from wsss.job import Given
from wsss.plan.layers import Layer, overlay
from wsss.run_shards import run_shards
from wsss.run_training import run_training
from wsss.stages import STAGES

TINY = {
    "name": "tiny",
    "weights": None,
    "output_stride": None,
    "dropout": None,
    "freeze": [],
    "freeze_norm": False,
}


def given(
    settings: Any, images: Dataset, *, dataset: Dataset | None = None, device: str = "cpu", **reads: Any
) -> Given:
    """Put together what a stage is given. ``reads`` are any of scores, masks, instances, model and workers."""
    for kind in ("scores", "instances", "masks"):
        if reads.get(kind) is not None:
            reads[kind] = tuple(map(str, reads[kind]))
    return Given(settings, images, dataset or images, device=device, **reads)


def run(
    stage: str, settings: Any, images: Dataset, out: str | Path, shard: tuple[int, int] = (0, 1), **reads: Any
) -> None:
    """Run a stage that works image by image, into the shard file ``out``."""
    run_shards(STAGES[stage], given(settings, images.shard(*shard), **reads), out)


def train(stage: str, settings: Any, images: Dataset, out: str | Path, loaders: int = 0, **reads: Any) -> Path:
    """Train the network of a stage, into the folder ``out``."""
    return run_training(STAGES[stage], given(settings, images, **reads), out, loaders)


def changed(settings: dict[str, Any], changes: dict[str, Any], *, new_keys: bool = False) -> dict[str, Any]:
    """Overlay settings with ``changes``, key by key; the result is a copy."""
    return overlay(settings, Layer("test", changes), new_keys=new_keys)
