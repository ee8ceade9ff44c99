"""Jobs that share a machine have GPUs of their own; switches of kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from unittest import mock

import pytest
import torch
from commands import is_alive, wait_for
from test_train import CONFIG, TRAIN, Points, Regression

from wsss import devices, gpus
from wsss.errors import Stopped, WsssError
from wsss.provenance.machine import repeats
from wsss.train import Training, fit

CODE = """
import os, sys, time
from wsss import gpus
gpus.claim(int(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["WSSS_CLAIM_GPUS"], flush=True)
time.sleep(600)
"""


class Job:
    """A process that takes GPUs and keeps them until it is killed."""

    def __init__(self, folder, wanted: int, switch: str = "1"):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,GPU-a,6", gpus.SWITCH: switch, "TMPDIR": str(folder)}
        self.said = folder / f"{id(self)}.txt"
        command = [sys.executable, "-c", CODE, str(wanted)]
        with self.said.open("w") as stream:
            self.process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)

    def sees(self) -> set[str]:
        """The GPUs that it sees, once it has them."""
        lines = wait_for(lambda: [line for line in self.said.read_text().splitlines() if line[-2:] in (" 0", " 1")])
        return set(lines[0].split()[0].split(","))

    def waits(self) -> bool:
        return "waiting for" in self.said.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    jobs = []

    def started(*args, **kwargs) -> Job:
        jobs.append(Job(tmp_path, *args, **kwargs))
        return jobs[-1]

    yield started
    for job in jobs:
        if is_alive(job.process.pid):
            job.kill()


def test_each_job_sees_gpus_of_its_own_and_the_next_waits(start):
    first, second = start(1), start(2)
    taken = first.sees() | second.sees()
    assert taken == {"4", "GPU-a", "6"}
    third = start(1)
    wait_for(third.waits)
    free = first.sees()
    first.kill()  # however it ends
    assert third.sees() == free


def test_where_a_cluster_hands_them_out_nothing_is_taken(start):
    assert start(1, switch="0").sees() == start(1, switch="0").sees() == {"4", "GPU-a", "6"}


def test_more_than_there_are_is_not_waited_for(start):
    assert start(4).sees() == {"4", "GPU-a", "6"}


# ---- kernels


def test_the_switches_of_a_gpu_leave_a_cpu_alone():
    before = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    devices.choose_kernels(torch.device("cpu"), deterministic=True, fixed_shapes=True)
    assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == before


def test_kernels_are_tried_out_only_where_the_same_bits_are_not_asked_for():
    cuda, switches = torch.device("cuda"), torch.backends.cudnn  # settings of torch, which need no GPU
    try:
        devices.choose_kernels(cuda, deterministic=False, fixed_shapes=True)
        assert (switches.benchmark, torch.are_deterministic_algorithms_enabled()) == (True, False)
        devices.choose_kernels(cuda, deterministic=True, fixed_shapes=True)
        assert (switches.benchmark, torch.are_deterministic_algorithms_enabled()) == (False, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    finally:
        devices.choose_kernels(cuda, deterministic=False, fixed_shapes=False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_an_operation_without_a_deterministic_kernel_is_one_line():
    torch.use_deterministic_algorithms(True)
    said = "kthvalue does not have a deterministic implementation, but you set it. You can turn it off"
    try:
        line = pytest.raises(WsssError, match=r"^kthvalue does not have .* set it; compute without --deterministic")
        with line, devices.told_what_lacks_kernels():
            raise RuntimeError(said)
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.raises(RuntimeError), devices.told_what_lacks_kernels():
        raise RuntimeError(said)


@pytest.mark.gpu
def test_on_a_gpu_deterministic_kernels_resume_to_the_same_bytes(tmp_path):
    def trained(out) -> bytes:
        torch.manual_seed(1)
        training = Training(Regression(), Points(), TRAIN)
        return fit(training, CONFIG, out, "cuda", checkpoint_minutes=0, deterministic=True).read_bytes()

    with mock.patch("wsss.loop.Loop.agree", lambda self, stop, done: done == 7), pytest.raises(Stopped):
        trained(tmp_path / "resumed")
    assert trained(tmp_path / "resumed") == trained(tmp_path / "whole")


def test_a_gpu_repeats_its_bytes_only_with_deterministic_kernels():
    assert repeats({"device": "cpu", "torch": {"deterministic": False}})
    assert repeats({"device": "cuda", "torch": {"deterministic": True}})
    assert not repeats({"device": "cuda:2", "torch": {"deterministic": False}})
