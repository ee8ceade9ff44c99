"""Small made-up files that several tests read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wsss.data.index import Dataset
from wsss.refine.irn_walk import Relations
from wsss.stores import write_masks

CLASSES = ["background", "cat", "dog"]


def metrics_file(path: Path, miou: float, stage: str = "cam", **more) -> str:
    point = {"miou": miou, "precision": miou + 0.1, "recall": miou + 0.2, "iou": [0.9, miou, 0.1]}
    point |= {"precision_fg": miou, "recall_fg": miou + 0.1, "under": 1.5, "over": 0.5, **more}
    names = {"cam": ("best", "fixed"), "crf": ("alpha=4", "alpha=24", "best")}.get(stage, ("argmax",))
    content = {"classes": CLASSES, "points": {name: dict(point) for name in names}}
    if stage == "cam":
        content["points"]["best"]["threshold"] = 0.25
        thresholds = [0.0, 0.25, 0.5]
        rising, falling = [0.1, 1.0, 10.0], [5.0, 0.5, 0.05]
        content["sweep"] = {"thresholds": thresholds, "miou": [0.2, miou, 0.3], "under": rising, "over": falling}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def label_of(width: int, height: int, *values: int) -> np.ndarray:
    label = np.zeros((height, width), np.uint8)
    label[0, : len(values)] = values
    return label


def write_csv(path, rows) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def random_map(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def mask_shard(path: Path, images: Dataset, change=None) -> Path:
    """The images' ground truth as a shard of masks, after ``change`` had it."""
    masks = {image_id: images.mask(image_id) for image_id in images.ids}
    if change:
        change(masks)
    with write_masks(path) as store:
        for image_id, label in masks.items():
            store.put(image_id, label)
    return path


def relations(cam, edge, classes, size: tuple[int, int], dp: torch.Tensor | None = None) -> Relations:
    """What is known of an image; without displacements all cells stay where they are."""
    where = torch.zeros(2, *edge.shape) if dp is None else dp
    return Relations("a", np.array(classes, np.uint8), cam, edge, where, size)
