"""IRNet's losses (Ahn et al., CVPR 2019, arXiv:1904.05044).

B batch, h w cells, P pairs per source, h' w' sources; i is the source of a pair, j its neighbour. Every mean runs over
the pairs of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.refine.labels import PairMarks
from wsss.refine.paths import half_disc

EPS = 1e-5
WEIGHTS = {"boundary_bg": 1 / 4, "boundary_fg": 1 / 4, "boundary_neg": 1 / 2, "dp_fg": 1 / 2, "dp_bg": 1 / 2}


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / (where.sum() + EPS)


def boundary_terms(affinity: Tensor, marks: PairMarks) -> dict[str, Tensor]:
    """Class boundaries: cross entropy of path affinities ``B×P×h'×w'``, before the weights 1/4, 1/4, 1/2."""
    same, different = -torch.log(affinity + EPS), -torch.log(1 + EPS - affinity)
    return {
        "boundary_bg": _mean(same, marks.bg),
        "boundary_fg": _mean(same, marks.fg),
        "boundary_neg": _mean(different, marks.neg),
    }


def displacement_terms(difference: Tensor, marks: PairMarks, radius: int) -> dict[str, Tensor]:
    """Displacement field, on ``D(i) - D(j)`` ``B×2×P×h'×w'``, before the weight 1/2.

    Two cells of one object point at the same centroid, so their displacements differ by ``x_j - x_i``; on the
    background, which has none, they shall be equal.
    """
    expected = difference.new_tensor(half_disc(radius)).T.view(1, 2, -1, 1, 1)
    fg, bg = marks.fg.unsqueeze(1), marks.bg.unsqueeze(1)
    return {
        "dp_fg": ((difference - expected).abs() * fg).sum() / (2 * fg.sum() + EPS),
        "dp_bg": (difference.abs() * bg).sum() / (2 * bg.sum() + EPS),
    }
