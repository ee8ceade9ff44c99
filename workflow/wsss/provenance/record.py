"""One JSON record per job, written beside what the job made.

A record holds the SHA-256 of every input and output and of the records that made the inputs, so the digest of a table's
record fixes everything below it. Snakemake's own metadata does not: it knows no output hashes, and ``--touch`` rewrites
it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from wsss.files import digest, read_json, sha256, write_json

PACKAGE = Path(__file__).parent.parent
DISTRIBUTIONS = ("torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "pydensecrf2", "timm", "snakemake")


def record_path(output: str | Path) -> Path:
    """Where the record of the job that makes ``output`` belongs: in the folder, or beside the file under its stem."""
    output = Path(output)
    return output / "record.json" if output.is_dir() or not output.suffix else output.with_suffix(".record.json")


def find_record(path: str | Path) -> Path | None:
    """The record that lists ``path`` among its outputs, or ``path`` itself if it is a record, or None."""
    path = Path(path)
    if path.name.endswith("record.json"):
        return path if path.is_file() else None
    for candidate in (record_path(path), path.parent / "record.json"):
        if candidate.is_file() and str(path) in read_json(candidate)["outputs"]:
            return candidate
    return None


@contextmanager
def recorded(command: str, inputs: list[str], outputs: list[str], config: dict | None, device: str) -> Iterator[None]:
    """Run a job in the block and leave its record, if the block ends well.

    Args:
        command: name of the sub-command.
        inputs: files and folders the job reads.
        outputs: files and folders it makes; the record goes beside the first.
    """
    started = datetime.now(UTC)
    inputs = [path for given in inputs for path in fingerprint(given)]
    parents = {str(record): sha256(record) for path in inputs if (record := find_record(path))}
    read = {path: sha256(path) for path in inputs}
    yield
    write_json(
        record_path(outputs[0]),
        {
            "command": command,
            "argv": sys.argv[1:],
            "inputs": read,
            "outputs": {path: sha256(path) for output in outputs for path in fingerprint(output)},
            "parents": parents,
            "config": config,
            "seed": (config or {}).get("seed"),
            "code": code_state(),
            "packages": {name: importlib.metadata.version(name) for name in DISTRIBUTIONS},
            "machine": machine(device),
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - started).total_seconds(), 2),
            "peak_memory_mib": peak_memory(),
        },
    )


def fingerprint(path: str | Path) -> list[str]:
    """The files that stand for ``path`` in a record.

    A folder counts file by file, without records, settings and hidden working files; a data set's folder is fixed by
    its index, which lists every image and mask with its hash.
    """
    path = Path(path)
    if not path.is_dir():
        return [str(path)]
    if (path / "index.csv").is_file():
        return [str(path / "dataset.json"), str(path / "index.csv")]
    files = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(str(p) for p in files if p.name not in ("record.json", "config.yaml"))


@functools.cache
def code_state() -> dict:
    """Commit, whether the tree was dirty, and the digest of the package's own sources (which needs no git)."""
    sources = sorted(p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".yaml"))
    tree = digest("".join(f"{p.relative_to(PACKAGE)} {sha256(p)}\n" for p in sources))
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {"commit": _git("rev-parse", "HEAD"), "dirty": dirty, "sources": tree}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def machine(device: str) -> dict:
    """Host, platform, device and, under Slurm, the job."""
    found = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "device": device,
        "slurm": {k: os.environ[k] for k in ("SLURM_JOB_ID", "SLURMD_NODENAME") if k in os.environ},
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
            found["cuda"] = torch.version.cuda
    return found


def peak_memory() -> dict:
    """Largest resident set of this process and of its largest child, and of the GPU if one was used, in MiB."""
    peaks = {
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peaks["gpu"] = torch.cuda.max_memory_allocated() // 2**20
    return peaks
