"""The training loop: the same bytes however it is interrupted, and a clear stop when it must."""

from __future__ import annotations

import copy
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from wsss.checkpoints import Checkpoints
from wsss.data.index import Dataset, Record
from wsss.errors import Stopped, WsssError
from wsss.files import read_json, sha256
from wsss.loaders import collate
from wsss.loop import poly, split
from wsss.methods import build
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings
from wsss.schedule import Schedule
from wsss.train import Choice, Training, fit, start_from

TRAIN = {
    "weights": None,
    "start": None,
    "epochs": 4,
    "steps": None,
    "batch_size": 4,
    "drop_last": True,
    "accumulate": 1,
    "may_skip": 0.0,
    "precision": "float32",
    "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "poly_power": 0.9, "poly_epochs": None},
}
CONFIG = {"seed": 11, "method": {"alpha": 0.05}}


class Regression(nn.Module):
    """A task with dropout and two optimizers, so that generator state and both schedules matter."""

    phases = ("weight", "bias")

    def __init__(self, pause: float = 0.0):
        super().__init__()
        self.layer, self.pause = nn.Linear(3, 1), pause

    def parameter_groups(self, phase):
        return [{"params": [getattr(self.layer, phase)], "lr_scale": 1.0, "decay_scale": 1.0}]

    def active_phases(self, progress):
        return self.phases if progress.epoch else self.phases[:1]

    def losses(self, batch, phase, progress):
        time.sleep(self.pause)
        predicted = self.layer(nn.functional.dropout(batch["x"], 0.3))
        return {"mse": nn.functional.mse_loss(predicted, batch["y"])}


class Points:
    def __init__(self, n=22, bad: int | None = None):
        self.x = torch.from_numpy(np.random.default_rng(3).normal(size=(n, 3)).astype(np.float32))
        self.bad = bad

    def __len__(self):
        return len(self.x)

    def get(self, index, rng):
        x = self.x[index] + torch.from_numpy(rng.normal(size=3).astype(np.float32)) * 0.1
        y = torch.tensor([float("nan")]) if index == self.bad else x.sum()[None]
        return {"id": f"point{index}", "x": x, "y": y}


def train_once(out: Path, pause: float = 0.0, method: dict | None = None, loaders: int = 0, **changes) -> Path:
    torch.manual_seed(1)
    config = {**CONFIG, "method": method or CONFIG["method"]}
    training = Training(Regression(pause), Points(), {**TRAIN, **changes})
    with mock.patch("wsss.train.CHECKPOINT_MINUTES", 0):
        return fit(training, config, out, "cpu", loaders)


def test_same_run_gives_the_same_bytes(tmp_path):
    assert sha256(train_once(tmp_path / "a")) == sha256(train_once(tmp_path / "b"))
    assert (tmp_path / "a/losses.csv").read_bytes() == (tmp_path / "b/losses.csv").read_bytes()


def test_loader_processes_do_not_change_the_result(tmp_path):
    assert sha256(train_once(tmp_path / "a")) == sha256(train_once(tmp_path / "b", loaders=2))


def test_another_seed_gives_another_result(tmp_path):
    torch.manual_seed(1)
    other = fit(Training(Regression(), Points(), TRAIN), {**CONFIG, "seed": 12}, tmp_path / "b", "cpu")
    assert sha256(train_once(tmp_path / "a")) != sha256(other)


