"""Memory that does not suffice: one line with what helps, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import yaml
from commands import Training

from wsss import cli
from wsss.arguments import COMMANDS

PAGE = "CUDA out of memory. Tried to allocate 2.60 GiB. GPU 0 has a total capacity of 11.00 GiB"


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


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("deeplab", "take each batch in parts (deeplab.train.accumulate: 2), or give it more memory"),
        (
            "irn_walk",
            "take one image at a time (--config batch=1), compute it on the CPU (device=cpu), or give it more ",
        ),
        ("crf", "take fewer processes (--config workers=1), or give it more memory"),
        ("targets", "give it more memory"),
    ],
)
def test_what_helps_depends_on_the_command(name, cure, monkeypatch, capsys):
    """``batch`` and ``device`` are keys of the configuration."""
    entry = COMMANDS[name]

    def run(*_):
        raise RuntimeError("a job failed") from torch.OutOfMemoryError(PAGE)

    monkeypatch.setattr(cli, "_run", run)
    needed = [
        word
        for argument in entry.arguments
        if argument.required and argument.flag.startswith("--") and not argument.switch
        for word in (argument.flag, "x")
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main([name, *needed])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert (
        f"wsss {name}: the GPU has too little memory (CUDA out of memory. Tried to allocate 2.60 GiB): {cure}" in said
    )


def test_another_error_keeps_its_traceback(monkeypatch):
    def run(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cli, "_run", run)
    with pytest.raises(RuntimeError, match="a mistake"):
        cli.main(["targets"])
