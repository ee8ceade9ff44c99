"""Names of the code in the words of a reader, for the report page."""

from __future__ import annotations

import re

IMAGES = {"measured": "training images", "val": "validation images", "test": "test images"}
METRICS = {
    "miou": "mIoU",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "precision_fg": "foreground precision",
    "recall_fg": "foreground recall",
    "under": "under-activation",
    "over": "over-activation",
    "map": "AP50",
}
PAIRS = {"bg": "background pairs", "fg": "pairs of one class", "neg": "pairs of two classes"}
LOSSES = {
    "cls": "classification",
    "er": "equivariance",
    "ecr": "cross equivariance",
    "rvmin": "least active pixels",
    "loc": "classification",
    "am": "attention mining",
    "reg": "size of attention",
    "adv": "classification",
    "erase": "erased image",
    "attract": "attraction",
    "repel": "repulsion",
    "full": "whole image",
    "t": "target",
    "nt": "non-target",
    "ce": "cross entropy",
    "ce_max": "cross entropy, largest score",
    **PAIRS,
    **{f"boundary_{kind}": f"boundaries, {name}" for kind, name in PAIRS.items()},
    **{f"dp_{kind}": f"displacement, {PAIRS[kind]}" for kind in ("fg", "bg")},
}


def metric(name: str, of_class: str) -> str:
    """Name a metric, such as ``IoU of dog``."""
    return f"{METRICS[name]} of {of_class}" if of_class else METRICS[name]


def points(text: str) -> str:
    """Name operating points, one per seed, from what a table says: ``threshold 0.25; threshold 0.30``."""
    return text.replace("argmax", "none").replace("alpha=", "exponent ").replace("iou=", "IoU of ")


def loss(term: str) -> str:
    """Name a term of a training's loss; ``ce_0.5`` is the cross entropy at a scale. An unknown term keeps its name."""
    return LOSSES.get(term) or re.sub(r"^ce_([0-9.]+)$", r"cross entropy, × \1", term)