def interrupted(out: Path, how: signal.Signals) -> subprocess.Popen:
    """Start the same training in a process of its own and end it once it has a checkpoint."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
    code += f"from test_train import train_once; train_once(Path({str(out)!r}), pause=0.05)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600  # a guard against hanging, also on a machine that is busy
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, process.errors = process.communicate(timeout=300)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path, how):
    process = interrupted(tmp_path / "stopped", how)
    assert process.returncode != 0
    assert not (tmp_path / "stopped/model.pt").exists()
    assert not (tmp_path / "stopped/losses.csv").exists()  # a declared output, which the workflow would remove
    resumed, whole = train_once(tmp_path / "stopped"), train_once(tmp_path / "whole")
    assert sha256(resumed) == sha256(whole)
    assert (tmp_path / "stopped/losses.csv").read_bytes() == (tmp_path / "whole/losses.csv").read_bytes()
    assert not (tmp_path / "stopped/checkpoint.pt").exists()


def test_what_is_left_to_do_is_part_of_the_model(tmp_path):
    def halve(task):
        task.layer.weight.data.mul_(0.5)

    def fail(task):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(Training(Regression(), Points(), TRAIN, fail), CONFIG, tmp_path / "a", "cpu")
    assert not (tmp_path / "a/model.pt").exists()  # no model that lacks its last step
    torch.manual_seed(1)
    path = fit(Training(Regression(), Points(), TRAIN, halve), CONFIG, tmp_path / "a", "cpu")
    finished = torch.load(path, weights_only=True)
    plain = torch.load(train_once(tmp_path / "b"), weights_only=True)
    assert torch.equal(finished["layer.weight"], plain["layer.weight"] / 2)


# ---- what a training starts from


def started_from(path: Path, out: Path, steps: int = 1) -> dict[str, torch.Tensor]:
    """The model after a training of a few steps, with hardly any rate, that starts from a file."""
    optimizer = {**TRAIN["optimizer"], "lr": 1e-12}
    return torch.load(train_once(out, start=str(path), steps=steps, optimizer=optimizer), weights_only=True)


def test_a_training_can_start_from_the_model_of_another(tmp_path):
    before = torch.load(train_once(tmp_path / "first"), weights_only=True)
    after = started_from(tmp_path / "first/model.pt", tmp_path / "second")
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())


@pytest.mark.parametrize(
    ("state", "first"),
    [
        ({"layer.weight": torch.zeros(1, 3)}, "'layer.bias'"),
        ({"layer.weight": torch.zeros(1, 3), "layer.bias": torch.zeros(2)}, "'layer.bias'"),
        ({"layer.weight": torch.zeros(1, 3), "layer.bias": torch.zeros(1), "head": torch.zeros(1)}, "'head'"),
    ],
    ids=["name", "shape", "more"],
)
def test_a_start_whose_tensors_differ_is_one_line(tmp_path, one_line, state, first):
    torch.save(state, tmp_path / "other.pt")
    one_line(lambda: started_from(tmp_path / "other.pt", tmp_path / "out"), "other.pt", "1 tensors differ", first)


def test_a_training_can_start_from_the_authors_file_of_the_whole_classifier(tmp_path, capsys):
    classifier = build({**method_settings("cam"), "backbone": NETWORK}, 2)
    state = classifier.state_dict()
    official = {name.removeprefix("backbone."): torch.rand_like(value.float()) for name, value in state.items()}
    torch.save(official, tmp_path / "official.pth")
    start_from(classifier, tmp_path / "official.pth")
    assert "official.pth: official weights 'psa' to start from; every tensor" in capsys.readouterr().err
    assert torch.equal(classifier.fc8.weight, official["fc8.weight"])
    assert torch.equal(classifier.backbone.conv3.conv1.weight, official["conv3.conv1.weight"])


def test_a_start_for_another_number_of_classes_is_one_line(tmp_path, one_line):
    config = {**method_settings("cam"), "backbone": NETWORK}
    three = build(config, 3).state_dict()
    torch.save(three, tmp_path / "model.pt")
    torch.save({name.removeprefix("backbone."): value for name, value in three.items()}, tmp_path / "official.pth")
    for name in ("model.pt", "official.pth"):
        one_line(lambda name=name: start_from(build(config, 2), tmp_path / name), name, "'fc8.weight'")


def test_a_network_without_official_format_names_the_key(tmp_path, one_line):
    one_line(
        lambda: train_once(tmp_path, weights="official.pth"),
        "no format of official weights of this network is known",
        "train.weights",
    )


# ---- how a training stops


def test_sigterm_is_a_clean_stop(tmp_path):
    process = interrupted(tmp_path / "stopped", signal.SIGTERM)
    assert Stopped.exit_code == 143
    assert "run the same command again" in process.errors
    state = torch.load(tmp_path / "stopped/checkpoint.pt", weights_only=True)
    assert 1 <= state["step"] < Schedule(22, TRAIN).steps


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path, capsys):
    interrupted(tmp_path / "a", signal.SIGKILL)
    changed = {"optimizer": {**TRAIN["optimizer"], "lr": 0.01}}
    assert sha256(train_once(tmp_path / "a", **changed)) == sha256(train_once(tmp_path / "b", **changed))
    assert "belongs to other settings" in capsys.readouterr().err


def test_a_checkpoint_of_another_configuration_is_not_used(tmp_path, capsys):
    """Also where it differs outside the training's own settings."""
    interrupted(tmp_path / "a", signal.SIGKILL)
    assert sha256(train_once(tmp_path / "a", method={"alpha": 0.1})) == sha256(train_once(tmp_path / "b"))
    assert "a/checkpoint.pt: belongs to other settings, inputs or code, starting at step 0" in capsys.readouterr().err


