"""Jobs that share a machine: each takes GPUs of its own and sees no other. A cluster does this itself.

A GPU is taken by a lock on a file, which the kernel gives back however the job ends. Jobs of one user see each other's
locks, those of different users do not. This module imports no torch: CUDA sees only what is set before it first looks.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWITCH = "WSSS_CLAIM_GPUS"  # environment: 1 where only this project hands out the GPUs of the machine
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOK = 1.0  # seconds between two looks for a free GPU
TAKEN: list[int] = []  # open locks, which last as long as this process


def claim(wanted: int) -> None:
    """Take ``wanted`` free GPUs for this process and those that it starts; wait until so many are free.

    Nothing happens if ``WSSS_CLAIM_GPUS`` is not 1 or no GPU is wanted, nor if the machine has too few: ``devices``
    reports that.
    """
    if os.environ.get(SWITCH) != "1" or not wanted or len(names := present()) < wanted:
        return
    found = _several(names, wanted)
    os.environ[VISIBLE] = ",".join(found)
    os.environ[SWITCH] = "0"  # processes that this one starts share its GPUs


def present() -> list[str]:
    """Name the GPUs that this process may use, as the environment or the driver lists them."""
    if (given := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return said.split()


def _several(names: list[str], wanted: int) -> list[str]:
    """Lock ``wanted`` of the GPUs. Jobs look one at a time, so that none waits with half of the GPUs that it needs."""
    folder = Path(tempfile.gettempdir(), f"wsss-gpus-{os.getuid()}", os.environ.get("SLURM_JOB_ID", ""))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = False
    while True:
        queue = _lock(folder / "queue", wait=True)
        assert queue is not None
        locks = {name: lock for name in names if (lock := _lock(folder / name)) is not None}
        chosen = list(locks)[:wanted] if len(locks) >= wanted else []
        for name, lock in locks.items():
            if name in chosen:
                TAKEN.append(lock)
            else:
                os.close(lock)
        os.close(queue)
        if chosen:
            return chosen
        if not said:
            print(f"waiting for {wanted} of {len(names)} GPUs, which other jobs have", file=sys.stderr, flush=True)
        said = True
        time.sleep(LOOK)


def _lock(path: Path, wait: bool = False) -> int | None:
    """Lock a file and return it, open; None where another has it."""
    stream = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(stream)
        return None
    return stream
