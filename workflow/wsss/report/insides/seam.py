"""SEAM: what two neighbouring cells attend to, one on an object and one beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsss.methods.base import EPS
from wsss.report.insides import Look, Picture
from wsss.stores import IGNORE

Cell = tuple[int, int]  # row and column


def affinity(on_object: bool) -> Callable[[Look], Picture]:
    """Make a function that shows the affinities of the cell on the object, or of the one beside it."""

    def draw(look: Look) -> Picture:
        features = _features(look)  # D h w
        _, height, width = features.shape
        truth = look.dataset.mask(look.image_id)
        pair = outline_pair(truth, (height, width))
        if pair is None:
            return look.image
        on, beside = pair
        y, x = on if on_object else beside
        affinities = _affinities(features, (y, x))  # h w
        share = affinities / affinities.max()
        picture = look.heat(share[None, None])
        middle = ((y + 0.5) / height, (x + 0.5) / width)
        return _cross(picture, middle)

    return draw


def _features(look: Look) -> Tensor:
    """Compute the features that SEAM compares pixels by, ``D×h×w``."""
    method = look.method
    taps = method.backbone(look.images)
    features = method.features(look.images, taps)
    embedded: Tensor = method.f9(features)
    return embedded[0]


def _affinities(features: Tensor, cell: Cell) -> Tensor:
    """Compute the affinities of a cell to all cells, ``h×w``: the positive part of cosines of features ``D×h×w``."""
    y, x = cell
    f = features / (features.norm(dim=0) + EPS)  # D h w
    cosines = torch.einsum("d,dhw->hw", f[:, y, x], f)  # h w
    return torch.relu(cosines)


def outline_pair(truth: np.ndarray, size: tuple[int, int]) -> tuple[Cell, Cell] | None:
    """Find two neighbouring cells of an ``h×w`` grid, the first on an object, the second beside it.

    ``truth`` is ``H×W`` labels. Of all such pairs it is the one in the middle; None if there is no outline.
    """
    height, width = size
    image = Image.fromarray(truth)
    small = image.resize((width, height), Image.Resampling.NEAREST)
    grid = np.asarray(small)
    across = _pairs(grid, 0, 1)
    down = _pairs(grid, 1, 0)
    pairs = sorted(across + down)
    if not pairs:
        return None
    return pairs[len(pairs) // 2]


def _pairs(grid: np.ndarray, dy: int, dx: int) -> list[tuple[Cell, Cell]]:
    """List all pairs of cells (``dy``, ``dx``) apart of which one is on an object and the other on the background."""
    height, width = grid.shape
    first = grid[: height - dy, : width - dx]
    second = grid[dy:, dx:]
    known = (first != IGNORE) & (second != IGNORE)
    differ = (first > 0) != (second > 0)
    outline = known & differ
    found = []
    for y, x in np.argwhere(outline).tolist():
        here, there = (y, x), (y + dy, x + dx)
        on_object = grid[y, x] > 0
        found.append((here, there) if on_object else (there, here))
    return found


def _cross(picture: Picture, at: tuple[float, float]) -> Picture:
    """Put a white cross at a position given as shares of the picture's height and width."""
    y, x = at
    height, width = picture.shape[:2]
    row = int(y * height)
    column = int(x * width)
    arm = max(height // 20, 2)
    half = height // 150
    marked = picture.copy()
    marked[_around(row, half), _around(column, arm)] = 255
    marked[_around(row, arm), _around(column, half)] = 255
    return marked


def _around(at: int, reach: int) -> slice:
    """Return the positions at most ``reach`` away from ``at``."""
    first = max(at - reach, 0)
    last = at + reach
    return slice(first, last + 1)


KINDS = {
    "affinity_object": affinity(True),
    "affinity_beside": affinity(False),
}