NETWORK = {"name": "tiny", "weights": None, "output_stride": None, "dropout": None, "freeze": [], "freeze_norm": False}
QUICK = {"crop": 32, "long_side": [32, 40], "steps": 300, "batch_size": 2}


def test_the_command_does_not_go_on_from_the_checkpoint_of_another_configuration(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    records = [Record(str(i), "0.png", None, ("train",), ("cat",), 40, 32, "", None) for i in range(4)]
    Dataset("toy", ["cat", "dog"], tmp_path, records).save(tmp_path / "data")

    def start(dropout: float) -> subprocess.Popen:
        changes = {"backbone": NETWORK, "method": {"dropout": dropout}, "train": QUICK}
        config = {
            "stage": "train",
            "seed": 0,
            "dataset": {"name": "toy", "splits": {"train": "train", "measured": "train", "val": "train"}},
            **overlay(method_settings("cam"), Layer("test", changes)),
        }
        (tmp_path / f"{dropout}.yaml").write_text(yaml.safe_dump(config))
        paths = ["--config", tmp_path / f"{dropout}.yaml", "--data", tmp_path / "data", "--out", tmp_path / "out"]
        command = [sys.executable, "-m", "wsss.cli", "train", *map(str, paths), "--device", "cpu"]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    stopped, log = start(0.1), tmp_path / "out/.losses.0.csv"
    while stopped.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 1):
        time.sleep(0.02)
    stopped.terminate()
    assert "run the same command again" in stopped.communicate(timeout=300)[1]
    other = start(0.2)
    said = other.communicate(timeout=300)[1]
    assert "checkpoint.pt: belongs to other settings, inputs or code, starting at step 0" in said
    assert other.returncode == 0


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(WsssError, match=r"a/checkpoint\.pt: not a readable checkpoint.*delete it"):
        train_once(tmp_path / "a")


