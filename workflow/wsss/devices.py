"""The device and the precision that networks run in, the choice of kernels, and the memory of freed tensors."""

from __future__ import annotations

import ctypes
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from wsss import gpus
from wsss.errors import WsssError, choose
from wsss.provenance import ledger

ASKED = "WSSS_GPUS"  # environment: the number of GPUs that the job asked for
LACKS_GPU = "lacks GPU"  # event of the ledger
KNOWN = re.compile(r"auto|(cpu|cuda)(:[1-9]\d*)?")
AT_ONCE = {"cpu": 1, "cuda": 4}  # images that inference takes at once, where nothing else is said
CUBLAS = ":4096:8"  # its workspaces, for the same bits each time; docs.nvidia.com/cuda/cublas, Results reproducibility
Net = TypeVar("Net", bound=nn.Module)
USED: set[str] = set()  # the devices that this process was given, for the record of its job
PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}  # our names, and those of Lightning Fabric
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h; below: (the value that keeps memory, glibc's default)
ALLOCATION = {M_MMAP_MAX: (0, 65536), M_TRIM_THRESHOLD: (-1, 128 * 1024)}


def find(device: str) -> tuple[str, int]:
    """Find the device that ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``cpu:<n>`` means.

    ``auto`` means the GPUs that the job asked for. The CPU is taken only if the job asked for no GPU and none is there.
    A job that shares a machine with others sees only the GPUs that it asked for, from here on (``wsss.gpus``).

    Returns:
        ``"cpu"`` or ``"cuda"``, and the number of devices; ``cpu:<n>`` are n processes, which only trainings start.

    Raises:
        WsssError: ``device`` is none of these, or there are fewer CUDA devices than that.
    """
    if not KNOWN.fullmatch(device):
        raise WsssError(f"--device {device}: give auto, cpu, cuda, or cuda:<number of GPUs>, as cuda:2")
    name, _, number = device.partition(":")
    if name != "cpu":
        gpus.claim(asked_for())
    asked, visible = asked_for(), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name, number = ("cuda", str(asked)) if asked else ("cuda" if visible else "cpu", "")
    count = int(number or 1)
    if name == "cuda" and visible < count:
        raise _lacking(device, asked, visible)
    if name == "cpu":
        keep_freed_memory()
    USED.add(name if count == 1 else f"{name}:{count}")
    return name, count


def asked_for() -> int:
    """Return the number of GPUs that this job asked a cluster, or the machine, for."""
    return int(os.environ.get(ASKED) or 0)


def node() -> str:
    """Return the name that a cluster has for this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _lacking(device: str, asked: int, visible: int) -> WsssError:
    """Return the error of a job without its GPU, and note the node, so that the next attempt goes elsewhere."""
    few = {0: "no CUDA device is visible", 1: "only 1 CUDA device is visible"}
    seen = few.get(visible, f"only {visible} CUDA devices are visible")
    if not asked:
        return WsssError(
            f"device '{device}': {seen}; use cpu (--device cpu, or snakemake --config device=cpu), "
            "or check CUDA_VISIBLE_DEVICES"
        )
    ledger.note(LACKS_GPU, node=node(), asked=asked, visible=visible)
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    return WsssError(
        f"the job asked for {asked} GPU{'s'[: asked != 1]}, but {seen} on {node()} (CUDA_VISIBLE_DEVICES: {given}); "
        "tell the machine's administrator, or compute without GPU: snakemake --config device=cpu"
    )


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


def placed(net: Net, where: torch.device) -> Net:
    """Move a network to where it is to compute. On a GPU its weights are channels-last, which convolutions like best.

    On the CPU they stay as they are, so that results keep their bytes.
    """
    net = net.to(where)
    return net.to(memory_format=torch.channels_last) if where.type == "cuda" else net


def at_once(batch: int | None, where: torch.device) -> int:
    """Return the number of images that inference takes at once: ``batch``, or what suits the device.

    One on the CPU, where a batch is no faster and changes the last bits.
    """
    return batch or AT_ONCE[where.type]


def choose_kernels(where: torch.device, deterministic: bool, fixed_shapes: bool) -> None:
    """Choose between fast kernels of a GPU and those that give the same bits each time. A CPU has only the latter.

    Args:
        where: the device.
        deterministic: only kernels that give the same bits. An operation without one is an error.
        fixed_shapes: inputs keep their size, so that it pays to try which kernel is fastest. Which one wins may differ
            from run to run, so ``deterministic`` does without.
    """
    if where.type != "cuda":
        return
    torch.backends.cudnn.benchmark = fixed_shapes and not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS)  # before the first product; what cuBLAS asks for


@contextmanager
def told_what_lacks_kernels() -> Iterator[None]:
    """Say in one line that an operation has no deterministic kernel.

    Raises:
        WsssError: an operation in the block has none, and deterministic ones were asked for.
    """
    try:
        yield
    except RuntimeError as error:
        if not torch.are_deterministic_algorithms_enabled() or "deterministic" not in str(error):
            raise
        line = str(error).splitlines()[0].partition(". You can")[0]
        raise WsssError(f"{line}; compute without --deterministic (snakemake --config deterministic=False)") from None
