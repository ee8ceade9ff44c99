"""Label maps and scores as colours over their image."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from wsss.stores import voc_palette

PALETTE = np.array(voc_palette(), np.uint8).reshape(256, 3)


def colour(labels: np.ndarray, image: np.ndarray, strength: float = 0.75) -> np.ndarray:
    """Paint an ``H×W`` label map in VOC colours over its greyed image, ``H×W×3`` uint8."""
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    return (strength * PALETTE[labels] + (1 - strength) * grey).astype(np.uint8)


def heat(score: np.ndarray, image: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Paint an ``H×W`` score in [0, 1] as heat over its image, ``H×W×3`` uint8."""
    shade = plt.get_cmap("inferno")(np.clip(score, 0, 1))[..., :3] * 255
    return (strength * shade + (1 - strength) * image).astype(np.uint8)