@pytest.mark.parametrize("content", [[1], {"step": 3}, {"layer.weight": torch.zeros(1)}])
def test_a_torch_file_that_is_no_checkpoint_is_named(tmp_path, one_line, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    one_line(lambda: train_once(tmp_path), "checkpoint.pt: not a readable checkpoint", "delete it to start again")


def test_a_loss_that_is_not_finite_names_step_and_images(tmp_path):
    with pytest.raises(WsssError, match=r"loss 'mse' is nan at step \d+, images .*point7.*: lower"):
        fit(Training(Regression(), Points(bad=7), TRAIN), CONFIG, tmp_path, "cpu")
    assert not (tmp_path / "model.pt").exists()


def test_a_last_update_that_is_too_large_leaves_no_model(tmp_path, one_line):
    optimizer = {**TRAIN["optimizer"], "lr": 3e38, "weight_decay": 1e9}
    words = ("model.pt: not written, because 'layer.weight' is not all finite", "(optimizer.lr of this training)")
    one_line(lambda: train_once(tmp_path, steps=1, optimizer=optimizer), *words)
    assert not (tmp_path / "model.pt").exists()


def skipping(out: Path, bad: int | None, may_skip: float, **changes) -> Path:
    torch.manual_seed(1)
    training = Training(Regression(), Points(bad=bad), {**TRAIN, "may_skip": may_skip, **changes})
    return fit(training, CONFIG, out, "cpu", checkpoint_minutes=0)


def test_a_step_without_a_number_is_left_out_counted_and_reported(tmp_path, capsys):
    """Of 20 steps, each with one optimizer in the first epoch and two after it, up to 8 updates meet the bad point."""
    model = torch.load(skipping(tmp_path, 7, 0.5), weights_only=True)
    assert all(value.isfinite().all() for value in model.values())
    skipped = read_json(tmp_path / "training.json")["skipped"]
    rows = list(csv.DictReader((tmp_path / "losses.csv").read_text(encoding="utf-8").splitlines()))
    assert 0 < skipped == sum(row["term"] == "skipped" for row in rows) <= 8
    assert not any(row["value"] == "nan" for row in rows)
    told = capsys.readouterr().err
    assert told.count("left out, ") == skipped
    assert f"{skipped} updates were left out: a loss was no number" in told


def test_too_many_steps_without_a_number_end_the_training(tmp_path):
    with pytest.raises(
        WsssError, match=r"step \d+, weight: a loss is no number \(mse nan; images .*point7.*2 times by"
    ):
        skipping(tmp_path, 7, 0.05)  # one of 20
    assert not (tmp_path / "model.pt").exists()


def test_a_training_that_may_leave_steps_out_is_the_same_where_all_are_numbers(tmp_path):
    assert sha256(skipping(tmp_path / "a", None, 0.5)) == sha256(train_once(tmp_path / "b"))


def test_steps_that_were_left_out_are_counted_over_a_resumption(tmp_path):
    skipping(tmp_path / "whole", 7, 0.5)
    stopping = mock.patch("wsss.loop.Loop.agree", lambda self, stop, done: done == 12)
    with stopping, pytest.raises(Stopped):
        skipping(tmp_path / "resumed", 7, 0.5)
    skipping(tmp_path / "resumed", 7, 0.5)
    for name in ("training.json", "losses.csv", "model.pt"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


# ---- the epoch that is kept

SCORES = {5: 0.25, 10: 0.75, 15: 0.5, 20: 0.75}  # of 20 steps in 4 epochs


def choosing(out: Path, every: int = 1, first: int = 0, scores: dict | None = None, pause: float = 0.0) -> Path:
    """Train with scores that are laid down, one after the other: the state itself is not looked at."""
    torch.manual_seed(1)
    steps = iter(sorted(scores or SCORES))
    done = _resumed_at(out)
    left = [step for step in steps if step > done]
    choice = Choice(lambda task: (task.eval(), (scores or SCORES)[left.pop(0)])[1], every, first, "a score laid down")
    training = Training(Regression(pause), Points(), TRAIN, choice=choice)
    return fit(training, CONFIG, out, "cpu", checkpoint_minutes=0)


def _resumed_at(out: Path) -> int:
    path = out / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def test_the_epoch_with_the_best_score_is_kept_the_first_of_equals(tmp_path):
    chosen = torch.load(choosing(tmp_path / "a"), weights_only=True)
    states = []

    def keep(checkpoints, step):
        states.append(copy.deepcopy(checkpoints.module.state_dict()))

    with mock.patch("wsss.checkpoints.Checkpoints.write", keep):
        choosing(tmp_path / "b")
    after = dict(zip(range(1, 20), states, strict=True))  # a checkpoint after each step but the last
    assert all(torch.equal(chosen[name], value) for name, value in after[10].items())
    about = read_json(tmp_path / "a/training.json")["selection"]
    assert about["kept"] == 10
    assert about["protocol"] == "a score laid down"
    assert [(one["step"], one["epoch"], one["score"]) for one in about["scores"]] == [
        (step, epoch, SCORES[step]) for epoch, step in enumerate(SCORES)
    ]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["losses.csv", "model.pt", "training.json"]


def test_scoring_changes_nothing_of_the_training(tmp_path):
    rising = {5: 0.1, 10: 0.2, 15: 0.3, 20: 0.4}
    assert sha256(choosing(tmp_path / "a", scores=rising)) == sha256(train_once(tmp_path / "b"))
    assert read_json(tmp_path / "b/training.json")["selection"] == "last"


@pytest.mark.parametrize(
    ("every", "first", "steps"), [(2, 0, [5, 15, 20]), (2, 1, [10, 20]), (1, 2, [15, 20]), (9, 9, [20])]
)
def test_epochs_are_scored_as_asked_and_the_last_one_always(tmp_path, every, first, steps):
    choosing(tmp_path, every, first, dict.fromkeys(steps, 0.5))
    scores = read_json(tmp_path / "training.json")["selection"]["scores"]
    assert [one["step"] for one in scores] == steps


@pytest.mark.parametrize("stop_at", [4, 5, 7, 10, 11, 16])
def test_a_choice_survives_a_stop(tmp_path, stop_at):
    choosing(tmp_path / "whole")
    with mock.patch("wsss.loop.Loop.agree", lambda self, stop, done: done == stop_at), pytest.raises(Stopped):
        choosing(tmp_path / "stopped")
    choosing(tmp_path / "stopped")
    for name in ("model.pt", "training.json", "losses.csv"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_choice_survives_a_kill_between_score_and_checkpoint(tmp_path):
    """The state of step 10 is written, the checkpoint that knows of it is not: that of step 9 knows the one of 5."""
    choosing(tmp_path / "whole")

    write = Checkpoints.write

    def killed(checkpoints, step):
        if step == 10:
            raise KeyboardInterrupt
        write(checkpoints, step)

    with mock.patch("wsss.checkpoints.Checkpoints.write", killed), pytest.raises(KeyboardInterrupt):
        choosing(tmp_path / "killed")
    assert (tmp_path / "killed/.best-5.pt").exists()
    choosing(tmp_path / "killed")
    assert sha256(tmp_path / "killed/model.pt") == sha256(tmp_path / "whole/model.pt")


class Unreadable(Points):
    def get(self, index, rng):
        if index == 7:
            raise WsssError("point7.png: cannot be read")
        return super().get(index, rng)


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_sample_that_cannot_be_made_is_one_line(tmp_path, loaders, one_line):
    training = Training(Regression(), Unreadable(), TRAIN)
    line = one_line(lambda: fit(training, CONFIG, tmp_path, "cpu", loaders))
    assert line == "point7.png: cannot be read"


def test_two_processes_stop_at_the_same_step_and_go_on(tmp_path):
    """On several devices one process may be told to stop before the other, or alone."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent)))

    def start(out: str, pause: float) -> subprocess.Popen:
        command = [sys.executable, str(script), str(tmp_path / out), str(pause)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    process, log = start("stopped", 0.02), tmp_path / "stopped" / ".losses.0.csv"
    deadline = time.monotonic() + 300  # a guard against hanging, also on a machine that is busy
    while not (log.exists() and log.stat().st_size > 100):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()  # the first process only
    assert "stopped at step" in process.communicate(timeout=300)[1]
    assert (tmp_path / "stopped" / "checkpoint.pt").exists()
    for out in ("stopped", "whole"):
        process = start(out, 0.0)
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    assert sha256(tmp_path / "stopped" / "model.pt") == sha256(tmp_path / "whole" / "model.pt")
    assert not list(tmp_path.glob("*/.losses*"))


TWO_PROCESSES = """
import sys
from unittest import mock

sys.path.insert(0, {tests!r})
import wsss.train
from lightning_fabric import Fabric
from test_train import train_once
from wsss.errors import Stopped

def two(*_):
    return Fabric(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true")

with mock.patch("wsss.train.make_fabric", two):
    try:
        train_once(sys.argv[1], float(sys.argv[2]), epochs=40)
    except Stopped as stopped:
        sys.exit(str(stopped))
"""


def test_no_image_to_train_on(tmp_path):
    with pytest.raises(WsssError, match="no training image"):
        fit(Training(Regression(), Points(n=0), TRAIN), CONFIG, tmp_path, "cpu")


def test_schedule_counts_steps_and_epochs():
    schedule = Schedule(22, TRAIN)
    assert schedule.steps == 20
    assert [schedule.progress(s).epoch for s in (0, 4, 5, 19)] == [0, 0, 1, 3]


def test_steps_spread_the_schedules_epochs():
    schedule = Schedule(22, {**TRAIN, "steps": 8})
    assert schedule.steps == 8
    assert [schedule.progress(s).epoch for s in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_batch_size_grows_with_the_schedule():
    schedule = Schedule(20, {**TRAIN, "batch_size": {0: 4, 2: 10}})
    sizes = [len(batch) for batch in schedule.batches(seed=0, start=0)]
    assert sizes == [4] * 10 + [10] * 4
    assert schedule.poly_steps == 20  # as released: every epoch counted at the first size
    train = {**TRAIN, "batch_size": {0: 4, 2: 10}, "optimizer": {**TRAIN["optimizer"], "poly_epochs": 2.8}}
    assert Schedule(20, train).poly_steps == pytest.approx(schedule.steps)


def test_every_pass_is_a_permutation_and_a_late_start_sees_the_same_batches():
    batches = list(Schedule(20, TRAIN).batches(seed=5, start=0))
    assert sorted(index for batch in batches[:5] for _, _, index in batch) == list(range(20))
    assert batches[:5] != batches[5:10]
    assert list(Schedule(20, TRAIN).batches(seed=5, start=7)) == batches[7:]


def test_the_last_smaller_batch_of_a_pass_can_be_kept(tmp_path):
    train = {**TRAIN, "drop_last": False}
    schedule = Schedule(22, train)
    batches = list(schedule.batches(seed=5, start=0))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 2] * TRAIN["epochs"]
    assert sorted(index for batch in batches[:6] for _, _, index in batch) == list(range(22))
    assert schedule.steps == len(batches)
    assert Schedule(20, train).steps == Schedule(20, TRAIN).steps  # no such batch
    rows = (train_once(tmp_path, drop_last=False).parent / "losses.csv").read_text().splitlines()
    assert rows[-1].startswith(f"{len(batches) - 1},3,")


def test_poly_keeps_its_last_value():
    assert poly(0, 10, 0.9) == 1
    assert poly(9, 10, 0.9) == pytest.approx(0.1**0.9)
    assert poly(25, 10, 0.9) == poly(9, 10, 0.9)
    assert poly(5, 10, 0) == 1


def test_micro_batches_cover_the_batch():
    batch = collate([Points().get(i, np.random.default_rng(0)) for i in range(5)])
    parts = split(batch, 2)
    assert [part["id"] for part in parts] == [["point0", "point1"], ["point2", "point3", "point4"]]
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])


def test_accumulation_is_the_mean_over_micro_batches(tmp_path):
    """One step over two equal micro-batches equals one over the whole batch when the loss is a mean."""

    class Plain(Regression):
        def losses(self, batch, phase, progress):
            return {"mse": nn.functional.mse_loss(self.layer(batch["x"]), batch["y"])}

    def run(name, accumulate):
        torch.manual_seed(1)
        settings = {**TRAIN, "steps": 1, "accumulate": accumulate}
        path = fit(Training(Plain(), Points(), settings), CONFIG, tmp_path / name, "cpu")
        return torch.load(path, weights_only=True)

    whole, halves = run("whole", 1), run("halves", 2)
    assert torch.allclose(whole["layer.weight"], halves["layer.weight"], atol=1e-7)


def test_bf16_computes_in_bf16(tmp_path):
    seen = []

    class Watched(Regression):
        def losses(self, batch, phase, progress):
            seen.append(self.layer(batch["x"]).dtype)
            return super().losses(batch, phase, progress)

    train = {**TRAIN, "steps": 1, "precision": "bf16"}
    fit(Training(Watched(), Points(), train), CONFIG, tmp_path, "cpu")
    assert seen == [torch.bfloat16]
