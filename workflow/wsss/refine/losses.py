"""Losses of pairs of cells: affinity (AffinityNet, IRNet) and displacement (IRNet: Ahn et al., arXiv:1904.05044).

B batch, P pairs per source, h' w' sources. The source of a pair is i, its neighbour is j. Every mean is over the pairs
of its kind in the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.refine.labels import PairMarks
from wsss.refine.paths import half_disc

EPS = 1e-5


def cross_entropy_terms(affinity: Tensor, marks: PairMarks) -> dict[str, Tensor]:
    """Compute the cross entropy of affinities ``B×P×h'×w'`` under marks, weighted 1/4, 1/4, 1/2 (PSA, 3.2; IRNet)."""
    same, different = -torch.log(affinity + EPS), -torch.log(1 + EPS - affinity)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum() / (where.sum() + EPS)

    return {
        "bg": mean(same, marks.bg) / 4,
        "fg": mean(same, marks.fg) / 4,
        "neg": mean(different, marks.neg) / 2,
    }


def displacement_terms(difference: Tensor, marks: PairMarks, radius: int) -> dict[str, Tensor]:
    """Compute the loss of displacements from their differences ``D(i) - D(j)`` ``B×2×P×h'×w'``, weighted 1/2.

    Two cells of one object point at the same centroid, so their displacements differ by ``x_j - x_i``. The background
    has no centroid: there they should be equal. ``radius`` is that of the pairs, in cells.
    """
    expected = difference.new_tensor(half_disc(radius)).T.view(1, 2, -1, 1, 1)
    fg, bg = marks.fg.unsqueeze(1), marks.bg.unsqueeze(1)
    return {
        "dp_fg": ((difference - expected).abs() * fg).sum() / (2 * fg.sum() + EPS) / 2,
        "dp_bg": (difference.abs() * bg).sum() / (2 * bg.sum() + EPS) / 2,
    }
