"""Where networks run and in which precision."""

from __future__ import annotations

import re

import torch

from wsss.errors import WsssError, choose

KNOWN = re.compile(r"auto|cpu|cuda(:[1-9]\d*)?")
PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}  # our names, and those of Lightning Fabric


def find(device: str) -> tuple[str, int]:
    """("cpu" or "cuda", number of devices) of ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``."""
    if not KNOWN.fullmatch(device):
        raise WsssError(f"--device {device}: give auto, cpu, cuda, or cuda:<number of GPUs>, as cuda:2")
    name, _, count = device.partition(":")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise WsssError(
            f"device '{device}': no CUDA device is visible; use --device cpu, or check CUDA_VISIBLE_DEVICES"
        )
    return name, int(count or 1)


def for_inference(device: str, precision: str = "float32") -> tuple[torch.device, torch.autocast]:
    """The one device that a stage without training uses, and the context in which it calls its network."""
    choose(PRECISION, precision, "precision")
    where = torch.device(find(device)[0])
    return where, torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")
