"""The state of a training on disk, from which a stopped training goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wsss.backbones.models import save_state
from wsss.errors import WsssError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer


@dataclass
class Checkpoints:
    """The checkpoint of a training, one file: each new state takes the place of the one before.

    Args:
        fabric: the processes that train; the first of them writes.
        path: the file.
        module: the task that is trained.
        optimizers: the optimizer of each phase.
        basis: digest of everything that decides the result. A checkpoint with another basis is not used.
        minutes: time between two checkpoints.
    """

    fabric: Fabric
    path: Path
    module: nn.Module
    optimizers: Mapping[str, Optimizer]
    basis: str
    minutes: float
    _written: float = field(default_factory=time.monotonic, init=False)

    def overdue(self) -> bool:
        """Tell whether it is time for the next one."""
        return time.monotonic() - self._written >= 60 * self.minutes

    def write(self, step: int) -> None:
        """Write the state after ``step`` steps."""
        if self.fabric.is_global_zero:
            save_state(self._state(step), self.path)
        self.fabric.barrier()
        self._written = time.monotonic()

    def _state(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        states = {}
        for phase, optimizer in self.optimizers.items():
            states[phase] = optimizer.state_dict()
        return {
            "step": step,
            "settings": self.basis,
            "model": self.module.state_dict(),
            "optimizers": states,
        }

    def resume(self) -> int:
        """Load the checkpoint, if there is one of the same basis, and return the step to go on from.

        Raises:
            WsssError: the file cannot be read.
        """
        if not self.path.exists():
            return 0
        state = self._read()
        if state["settings"] != self.basis:
            print(f"{self.path}: belongs to other settings, inputs or code, starting at step 0", file=sys.stderr)
            return 0
        self.module.load_state_dict(state["model"])
        for phase, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][phase])
        return int(state["step"])

    def _read(self) -> dict[str, Any]:
        """Read the file."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can fail in any way; the cure is the same
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise self._unreadable(why) from None
        if not isinstance(state, dict) or not self._state(0).keys() <= state.keys():
            raise self._unreadable("it lacks parts of a checkpoint")
        return state

    def _unreadable(self, why: str) -> WsssError:
        """Return the error of a file that is no checkpoint."""
        return WsssError(f"{self.path}: not a readable checkpoint ({why}); delete it to start again")
