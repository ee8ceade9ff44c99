"""The machine of a job: what may make its bytes differ from those of another."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import socket
import sys
from pathlib import Path
from typing import Any

SLURM = (
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_JOB_PARTITION"),
    *("SLURMD_NODENAME", "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT"),
)
SWITCHES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED")
SNAKEMAKE = "WSSS_SNAKEMAKE"  # environment: Snakemake's own command line
TEMPORARY = "WSSS_TEMPORARY"  # environment: kinds of results that are deleted once nothing needs them any more
SETS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "pydensecrf": "pydensecrf2", "dateutil": "python-dateutil"}


def machine(device: str) -> dict[str, Any]:
    """Describe host, processor, accelerator, switches of numerics and, under Slurm, the job.

    Args:
        device: the device that was asked for. ``wsss.devices`` knows the one that a network really used.
    """
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        **_processor(),
        "device_asked": device,
        "device": used(),
        "environment": {name: os.environ[name] for name in SWITCHES if name in os.environ},
        "threads_asked": os.environ.get("WSSS_THREADS"),
        "slurm": {name: os.environ[name] for name in SLURM if name in os.environ},
        "snakemake": os.environ.get(SNAKEMAKE),
        "temporary": os.environ.get(TEMPORARY, "").split(),
        "folder": os.getcwd(),
        "torch": _torch(),
    }


def used() -> str:
    """Return the devices that the job's networks ran on; a job without network runs on the CPU."""
    found = getattr(sys.modules.get("wsss.devices"), "USED", None)
    return ", ".join(sorted(found)) if found else "cpu"


def kind_of(found: dict[str, Any]) -> tuple[Any, ...]:
    """Return all that two machines must share for their bytes to be the same."""
    torch = found.get("torch") or {}
    on_gpu = str(found.get("device", "")).startswith("cuda")
    accelerator = (torch.get("gpu"), torch.get("cuda"), torch.get("cudnn")) if on_gpu else ()
    return (found.get("processor"), tuple(found.get("instructions") or ()), found.get("device"), *accelerator)


def repeats(found: dict[str, Any]) -> bool:
    """Tell whether a machine gives the same bytes each time: a CPU does, a GPU with deterministic kernels only."""
    on_gpu = str(found.get("device", "")).startswith("cuda")
    return not on_gpu or bool((found.get("torch") or {}).get("deterministic"))


def _processor() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"processor": platform.processor() or platform.machine(), "instructions": []}
    name = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return {
        "processor": name[1].strip() if name else platform.machine(),
        "instructions": [name for name in SETS if name in known],
    }


def _torch() -> dict[str, Any] | None:
    """Return the switches of PyTorch; None where the job did not load it."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    found = {
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()),
    }
    if not torch.cuda.is_available():
        return found
    return found | {
        "gpu": torch.cuda.get_device_name(),
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }


def _driver() -> str | None:
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def packages() -> dict[str, str]:
    """Map each distribution that this process has imported from outside the standard library to its version."""
    names = {name.partition(".")[0] for name in list(sys.modules)}
    found = {}
    for name in sorted(names - set(sys.stdlib_module_names)):
        if name.startswith("_") or name == "wsss":
            continue
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> dict[str, int]:
    """Measure the largest memory of this process, of its largest child, and of the GPU if one was used, in MiB."""
    peaks = {
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peaks["gpu"] = torch.cuda.max_memory_allocated() // 2**20
    return peaks
