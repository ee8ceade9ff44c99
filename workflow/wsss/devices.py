"""Where networks run, in which precision, and what becomes of the memory they leave."""

from __future__ import annotations

import ctypes
import re

import torch

from wsss.errors import WsssError, choose

KNOWN = re.compile(r"auto|cpu|cuda(:[1-9]\d*)?")
PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}  # our names, and those of Lightning Fabric
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h; values below: (kept, given back as by default)
ALLOCATION = {M_MMAP_MAX: (0, 65536), M_TRIM_THRESHOLD: (-1, 128 * 1024)}


def find(device: str) -> tuple[str, int]:
    """("cpu" or "cuda", number of devices) of ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``."""
    if not KNOWN.fullmatch(device):
        raise WsssError(f"--device {device}: give auto, cpu, cuda, or cuda:<number of GPUs>, as cuda:2")
    name, _, count = device.partition(":")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise WsssError(
            f"device '{device}': no CUDA device is visible; use cpu (--device cpu, or snakemake --config device=cpu), "
            "or check CUDA_VISIBLE_DEVICES"
        )
    if name == "cpu":
        keep_freed_memory()
    return name, int(count or 1)


def keep_freed_memory(keep: bool = True) -> None:
    """Whether glibc keeps the memory of freed tensors for the next ones, or gives it back to the kernel as is its way.

    What is given back is mapped and cleared again at the next step. With another C library nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for parameter, (kept, given_back) in ALLOCATION.items():
        mallopt(parameter, kept if keep else given_back)


def for_inference(device: str, precision: str = "float32") -> tuple[torch.device, torch.autocast]:
    """The one device that a stage without training uses, and the context in which it calls its network."""
    choose(PRECISION, precision, "precision")
    where = torch.device(find(device)[0])
    return where, torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")
