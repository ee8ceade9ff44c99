"""The cost of a job's record beside that of the job: without hashing, and for a given number of megabytes.

    python benchmarks/record.py            # 10 jobs, and 10 with 64 MB of inputs each

Each job is a process of its own that has loaded what a training loads. It reads the result of another job and writes
one byte, so its time is that of the record: looking at inputs, at their records, at the code and at the repository,
loading what this needs, writing. The first job of a new version of the package parses its code and keeps the digests;
it is reported separately. The last line is the time of hashing the inputs alone over that of the whole job with its
record.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def job(folder: Path, number: int, inputs: list[str]) -> tuple[float, float]:
    """Run a job in a process; returns its seconds and its CPU seconds, those of its children included."""
    command = [sys.executable, __file__, "--job", str(number), "--inputs", *inputs]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds, cpu = map(float, result.stdout.split())
    return seconds, cpu


def run_job(number: int, inputs: list[str]) -> None:
    """Do the work of such a process: run the job, and print its seconds and CPU seconds."""
    import torch  # noqa: F401

    import wsss.cli
    import wsss.run_training  # noqa: F401

    start, before = time.perf_counter(), sum(os.times()[:4])
    from wsss.provenance.record import recorded

    out = Path(f"results/toy/seam/seam/seed{number}/train")
    with recorded("train", inputs, [str(out)], {"stage": "train", "seed": number}, "cpu"):
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.pt").write_bytes(b"0")
    print(time.perf_counter() - start, sum(os.times()[:4]) - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--inputs", nargs="*", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job is not None:
        return run_job(args.job, args.inputs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        data = folder / "weights.pth"
        data.write_bytes(os.urandom(args.megabytes * 2**20))
        first, _ = job(folder, 0, [])
        below = "results/toy/seam/seam/seed0/train/model.pt"
        plain = [job(folder, at, [below]) for at in range(1, args.jobs + 1)]
        whole = statistics.median(job(folder, at, [below, str(data)])[0] for at in range(1, args.jobs + 1))
        start = time.perf_counter()
        with data.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
        hashing = time.perf_counter() - start
    seconds, cpu = (1000 * statistics.median(values) for values in zip(*plain, strict=True))
    print(f"first job of a version of the package: {1000 * first:.0f} ms")
    print(f"with {args.megabytes} MB of inputs: {1000 * whole:.0f} ms, of which hashing {1000 * hashing:.0f} ms")
    print(f"record {seconds:.0f} ms, of CPU time {cpu:.0f} ms, without hashing")
    print(f"ratio {hashing / whole:.4f}")
    return None


if __name__ == "__main__":
    main()
