"""Memory that does not suffice: of a GPU, of the machine, or of a job's limit."""

from __future__ import annotations

import errno

from wsss.errors import WsssError
from wsss.stages import STAGES

TORCHS = "OutOfMemoryError"  # recognised by its name, since not every command may load torch
OF_GPUS = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # what else torch says
OF_CPUS = "DefaultCPUAllocator: can't allocate memory"
MORE = "or give it more memory"


def no_memory(error: BaseException | None, command: str) -> str | None:
    """Say whose memory did not suffice for a command, and what helps; None if neither an error nor its causes say so.

    A ``WsssError`` may have such a cause, too: a file that does not fit into memory looks damaged.
    """
    while error is not None:
        if not isinstance(error, WsssError):
            text = str(error)
            if type(error).__name__ == TORCHS or any(words in text for words in OF_GPUS):
                return f"the GPU has too little memory ({_said(text)}): {_cure(command, of_gpu=True)}"
            if isinstance(error, MemoryError) or OF_CPUS in text or getattr(error, "errno", None) == errno.ENOMEM:
                what = _said(text) or type(error).__name__
                cure = _cure(command, of_gpu=False)
                return f"this machine, or the limit of this job, has too little memory ({what}): {cure}"
        error = error.__cause__ or error.__context__
    return None


def _said(text: str) -> str:
    """Return what an error says of the place and the size, without its advice."""
    sentences = text.partition("\n")[0].split(". ")
    return ". ".join(sentences[:2]).strip(" .")


def _cure(command: str, of_gpu: bool) -> str:
    """Say how a command needs less memory: a training by the settings of its section, another stage by the batch."""
    stage = STAGES.get(command)
    if stage is None:
        return MORE.removeprefix("or ")
    if stage.trains:
        loop = "train" if command == "train" else f"{stage.sections[-1]}.train"
        return f"take each batch in parts ({loop}.accumulate: 2), {MORE}"
    if stage.network and of_gpu:
        return f"take one image at a time (snakemake --config batch=1), compute it on the CPU (device=cpu), {MORE}"
    if stage.network:
        options = "snakemake --config batch=1 workers=1 loaders=0"
        return f"take one image at a time and fewer processes ({options}), {MORE}"
    return f"take fewer processes (snakemake --config workers=1), {MORE}"
