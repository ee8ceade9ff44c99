"""The epoch that a training keeps if it is not the last one: the scores of epochs, and the best state so far."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from wsss.backbones.models import fill, save_model
from wsss.files import read_json, write_json

if TYPE_CHECKING:
    from wsss.schedule import Schedule


class Choice(NamedTuple):
    """How the epoch that is kept is chosen.

    Args:
        score: the score of the task in its present state, the higher the better. It may change the task's mode.
        every: every so many epochs, one is scored. The last epoch always is.
        first: the first epoch that is scored, counted from 0.
        protocol: what a score is, in words.
    """

    score: Callable[[Any], float]
    every: int
    first: int
    protocol: str

    def due(self, schedule: Schedule, done: int) -> bool:
        """Tell whether the state after ``done`` steps is scored."""
        if done == schedule.steps:
            return True
        epoch = schedule.progress(done - 1).epoch
        ended = schedule.progress(done).epoch > epoch
        return ended and epoch >= self.first and (epoch - self.first) % self.every == 0


class Scored:
    """The scores of a training's epochs and the best state so far, in hidden files until the training ends.

    Each best state has a file of its own, which stays until a checkpoint knows of a better one. So a training that is
    resumed from that checkpoint finds the state that was the best then.
    """

    def __init__(self, out_dir: Path, choice: Choice, first_step: int):
        self.folder, self.choice, self.path = out_dir, choice, out_dir / ".scores.json"
        known = read_json(self.path)["scores"] if first_step and self.path.exists() else []
        self.scores: list[dict[str, Any]] = [score for score in known if score["step"] <= first_step]
        self.tidy()

    @property
    def best(self) -> int:
        """The step after which the score was the highest, the first of equals; 0 before any."""
        return max(self.scores, key=lambda found: found["score"])["step"] if self.scores else 0

    def add(self, task: nn.Module, done: int, epoch: int) -> None:
        """Score the state after ``done`` steps, and keep it if it is the best so far."""
        score = self.choice.score(task)
        self.scores.append({"step": done, "epoch": epoch, "score": score})
        print(f"epoch {epoch}, step {done}: {score:.4f}, {self.choice.protocol}", file=sys.stderr)
        if self.best == done:
            save_model(task, self._state(done))
        write_json(self.path, {"scores": self.scores})

    def restore(self, task: nn.Module) -> None:
        """Give the task its best state."""
        fill(task, self._state(self.best), "its own best state")

    def tidy(self, everything: bool = False) -> None:
        """Delete the states that are not the best; with ``everything`` also the best one and the scores."""
        for path in self.folder.glob(".best-*.pt"):
            if everything or path != self._state(self.best):
                path.unlink()
        if everything:
            self.path.unlink()

    def about(self) -> dict[str, Any]:
        """Return what ``training.json`` says of the choice."""
        return {"protocol": self.choice.protocol, "scores": self.scores, "kept": self.best}

    def _state(self, step: int) -> Path:
        return self.folder / f".best-{step}.pt"
