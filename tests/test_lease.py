"""One writer per output, held by a lease: real processes, killed and stopped as clusters do it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import Training, wait_for

from wsss import lease
from wsss.files import sha256


def steps_in_order(path: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


def test_of_two_trainings_of_one_result_the_second_waits_and_takes_what_the_first_made(tmp_path):
    first = Training(tmp_path, steps=250)
    first.wait_for(lambda: first.steps() >= 20)
    second = Training(tmp_path, steps=250)
    second.wait_for(lambda: "works at it; waiting" in second.said())
    assert (first.end(), second.end()) == (0, 0), second.said()
    assert "another job has just made it; nothing is left to do" in second.said()
    assert steps_in_order(first.out / "losses.csv") == list(range(250))
    events = [json.loads(line)["event"] for line in (first.out / "attempts.jsonl").read_text().splitlines()]
    assert events == ["started", "ended"]
    assert not (first.out / ".lease").exists()


def test_who_waits_goes_on_from_the_checkpoint_of_one_that_is_killed(tmp_path):
    whole = Training(tmp_path, out="whole", steps=250)
    assert whole.end() == 0
    first = Training(tmp_path, "--checkpoint-minutes", "0", steps=250)
    first.wait_for(lambda: first.steps() >= 20)
    second = Training(tmp_path, steps=250)
    second.wait_for(lambda: "works at it; waiting" in second.said())
    first.process.kill()
    first.end()
    assert second.end() == 0, second.said()
    assert '"event": "resumed"' in (first.out / "attempts.jsonl").read_text()
    assert sha256(second.out / "model.pt") == sha256(whole.out / "model.pt")
    assert (second.out / "losses.csv").read_bytes() == (whole.out / "losses.csv").read_bytes()


HOLDER = """
import sys, time
sys.path[:0] = {path!r}
from wsss import lease
lease.BEAT, lease.STALE, lease.LOOK = 0.2, 2.0, 0.1
{before}
with lease.leased(sys.argv[1]) as waited:
    print(waited, flush=True)
    time.sleep(float(sys.argv[2]))
"""
ELSEWHERE = "lease._machine = lambda: __import__('uuid').uuid4().hex"  # a host of its own


class Holder:
    """A process that holds the lease for some seconds."""

    def __init__(self, folder: Path, name: str, seconds: float, before: str = ELSEWHERE):
        (folder / "scripts").mkdir(exist_ok=True)
        script, self._log = folder / "scripts" / f"{name}.py", folder / "scripts" / f"{name}.log"
        script.write_text(HOLDER.format(path=sys.path, before=before))
        command = [sys.executable, str(script), str(folder / "model.pt"), str(seconds)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def said(self) -> str:
        return self._log.read_text()

    def has_it(self) -> Holder:
        wait_for(lambda: "True" in self.said() or "False" in self.said())
        return self

    def end(self) -> int:
        return self.process.wait(120)


def killed(folder: Path, before: str = ELSEWHERE) -> None:
    """Someone takes the lease and is killed."""
    dead = Holder(folder, "dead", 100, before).has_it()
    dead.process.kill()
    dead.end()


def test_a_job_of_another_host_that_is_dead_is_found_out_by_its_silence(tmp_path):
    killed(tmp_path)
    after = Holder(tmp_path, "after", 0)
    assert after.end() == 0
    assert after.said().endswith("True\n")


def test_a_job_that_was_cut_off_ends_when_it_comes_back(tmp_path):
    """As on a node that a network or a file system leaves alone for a while."""
    cut_off = Holder(tmp_path, "cut_off", 100).has_it()
    os.kill(cut_off.process.pid, signal.SIGSTOP)
    after = Holder(tmp_path, "after", 3).has_it()
    os.kill(cut_off.process.pid, signal.SIGCONT)
    assert cut_off.end() == 2
    assert "another job took it over while this one was cut off, so this one ends" in cut_off.said()
    assert after.end() == 0
    assert not list(tmp_path.glob(".*lease*"))


def test_many_at_once_take_turns(tmp_path):
    holders = [Holder(tmp_path, str(i), 0.3) for i in range(6)]
    assert [one.end() for one in holders] == [0] * 6
    assert not list(tmp_path.glob(".*lease*"))


def test_many_that_find_a_dead_one_take_turns(tmp_path):
    """All find the lease stale at the same moment; what counts is that never two hold it."""
    lease.lease_path(tmp_path / "model.pt").write_text(json.dumps({"token": "dead", "host": "gone"}))
    held, most, guard = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal held, most
        with lease.leased(tmp_path / "model.pt"):
            with guard:
                held += 1
                most = max(most, held)
            time.sleep(0.02)
            with guard:
                held -= 1

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease, "STALE", 0.5)
        patched.setattr(lease, "LOOK", 0.01)
        patched.setattr(lease, "BEAT", 0.05)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (held, most) == (0, 1)


def test_a_lease_of_a_process_that_is_no_more_is_taken_though_silence_never_counts(tmp_path, monkeypatch):
    killed(tmp_path, before="")
    monkeypatch.setattr(lease, "STALE", math.inf)
    held = []

    def work() -> None:
        with lease.leased(tmp_path / "model.pt") as waited:
            held.append((waited, json.loads(lease.lease_path(tmp_path / "model.pt").read_text())["process"]))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert held == [(True, os.getpid())]


def test_each_shard_has_a_lease_of_its_own(tmp_path):
    with lease.leased(tmp_path / "val-0-of-2.npz"), lease.leased(tmp_path / "val-1-of-2.npz"):
        assert {path.name for path in tmp_path.iterdir()} == {".val-0-of-2.lease", ".val-1-of-2.lease"}
