"""Memory that does not suffice: one line with what helps, and no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch
import yaml
from commands import Training

from wsss import cli
from wsss.arguments import COMMANDS
from wsss.checkpoints import Checkpoints
from wsss.errors import WsssError

OF_GPU = "CUDA out of memory. Tried to allocate 2.60 GiB. GPU 0 has a total capacity of 11.00 GiB"


def test_a_training_that_meets_the_limit_of_its_job(tmp_path):
    """The limit is of this process; the crop would take gigabytes."""
    Training(tmp_path, steps=1).process.wait(600)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["train"]["crop"] = 60_000
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    paths = ("--config", "config.yaml", "--data", "data", "--out", "large", "--device", "cpu")
    command = ["prlimit", f"--as={8 << 30}", sys.executable, "-m", "wsss.cli", "train", *paths]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("wsss train: ")]
    assert line.startswith("wsss train: this machine, or the limit of this job, has too little memory (")
    assert line.endswith("): take each batch in parts (train.accumulate: 2), or give it more memory")
    assert "Traceback" not in result.stderr


def ended(name, error, monkeypatch, capsys) -> str:
    """What a command says that an error ends."""
    entry = COMMANDS[name]

    def run(*_):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    needed = [
        word
        for argument in entry.arguments
        if argument.required and argument.flag.startswith("--") and not argument.switch
        for word in (argument.flag, "x")
    ]
    with pytest.raises(SystemExit) as exit_of:
        cli.main([name, *needed])
    assert exit_of.value.code == 2
    return capsys.readouterr().err


def after(error: Exception, cause: Exception) -> Exception:
    """An error that another one led to."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("name", "of_gpu", "of_machine"),
    [
        ("deeplab", *["take each batch in parts (deeplab.train.accumulate: 2), or give it more memory"] * 2),
        (
            "irn_walk",
            "take one image at a time (snakemake --config batch=1), compute it on the CPU (device=cpu), or",
            "take one image at a time and fewer processes (snakemake --config batch=1 workers=1 loaders=0), or",
        ),
        ("crf", None, "take fewer processes (snakemake --config workers=1), or give it more memory"),
        ("targets", None, "give it more memory"),
    ],
)
def test_what_helps_depends_on_the_command_and_on_whose_memory_it_is(name, of_gpu, of_machine, monkeypatch, capsys):
    """``batch`` and ``device`` are keys of the configuration."""
    if of_gpu:
        error = after(RuntimeError("a job failed"), torch.OutOfMemoryError(OF_GPU))
        said = ended(name, error, monkeypatch, capsys)
        what = "the GPU has too little memory (CUDA out of memory. Tried to allocate 2.60 GiB)"
        assert said.startswith(f"wsss {name}: {what}: {of_gpu}")
    said = ended(name, MemoryError("Unable to allocate 9 GiB"), monkeypatch, capsys)
    what = "this machine, or the limit of this job, has too little memory (Unable to allocate 9 GiB)"
    assert said.startswith(f"wsss {name}: {what}: {of_machine}")


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "the GPU"),  # no room for a context
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "the GPU"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "this machine"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine"),  # of a process that could not start
    ],
)
def test_memory_that_lacks_has_other_names(error, whose, monkeypatch, capsys):
    assert ended("train", error, monkeypatch, capsys).startswith(f"wsss train: {whose}")


def test_a_file_that_memory_does_not_suffice_for_is_not_called_damaged(tmp_path, monkeypatch, capsys):
    checkpoint = tmp_path / "checkpoint.pt"

    def load(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(WsssError, match="not a readable checkpoint") as found:
        Checkpoints(None, checkpoint, None, {}, "", 1)._read()
    said = ended("train", found.value, monkeypatch, capsys)
    assert said.startswith("wsss train: this machine, or the limit of this job, has too little memory (")
    assert "delete" not in said


def test_another_error_keeps_its_traceback(monkeypatch):
    def run(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(RuntimeError, match="a mistake"):
        cli.main(["targets"])
