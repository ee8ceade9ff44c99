"""Commands of the project as real processes, on a few made-up images."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from toys import photograph

from wsss.data.index import Dataset, Record
from wsss.plan.layers import Layer
from wsss.plan.resolve import resolve

NETWORK = {"name": "tiny", "weights": None, "output_stride": None, "dropout": None, "freeze": [], "freeze_norm": False}
QUICK = {"crop": 32, "long_side": [32, 40], "steps": 300, "batch_size": 2}
PATIENCE = 120  # seconds; a guard against hanging, also on a machine that is busy


class Training:
    """``wsss train`` on four images, in a process group of its own.

    Args:
        folder: where its inputs and its results are.
        out: the name of its results.
        options: more options of the command.
        environment: more variables.
        steps: how long it lasts.
    """

    def __init__(
        self, folder: Path, *options: str, out: str = "out", steps: int = 300, environment: dict[str, str] | None = None
    ):
        self.out = folder / out
        _write_inputs(folder, {**QUICK, "steps": steps})
        paths = ("--config", folder / "config.yaml", "--data", folder / "data", "--out", self.out)
        command = [sys.executable, "-m", "wsss.cli", "train", *map(str, paths), *options]
        log = (folder / f"{out}.{time.monotonic_ns()}.log").open("w+")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self._log = Path(log.name)
        log.close()

    def said(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def steps(self) -> int:
        """The steps that are in its log of losses."""
        log = self.out / ".losses.0.csv"
        return max(len(log.read_text().splitlines()) - 1, 0) if log.exists() else 0

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Wait until a condition holds while the command runs; returns its value."""
        return wait_for(lambda: condition() or (self.process.poll() is not None and self.fail()))

    def fail(self) -> None:
        raise AssertionError(f"ended with {self.process.returncode}: {self.said()}")

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(PATIENCE)

    def children(self) -> list[int]:
        """Process ids of the processes that it started."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout
        return [int(word) for word in found.split()]


def _write_inputs(folder: Path, train: dict[str, Any]) -> None:
    if not (folder / "data").exists():
        photograph(40, 32).save(folder / "0.png")
        records = [Record(str(i), "0.png", None, ("train",), ("cat",), 40, 32, "", None) for i in range(4)]
        Dataset("toy", ["cat", "dog"], folder, records).save(folder / "data")
    config = {
        "stage": "train",
        "seed": 0,
        "dataset": {"name": "toy", "splits": {"train": "train", "measured": "train", "val": "train"}},
        **resolve("cam", [Layer("test", {"backbone": NETWORK, "train": train})]),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def wait_for(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait until a condition holds; returns its value."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def is_alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
