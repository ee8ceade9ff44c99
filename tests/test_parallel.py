"""Several processes train as one does, where a loss is a mean over images; compiled networks do, too."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import Training
from torch import nn

from wsss.loop import part_of
from wsss.train import Training as Trained
from wsss.train import compile_backbones, fit

STEPS = 12
CASES = {  # batches of 21 points; 4 of them end in one of a single point, too few for two processes
    "uneven": {"batch_size": 5, "drop_last": False, "accumulate": 1},
    "accumulated": {"batch_size": 4, "drop_last": True, "accumulate": 2},
}


class Regression(nn.Module):
    """Two optimizers, and losses that are means over images."""

    phases = ("weight", "bias")

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def parameter_groups(self, phase):
        return [{"params": [getattr(self.layer, phase)], "lr_scale": 1.0, "decay_scale": 1.0}]

    def active_phases(self, progress):
        return self.phases

    def losses(self, batch, phase, progress):
        predicted = self.layer(batch["x"])
        return {"l1": (predicted - batch["y"]).abs().mean(), "mse": (predicted - batch["y"]).square().mean()}


class Points:
    def __len__(self):
        return 21

    def get(self, index, rng):
        x = torch.linspace(-1, 1, 3) * index / 10 + 0.1 * torch.from_numpy(rng.normal(size=3)).float()
        return {"id": f"point{index}", "x": x, "y": x.sum()[None] * 2 + 1}


def train(case: str, out: Path, device: str) -> None:
    torch.manual_seed(1)
    optimizer = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "poly_power": 0.9, "poly_epochs": None}
    loop = {"weights": None, "start": None, "epochs": 4, "steps": STEPS, "may_skip": 0.0, "precision": "float32"}
    fit(Trained(Regression(), Points(), {**loop, **CASES[case], "optimizer": optimizer}), {"seed": 11}, out, device)


def trained(case: str, out: Path, device: str) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    """Train in a process of its own: the others are started as it was."""
    command = [sys.executable, __file__, case, str(out), device]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr[-3000:]
    rows = list(csv.DictReader((out / "losses.csv").read_text(encoding="utf-8").splitlines()))
    return rows, torch.load(out / "model.pt", weights_only=True)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_losses_and_the_model_of_one(tmp_path, case):
    (one, model), (two, shared) = trained(case, tmp_path / "1", "cpu"), trained(case, tmp_path / "2", "cpu:2")
    assert len(one) == len(two) == STEPS * 4
    for mine, theirs in zip(one, two, strict=True):
        assert {**mine, "value": ""} == {**theirs, "value": ""}
        assert float(mine["value"]) == pytest.approx(float(theirs["value"]), rel=1e-4)
    for name, value in model.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-5, atol=1e-6)
    assert not list((tmp_path / "2").glob(".losses*"))


def test_parts_cover_a_batch():
    for size in range(9):
        parts = [list(range(size))[part_of(size, rank, 3)] for rank in range(3)]
        assert [i for part in parts for i in part] == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_command_trains_in_two_processes_and_leaves_one_record(tmp_path):
    training = Training(tmp_path, "--device", "cpu:2", steps=2)
    assert training.process.wait(600) == 0, training.said()  # two that start beside each other
    assert sorted(path.name for path in training.out.iterdir() if not path.name.startswith(".")) == [
        "attempts.jsonl",
        "losses.csv",
        "model.pt",
        "record.json",
        "training.json",
    ]


def test_a_compiled_network_keeps_its_names_and_its_values(monkeypatch):
    from stages import TINY

    from wsss import backbones

    torch.manual_seed(0)
    network = backbones.build(TINY).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        names, expected = list(network.state_dict()), network(x)["conv6"]
        compile_backbones(nn.Sequential(network))
        assert network._compiled_call_impl is not None
        torch.testing.assert_close(network(x)["conv6"], expected, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == names


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
