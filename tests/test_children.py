"""Processes of a job: none outlives its parent, and nobody waits for one that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Training, is_alive, wait_for

from wsss.files import sha256

LOADERS = ("--loaders", "2")


def started(folder: Path, **more) -> Training:
    """A long training whose loader processes are at work."""
    training = Training(folder, *LOADERS, steps=20_000, **more)
    training.wait_for(lambda: training.steps() >= 10)
    return training


@pytest.mark.parametrize(
    ("how", "which"),
    [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGBUS, 0)],  # out of memory; out of /dev/shm
)
def test_a_training_whose_loader_dies_ends_with_one_line(tmp_path, how, which):
    training = started(tmp_path)
    loaders = training.children()
    os.kill(loaders[which], how)
    assert training.end() == 2
    beside = (" steps (", "Unexpected bus error")  # the progress, and what a process of PyTorch says of a SIGBUS itself
    lines = [line for line in training.said().splitlines() if line and not any(text in line for text in beside)]
    assert len(lines) == 1, training.said()
    assert "a process that loads images died" in lines[0]
    wait_for(lambda: not any(map(is_alive, loaders)), 10)


LATE = """
import os, signal, sys, time
sys.path[:0] = {path!r}
from torch.utils.data import DataLoader
from wsss import children

def signal_comes(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "__exit__" and frame.f_code.co_filename == children.__file__:
        sys.settrace(None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # in all threads, which are started from here on
with {blocks}:
    batches = iter(DataLoader(range(100_000), num_workers=2))
    next(batches)
    time.sleep(4 * children.LOOK_EVERY)  # the loaders are known
    children.LOOK_EVERY = 60  # nobody else asks how one ended
    time.sleep(0.2)
    loader = children.multiprocessing.active_children()[0].pid
    os.kill(loader, signal.SIGKILL)
    os.waitid(os.P_PID, loader, os.WEXITED | os.WNOWAIT)
    sys.settrace(signal_comes)
    raise ConnectionResetError("the loader was sending a tensor")
"""


@pytest.mark.parametrize(
    ("disarmed", "said"), [(True, "ChildDied: a loader died (signal 9); try again"), (False, "RuntimeError")]
)
def test_the_signal_of_a_dead_loader_may_come_while_the_block_that_watches_it_ends(tmp_path, disarmed, said):
    """PyTorch's handler raises then, at the first line of ``__exit__``; one block alone would have no say any more."""
    blocks = 'children.Watched("a loader", "try again")' + ", children.Disarmed()" * disarmed
    script = tmp_path / "late.py"
    script.write_text(LATE.format(path=sys.path, blocks=blocks))
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]


def test_loaders_end_with_a_training_that_is_killed(tmp_path):
    training = started(tmp_path)
    loaders = training.children()
    assert len(loaders) == 2
    training.process.kill()
    training.end()
    wait_for(lambda: not any(map(is_alive, loaders)), 10)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_in_a_checkpoint(tmp_path, how):
    """As Ctrl-C in a terminal and a cluster send it; what goes on from there is what would have come anyway."""
    stopped = Training(tmp_path, *LOADERS, steps=200)
    stopped.wait_for(lambda: stopped.steps() >= 10)
    os.killpg(stopped.process.pid, how)
    assert stopped.end() == 143
    assert "run the same command again to go on" in stopped.said()
    assert (stopped.out / "checkpoint.pt").exists()
    again = Training(tmp_path, *LOADERS, steps=200)
    whole = Training(tmp_path, out="whole", steps=200)
    assert (again.end(), whole.end()) == (0, 0), again.said()
    assert sha256(again.out / "model.pt") == sha256(whole.out / "model.pt")
    assert (again.out / "losses.csv").read_bytes() == (whole.out / "losses.csv").read_bytes()


def test_a_training_that_is_told_to_stop_again_and_again_ends_as_if_told_once(tmp_path):
    training = Training(tmp_path, steps=2000)
    training.wait_for(lambda: training.steps() >= 3)
    while training.process.poll() is None:
        training.process.terminate()
        time.sleep(0.005)
    assert training.end() == 143
    assert "run the same command again to go on" in training.said()
    assert (training.out / "checkpoint.pt").exists()


def test_a_training_that_is_told_to_stop_after_its_last_step_is_done(tmp_path):
    """As a time limit may come: all steps would be lost, since Snakemake deletes what a failed job has made."""
    training = Training(tmp_path, steps=30)
    model = training.out / "model.pt"
    training.wait_for(lambda: training.steps() >= 30 or model.exists())
    while training.process.poll() is None:
        training.process.terminate()
        time.sleep(0.005)
    assert training.end() == 0, training.said()
    assert (training.out / "record.json").exists()


def test_a_job_that_is_told_to_stop_before_its_first_step_says_so_in_its_ledger(tmp_path):
    training = Training(tmp_path, steps=2000)
    ledger = training.out / "attempts.jsonl"
    training.wait_for(lambda: ledger.exists() and "started" in ledger.read_text())
    training.process.terminate()
    training.process.terminate()
    assert training.end() == 143
    assert training.steps() == 0
    assert "told to stop; run the same command again" in training.said()
    assert json.loads(ledger.read_text().splitlines()[-1])["how"] == "stopped"


TOLD = """
import dataclasses, signal, sys
from wsss import cli
from wsss.arguments import COMMANDS
from wsss.errors import WsssError

def run(args):
    try:
        signal.raise_signal(signal.SIGTERM)
    except Exception as error:
        raise WsssError("the file is damaged") from error

COMMANDS["train"] = dataclasses.replace(COMMANDS["train"], run=run)
cli.main(sys.argv[1:])
"""


def test_a_job_that_is_told_to_stop_while_it_reads_a_file_does_not_call_the_file_damaged(tmp_path):
    training = Training(tmp_path)  # it wrote the inputs
    training.process.kill()
    training.end()
    command = [sys.executable, "-c", TOLD, "train", "--config", "config.yaml", "--data", "data", "--out", "told"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (143, "wsss train: told to stop; run the same command again\n")
    ended = json.loads((tmp_path / "told/attempts.jsonl").read_text().splitlines()[-1])
    assert (ended["how"], ended["why"]) == ("stopped", "told to stop; run the same command again")
    assert not list((tmp_path / "told").glob(".*lease"))


POOL = """
import sys, time
sys.path[:0] = {path!r}
{before}
from wsss.pool import mapped

def job(item):
    time.sleep(0.1)
    return item

if __name__ == "__main__":
    for result in mapped(job, range(100_000), 2):
        print(result, flush=True)
"""


@pytest.mark.parametrize("before", ["import torch", ""])  # processes are spawned beside torch, else forked
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_of_a_pool_end_with_their_parent(tmp_path, before, how):
    script = tmp_path / "pool.py"
    script.write_text(POOL.format(path=sys.path, before=before))
    log = tmp_path / "log"
    with log.open("w") as stream:
        parent = subprocess.Popen([sys.executable, str(script)], stdout=stream, stderr=stream, start_new_session=True)
    wait_for(lambda: "0\n" in log.read_text())
    found = subprocess.run(["pgrep", "-g", str(parent.pid)], capture_output=True, text=True).stdout
    workers = [int(word) for word in found.split() if int(word) != parent.pid]
    assert len(workers) >= 2
    send = os.killpg if how == signal.SIGINT else os.kill  # a terminal sends Ctrl-C to all
    send(parent.pid, how)
    assert parent.wait(60) != 0
    assert log.read_text().count("Traceback") <= 1
    wait_for(lambda: not any(map(is_alive, workers)), 20)
