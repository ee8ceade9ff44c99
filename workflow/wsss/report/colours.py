"""Label maps and scores as colours over their image."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from wsss.stores import voc_palette

PALETTE = np.array(voc_palette(), np.uint8).reshape(256, 3)
OF_LABELS = 0.75  # the strength of colours over an image
OF_HEAT = 0.6


def colour(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Paint an ``H×W`` label map in VOC colours over its greyed image, ``H×W×3`` uint8."""
    paint = PALETTE[labels]
    grey = image.mean(2, keepdims=True)
    grey = grey.repeat(3, 2)
    return _mixed(paint, grey, OF_LABELS)


def heat(score: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Paint an ``H×W`` score in [0, 1] as heat over its image, ``H×W×3`` uint8."""
    inferno = plt.get_cmap("inferno")
    inside = np.clip(score, 0, 1)
    rgba = inferno(inside)
    paint = rgba[..., :3] * 255
    return _mixed(paint, image, OF_HEAT)


def _mixed(paint: np.ndarray, image: np.ndarray, strength: float) -> np.ndarray:
    """Lay a paint over an image; a strength of 1 covers it wholly."""
    mixed = strength * paint + (1 - strength) * image
    return mixed.astype(np.uint8)
