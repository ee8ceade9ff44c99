"""The cost of a job's record beside that of the job: without hashing, and for a given number of megabytes.

    python benchmarks/record.py            # 20 jobs with 64 MB of inputs each

The first job of a new version of the package parses its code and keeps the digests; it is told apart. The last line is
the time of hashing the inputs alone over that of the whole job with its record.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch  # noqa: F401  a job has loaded it by the time its record is written

from wsss.provenance.record import recorded


def job(folder: Path, number: int, inputs: list[str]) -> float:
    """Seconds that a job takes which writes one byte."""
    out = folder / f"results/toy/seam/seam/seed{number}/train"
    start = time.perf_counter()
    with recorded("train", inputs, [str(out)], {"stage": "train", "seed": number}, "cpu"):
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.pt").write_bytes(b"0")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        data = folder / "weights.pth"
        data.write_bytes(os.urandom(args.megabytes * 2**20))
        first = job(folder, 0, [])
        plain = statistics.median(job(folder, i, []) for i in range(1, args.jobs + 1))
        whole = statistics.median(job(folder, i, [str(data)]) for i in range(1, args.jobs + 1))
        start = time.perf_counter()
        with data.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")
        hashing = time.perf_counter() - start
    print(f"first job of a version of the package: {1000 * first:.0f} ms")
    print(f"with {args.megabytes} MB of inputs: {1000 * whole:.0f} ms, of which hashing {1000 * hashing:.0f} ms")
    print(f"record {1000 * plain:.0f} ms, without hashing")
    print(f"ratio {hashing / whole:.2f}")


if __name__ == "__main__":
    main()
