"""The device and precision that networks run in, and the memory of freed tensors."""

from __future__ import annotations

import ctypes
import re

import torch

from wsss.errors import WsssError, choose

KNOWN = re.compile(r"auto|cpu|cuda(:[1-9]\d*)?")
USED: set[str] = set()  # the devices that this process was given, for the record of its job
PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}  # our names, and those of Lightning Fabric
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h; values below: (kept, given back as by default)
ALLOCATION = {M_MMAP_MAX: (0, 65536), M_TRIM_THRESHOLD: (-1, 128 * 1024)}


def find(device: str) -> tuple[str, int]:
    """Find the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>`` means.

    Returns:
        ``"cpu"`` or ``"cuda"``, and the number of devices.

    Raises:
        WsssError: ``device`` is none of these, or there is no CUDA device.
    """
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
    USED.add(name if int(count or 1) == 1 else f"{name}:{count}")
    return name, int(count or 1)


def keep_freed_memory(keep: bool = True) -> None:
    """Let glibc keep the memory of freed tensors for the next ones, or return it to the kernel as it does by default.

    Returned memory must be mapped and cleared again at the next step. With another C library nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for parameter, (kept, given_back) in ALLOCATION.items():
        mallopt(parameter, kept if keep else given_back)


def on(device: str) -> torch.device:
    """Return the one device that a stage without training uses.

    Raises:
        WsssError: the device is unknown, or there is no CUDA device.
    """
    return torch.device(find(device)[0])


def autocast_on(where: torch.device, precision: str) -> torch.autocast:
    """Return the context to call a network in.

    Raises:
        WsssError: the precision is unknown.
    """
    choose(PRECISION, precision, "precision")
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def for_inference(device: str, precision: str = "float32") -> tuple[torch.device, torch.autocast]:
    """Return the one device that a stage without training uses, and the context to call its network in.

    Raises:
        WsssError: the device or the precision is unknown, or there is no CUDA device.
    """
    where = on(device)
    return where, autocast_on(where, precision)
