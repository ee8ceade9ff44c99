"""Steps, epochs and batches of a training. This module imports no torch, since the plan counts with it, too."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from wsss.settings.sections import Loop


@dataclass(frozen=True)
class Progress:
    """The position in a training. ``epoch`` is the schedule's epoch, also when ``train.steps`` shortens it."""

    step: int
    steps: int
    epoch: int
    epochs: int


def batch_sizes(train: Loop) -> list[tuple[int, int]]:
    """List (epoch, batch size from there on), the first epoch first."""
    given = train["batch_size"]
    sizes = given if isinstance(given, dict) else {0: given}
    return sorted((int(epoch), int(size)) for epoch, size in sizes.items())


class Schedule:
    """Steps, epochs and batch sizes of a training on ``n`` images.

    ``batch_size`` is a number, or a mapping from the schedule's epoch to the size from there on. An epoch drops its
    last, incomplete batch, unless ``drop_last`` is false. ``steps`` overrides the number of updates; the schedule's
    epochs are then spread over them.
    """

    def __init__(self, n: int, train: Loop):
        self.n, self.epochs = n, train["epochs"]
        self._sizes = [(epoch, min(size, n)) for epoch, size in batch_sizes(train)]
        self._drop_last = train["drop_last"]
        per_epoch = [self._batches_of_pass(self.batch_size(epoch)) for epoch in range(self.epochs)]
        self._ends = list(accumulate(per_epoch))
        self._fixed = train["steps"]
        self.steps = int(self._fixed or self._ends[-1])
        # released poly schedules count every epoch at the batch size of the first one, even when the size grows later
        poly_epochs = train["optimizer"]["poly_epochs"] or self.epochs
        self.poly_steps = float(self.steps * (per_epoch[0] * poly_epochs) / self._ends[-1])

    def _batches_of_pass(self, size: int) -> int:
        return self.n // size if self._drop_last else -(-self.n // size)

    def batch_size(self, epoch: int) -> int:
        return [size for start, size in self._sizes if start <= epoch][-1]

    def progress(self, step: int) -> Progress:
        spread = step * self.epochs // self.steps if self._fixed else bisect_right(self._ends, step)
        return Progress(step, self.steps, spread, self.epochs)

    @property
    def images(self) -> int:
        """The number of images that all steps together look at; last batches of a pass count as full."""
        ends = self._ends
        if self._fixed:  # epoch e has the steps with e = step * epochs // steps
            ends = [-(-(epoch + 1) * self.steps // self.epochs) for epoch in range(self.epochs)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return sum(count * self.batch_size(epoch) for epoch, count in enumerate(counts))

    def batches(self, seed: int, start: int) -> Iterator[list[tuple[int, int, int]]]:
        """Yield the samples of each step from ``start`` on: (step, slot, image index); passes are permutations."""
        order, passes = np.empty(0, np.int64), 0
        for step in range(self.steps):
            size = self.batch_size(self.progress(step).epoch)
            if len(order) < (size if self._drop_last else 1):
                order = np.random.default_rng([seed, passes]).permutation(self.n)
                passes += 1
            batch, order = order[:size], order[size:]
            if step >= start:
                yield [(step, slot, int(index)) for slot, index in enumerate(batch)]
