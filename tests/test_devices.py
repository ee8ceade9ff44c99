"""Which device a job works on, and that it does not work on another than it asked for."""

from __future__ import annotations

import json

import pytest
import torch
from commands import Training

from wsss import devices
from wsss.errors import WsssError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


@without_gpu
def test_a_training_that_asked_for_a_gpu_and_sees_none_fails_at_once(tmp_path):
    training = Training(tmp_path, environment={"WSSS_GPUS": "1", "CUDA_VISIBLE_DEVICES": "", "SLURMD_NODENAME": "n17"})
    assert training.end() == 2
    (line,) = training.said().splitlines()
    assert "wsss train: the job asked for 1 GPU, but no CUDA device is visible on n17" in line
    assert not (training.out / "record.json").exists()
    events = [json.loads(line) for line in (training.out / "attempts.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "lacks GPU", "ended"]
    assert events[1]["node"] == "n17"


@without_gpu
def test_the_record_names_the_device_that_was_used(tmp_path):
    training = Training(tmp_path, steps=2)
    assert training.end() == 0, training.said()
    machine = json.loads((training.out / "record.json").read_text())["machine"]
    assert (machine["device_asked"], machine["device"]) == ("auto", "cpu")


@without_gpu
def test_auto_is_the_cpu_only_where_no_gpu_was_asked_for(monkeypatch):
    assert devices.find("auto") == ("cpu", 1)
    monkeypatch.setenv(devices.ASKED, "0")
    assert devices.find("auto") == ("cpu", 1)
    monkeypatch.setenv(devices.ASKED, "2")
    with pytest.raises(WsssError, match="asked for 2 GPUs, but no CUDA device is visible"):
        devices.find("auto")
    assert devices.find("cpu") == ("cpu", 1)


@pytest.mark.gpu
def test_auto_is_a_gpu_that_is_there(monkeypatch):
    assert devices.find("auto") == ("cuda", 1)
    monkeypatch.setenv(devices.ASKED, "64")
    with pytest.raises(WsssError, match="asked for 64 GPUs, but only"):
        devices.find("auto")


@without_gpu
@pytest.mark.workflow
def test_the_workflow_asks_for_what_is_configured(workflow):
    model = "asked/shapes/pretraining/classifier/seed0/train/model.pt"  # where other tests make nothing
    failed = workflow("--config", "gpus=1", "results=asked", "--", model, check=False)
    assert failed.returncode == 1
    assert "the job asked for 1 GPU" in failed.stdout + failed.stderr
    workflow("--config", "gpus=1", "device=cpu", "results=asked", "--", model)
