"""Pairs of near cells and the straight paths between them (IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044).

B batch, h w cells of a map, P pairs per source cell, h' w' sources: the cells whose pairs all lie inside the map.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsss.errors import WsssError

Cell = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """A source cell (0, 0) and its neighbour at ``(dy, dx)``; ``path`` holds the cells between, both ends included."""

    dy: int
    dx: int
    path: tuple[Cell, ...]


def half_disc(radius: int) -> list[Cell]:
    """List the offsets closer than ``radius``, one of each opposite pair, in reading order from (0, 1)."""
    reach = range(1 - radius, radius)
    disc = [(dy, dx) for dy in range(radius) for dx in reach if dy * dy + dx * dx < radius * radius]
    return [offset for offset in disc if offset > (0, 0)]


def straight_path(dy: int, dx: int) -> tuple[Cell, ...]:
    """List the cells of the bounding rectangle less than one cell from the line to ``(dy, dx)``, its end first."""
    columns = range(min(0, dx), max(0, dx) + 1)
    near = [(y, x) for y in range(dy + 1) for x in columns if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]
    return tuple(sorted(near, key=lambda cell: -abs(cell[0]) - abs(cell[1])))


@functools.cache
def pairs_within(radius: int) -> tuple[Pair, ...]:
    """List all pairs of one source in the order of ``half_disc``, which is that of channels everywhere."""
    return tuple(Pair(dy, dx, straight_path(dy, dx)) for dy, dx in half_disc(radius))


def at(values: Tensor, cell: Cell, radius: int) -> Tensor:
    """View the values that all sources have at the offset ``cell``: ``...×h×w`` -> ``...×h'×w'``.

    h' = h - radius + 1, w' = w - 2 radius + 2. ``radius`` is that of the pairs, in cells.

    Raises:
        WsssError: the map is too small to hold a single source.
    """
    margin, (dy, dx) = radius - 1, cell
    h, w = values.shape[-2] - margin, values.shape[-1] - 2 * margin
    if h < 1 or w < 1:
        size = "×".join(map(str, values.shape[-2:]))
        raise WsssError(f"a map of {size} cells holds no pair within radius {radius}: raise train.crop")
    return values[..., dy : dy + h, margin + dx : margin + dx + w]


class _PathMaximum(torch.autograd.Function):
    """Maximum over the cells of each path, by shifted views: no index tables, one byte per pair kept for backward."""

    @staticmethod
    def forward(ctx: Any, boundary: Tensor, radius: int) -> Tensor:
        pairs, source = pairs_within(radius), at(boundary, (0, 0), radius)
        values = boundary.new_empty(len(source), len(pairs), *source.shape[1:])  # B P h' w'
        positions = torch.empty_like(values, dtype=torch.uint8)
        for p, pair in enumerate(pairs):
            values[:, p], positions[:, p] = torch.stack([at(boundary, cell, radius) for cell in pair.path]).max(0)
        ctx.save_for_backward(positions)
        ctx.radius, ctx.shape = radius, boundary.shape
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (position,) = ctx.saved_tensors
        total = grad.new_zeros(ctx.shape)
        for p, pair in enumerate(pairs_within(ctx.radius)):
            for k, cell in enumerate(pair.path):
                at(total, cell, ctx.radius).add_(grad[:, p] * (position[:, p] == k))
        return total, None


def path_affinity(boundary: Tensor, radius: int) -> Tensor:
    """Compute affinities ``a_ij = 1 - max B(k)`` over the cells k on the path from i to j.

    ``boundary`` ``B×h×w`` in [0, 1] -> ``B×P×h'×w'``.
    """
    highest: Tensor = _PathMaximum.apply(boundary, radius)
    return 1 - highest


def pair_difference(values: Tensor, radius: int) -> Tensor:
    """Subtract the value at each neighbour from that at the source: ``...×h×w`` -> ``...×P×h'×w'``."""
    source = at(values, (0, 0), radius)
    return torch.stack([source - at(values, (pair.dy, pair.dx), radius) for pair in pairs_within(radius)], -3)
