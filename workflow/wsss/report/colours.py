"""Label maps and scores as colours over their image."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from wsss.stores import voc_palette

PALETTE = np.array(voc_palette(), np.uint8).reshape(256, 3)


def colour(labels: np.ndarray, image: np.ndarray, strength: float = 0.75) -> np.ndarray:
    """Paint an ``H×W`` label map in VOC colours over its greyed image, ``H×W×3`` uint8."""
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    return _mixed(PALETTE[labels], grey, strength)


def heat(score: np.ndarray, image: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Paint an ``H×W`` score in [0, 1] as heat over its image, ``H×W×3`` uint8."""
    rgba = plt.get_cmap("inferno")(np.clip(score, 0, 1))
    return _mixed(rgba[..., :3] * 255, image, strength)


def _mixed(paint: np.ndarray, image: np.ndarray, strength: float) -> np.ndarray:
    """Lay a paint over an image; a strength of 1 covers it wholly."""
    mixed = strength * paint + (1 - strength) * image
    return mixed.astype(np.uint8)
