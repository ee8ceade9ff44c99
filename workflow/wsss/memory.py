"""Memory that does not suffice: of a GPU, of the machine, or of a job's limit."""

from __future__ import annotations

from wsss.stages import STAGES

OF_GPUS = "OutOfMemoryError"  # torch's; it is told by its name, since not every command may load torch
OF_CPUS = "DefaultCPUAllocator: can't allocate memory"
MORE = "or give it more memory"


def no_memory(error: BaseException | None) -> str | None:
    """Say whose memory did not suffice, and for what, if that is what an error, or one that it came from, is."""
    while error is not None:
        if type(error).__name__ == OF_GPUS:
            return f"the GPU has too little memory ({_said(error)})"
        if isinstance(error, MemoryError) or OF_CPUS in str(error):
            return f"this machine, or the limit of this job, has too little memory ({_said(error)})"
        error = error.__cause__ or error.__context__
    return None


def _said(error: BaseException) -> str:
    """Return what an error says of the place and the size, without its advice."""
    sentences = str(error).partition("\n")[0].split(". ")
    return ". ".join(sentences[:2]).strip(" .") or type(error).__name__


def cure(command: str) -> str:
    """Say how a command needs less memory: a training by the settings of its section, another stage by the batch."""
    stage = STAGES.get(command)
    if stage is None:
        return MORE.removeprefix("or ")
    if stage.trains:
        loop = "train" if command == "train" else f"{stage.sections[-1]}.train"
        return f"take each batch in parts ({loop}.accumulate: 2), {MORE}"
    if stage.network:
        return f"take one image at a time (--config batch=1), compute it on the CPU (device=cpu), {MORE}"
    return f"take fewer processes (--config workers=1), {MORE}"
