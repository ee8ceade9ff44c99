"""The losses of a training, step by step, on their way into ``losses.csv``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wsss.errors import WsssError
from wsss.files import atomic

if TYPE_CHECKING:
    from wsss.schedule import Progress

CURE = "lower this training's optimizer.lr, or look at these images"
SKIPPED = "skipped"  # in place of the terms of an update that was left out


class LossLog:
    """Write ``losses.csv``: one row per step, phase and term. A training writes it under a hidden name until it ends.

    An update that was left out has one row, of the term ``skipped``. The attribute ``skipped`` counts all of them, also
    those before a resumption.
    """

    FIELDS = ("step", "epoch", "phase", "term", "value")

    def __init__(self, path: Path, first_step: int, may_skip: int = 0):
        self.path, self.may_skip = path, may_skip
        kept: list[list[str]] = []
        if first_step and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                kept = [row for row in csv.reader(stream) if row and row[0].isdigit() and int(row[0]) < first_step]
        with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([self.FIELDS, *kept])
        self.skipped = sum(row[3] == SKIPPED for row in kept)
        self._pending: list[tuple[Progress, list[str], str, dict[str, Tensor]]] = []

    def add(self, progress: Progress, ids: list[str], phase: str, losses: dict[str, Tensor]) -> None:
        """Keep the losses of a step until the next :meth:`flush`; ``ids`` are the ids of its images."""
        self._pending.append((progress, ids, phase, {term: value.detach() for term, value in losses.items()}))

    def skip(self, progress: Progress, ids: list[str], phase: str, losses: dict[str, Tensor]) -> None:
        """Count and report an update that was left out; one too many ends the training."""
        self.skipped += 1
        values = ", ".join(f"{term} {float(value):.3g}" for term, value in losses.items())
        about = f"step {progress.step}, {phase}: a loss is no number ({values}; images {', '.join(ids)})"
        print(f"{about}; left out, {self.skipped} of at most {self.may_skip}", file=sys.stderr)
        if self.skipped > self.may_skip:
            raise WsssError(f"{about}, {self.skipped} times by now: {CURE}")
        self._pending.append((progress, ids, phase, {SKIPPED: torch.tensor(1.0)}))

    def flush(self) -> dict[str, float]:
        """Write what came since the last flush and return the means; a value that is not finite ends the training."""
        rows: list[tuple[int, int, str, str, str]] = []
        values: dict[str, list[float]] = {}
        for progress, ids, phase, losses in self._pending:
            for term, value in losses.items():
                number = float(value)
                if not np.isfinite(number):
                    raise WsssError(
                        f"loss '{term}' is {number} at step {progress.step}, images {', '.join(ids)}: {CURE}"
                    )
                rows.append((progress.step, progress.epoch, phase, term, f"{number:.6g}"))
                values.setdefault(term, []).append(number)
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        self._pending.clear()
        return {term: float(np.mean(numbers)) for term, numbers in values.items()}
