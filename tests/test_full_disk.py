"""A disk, or a quota, that is full in the middle of a job: one line, and nothing that was complete is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Training

from wsss.files import write_text
from wsss.provenance import ledger


def train(folder: Path, *before: str) -> subprocess.CompletedProcess:
    paths = ("--config", "config.yaml", "--data", "data", "--out", "out")
    command = [*before, sys.executable, "-m", "wsss.cli", "train", *paths, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def inputs(tmp_path) -> Path:
    """A folder with the inputs of a training."""
    Training(tmp_path, steps=4, out="first").process.wait(600)
    return tmp_path


@pytest.mark.parametrize("room", [100, 2000, 20_000])  # the lease, the log of losses, the model
def test_a_training_that_meets_a_full_disk(inputs, room):
    stopped = train(inputs, "prlimit", f"--fsize={room}")
    assert stopped.returncode == 2, stopped.stderr
    lines = [line for line in stopped.stderr.splitlines() if line.startswith("wsss ")]
    assert len(lines) == 1
    assert "/out: no room is left on the disk, or in your quota" in lines[0]
    assert "Traceback" not in stopped.stderr
    left = {path.name for path in (inputs / "out").iterdir()}
    assert not left & {"model.pt", "record.json"}
    assert not [name for name in left if name.endswith(".pt")]
    assert ".lease" not in left  # the next job would wait for it
    if "attempts.jsonl" in left:
        assert all(json.loads(line)["event"] for line in (inputs / "out/attempts.jsonl").read_text().splitlines())

    again = train(inputs)
    assert again.returncode == 0, again.stderr
    assert (inputs / "out/model.pt").read_bytes() == (inputs / "first/model.pt").read_bytes()


def test_a_text_that_finds_no_room_leaves_the_one_before(tmp_path):
    """With a limit on the size of files, set in a process of its own."""
    write_text(tmp_path / "a.txt", "short\n")
    ledger.append(tmp_path / "attempts.jsonl", "started")
    code = f"""
from pathlib import Path
from wsss.files import no_room, write_text
from wsss.provenance import ledger
folder = Path({str(tmp_path)!r})
text = lambda: write_text(folder / "a.txt", "x" * 5000)
line = lambda: ledger.append(folder / "attempts.jsonl", "y" * 5000)
for action in (text, line):
    try:
        action()
    except OSError as error:
        assert no_room(error)
    else:
        raise AssertionError("it was written")
"""
    subprocess.run(["prlimit", "--fsize=1000", sys.executable, "-c", code], check=True)
    assert (tmp_path / "a.txt").read_text() == "short\n"
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert len((tmp_path / "attempts.jsonl").read_text().splitlines()) == 1
