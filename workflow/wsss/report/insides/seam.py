"""SEAM: what two neighbouring cells attend to, one on an object and one beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from wsss.methods.base import EPS
from wsss.report.insides import Look, Picture
from wsss.stores import IGNORE

Cell = tuple[int, int]


def affinity(on_object: bool) -> Callable[[Look], Picture]:
    """Make a function that shows the affinities of the cell on the object, or of the one beside it."""

    def draw(look: Look) -> Picture:
        taps = look.method.backbone(look.images)
        features = look.method.f9(look.method.features(look.images, taps))[0]  # D h w
        pair = outline_pair(look.dataset.mask(look.image_id), features.shape[1:])
        if pair is None:
            return look.image
        y, x = pair[0] if on_object else pair[1]
        f = features / (features.norm(dim=0) + EPS)  # D h w
        affinities = torch.relu(torch.einsum("d,dhw->hw", f[:, y, x], f))  # h w
        picture = look.heat(affinities[None, None] / affinities.max())
        return _cross(picture, (y + 0.5) / f.shape[1], (x + 0.5) / f.shape[2])

    return draw


def outline_pair(truth: np.ndarray, size: tuple[int, int]) -> tuple[Cell, Cell] | None:
    """Find two neighbouring cells of an ``h×w`` grid, the first on an object, the second beside it.

    ``truth`` is ``H×W`` labels. Of all such pairs it is the one in the middle; None if there is no outline.
    """
    grid = np.asarray(Image.fromarray(truth).resize(size[::-1], Image.Resampling.NEAREST))
    pairs = _pairs(grid, 0, 1) + _pairs(grid, 1, 0)
    return sorted(pairs)[len(pairs) // 2] if pairs else None


def _pairs(grid: np.ndarray, dy: int, dx: int) -> list[tuple[Cell, Cell]]:
    """List all pairs of neighbours at an offset of which one is on an object and one on the background."""
    height, width = grid.shape
    first, second = grid[: height - dy, : width - dx], grid[dy:, dx:]
    known = (first != IGNORE) & (second != IGNORE)
    outline = known & ((first > 0) != (second > 0))
    found = []
    for y, x in np.argwhere(outline).tolist():
        cells = (y, x), (y + dy, x + dx)
        found.append(cells if grid[y, x] > 0 else cells[::-1])
    return found


def _cross(picture: Picture, y: float, x: float) -> Picture:
    """Put a white cross at a position given as shares of the picture's height and width."""
    marked, (height, width) = picture.copy(), picture.shape[:2]
    row, column = int(y * height), int(x * width)
    arm, half = max(height // 20, 2), height // 150
    marked[_around(row, half), _around(column, arm)] = 255
    marked[_around(row, arm), _around(column, half)] = 255
    return marked


def _around(at: int, reach: int) -> slice:
    """Return the positions at most ``reach`` away from ``at``."""
    return slice(max(at - reach, 0), at + reach + 1)


KINDS = {"affinity_object": affinity(True), "affinity_beside": affinity(False)}
