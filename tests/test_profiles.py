"""The profiles of clusters other than Slurm: what their commands ask for and answer, and jobs that go through them.

The batch systems of tests/batch are processes of this machine. PBS's commands are also tried on a real Slurm, which
has commands of the same names (package slurm-wlm-torque). No Kubernetes was at hand.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BATCH = Path(__file__).parent / "batch"
MODEL = "results/shapes/pretraining/classifier/seed0/train/model.pt"
KINDS = ("pbs", "kubernetes")
has_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="snakemake-executor-plugin-cluster-generic is not installed",
)


class Batch:
    """A batch system and the commands of a profile."""

    def __init__(self, kind: str, folder: Path):
        self.folder, self.commands, self.work = folder / "batch", ROOT / "profiles" / kind, folder / "work"
        self.folder.mkdir()
        self.work.mkdir()
        path = f"{BATCH}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "BATCH": str(self.folder)}

    def __call__(self, command: str, *words: str) -> str:
        script = ["bash", str(self.commands / f"{command}.sh"), *words]
        return subprocess.run(
            script, cwd=self.work, env=self.env, capture_output=True, text=True, check=True
        ).stdout.strip()

    def submit(self, text: str, gpus: int = 0) -> str:
        script = self.work / "script"
        script.write_text(text)
        return self("submit", "2", "3000", "90", str(gpus), str(script))

    def end(self, job: str) -> str:
        deadline = time.monotonic() + 120
        while (state := self("status", job)) == "running":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return state


@pytest.fixture(params=KINDS)
def batch(request, tmp_path) -> Batch:
    return Batch(request.param, tmp_path)


@pytest.mark.parametrize(("text", "state"), [("exit 0", "success"), ("exit 3", "failed"), ("kill -9 $$", "failed")])
def test_what_became_of_a_job_is_reported(batch, text, state):
    assert batch.end(batch.submit(text)) == state


def test_a_job_counts_as_running_while_the_server_does_not_answer(batch):
    job = batch.submit("sleep 2")
    (batch.folder / "down").touch()
    time.sleep(3)
    if batch.commands.name == "pbs":  # its exit code is known all the same
        assert batch("status", job) == "success"
        (next((batch.work / ".snakemake/pbs").glob("*.exit"))).unlink()
    assert batch("status", job) == "running"


def test_a_job_that_was_deleted_has_failed(batch):
    job = batch.submit("exit 0")
    batch.end(job)
    for file in [*batch.folder.iterdir(), *batch.work.glob(".snakemake/pbs/*.exit")]:
        file.unlink()
    assert batch("status", job) == "failed"


def test_pbs_is_asked_for_what_snakemake_says(tmp_path):
    batch = Batch("pbs", tmp_path)
    for gpus in (0, 1):
        batch.end(batch.submit("exit 0", gpus))
    without, with_gpu = (batch.folder / "requests").read_text().splitlines()
    assert without == "select=1:ncpus=2:mem=3000mb,walltime=90:00"
    assert with_gpu == "select=1:ncpus=2:mem=3000mb:ngpus=1,walltime=90:00"


def test_kubernetes_is_asked_for_what_snakemake_says(tmp_path):
    batch = Batch("kubernetes", tmp_path)
    job = yaml.safe_load((batch.folder / f"{batch.submit('exit 0', 1)}.yaml").read_text())
    assert (job["apiVersion"], job["kind"], job["spec"]["backoffLimit"]) == ("batch/v1", "Job", 0)
    assert job["spec"]["activeDeadlineSeconds"] == 90 * 60
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "3000M"}
    assert container["resources"]["limits"] == {"memory": "3000M", "nvidia.com/gpu": "1"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_they_group_jobs_as_slurms_profile_does():
    shared = ("groups", "group-components", "resources", "set-resource-scopes", "retries", "latency-wait", "keep-going")
    ours = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    for kind in KINDS:
        profile = yaml.safe_load((ROOT / f"profiles/{kind}/config.yaml").read_text())
        assert {key: profile[key] for key in shared} == {key: ours[key] for key in shared}


@has_plugin
@pytest.mark.workflow
@pytest.mark.parametrize("kind", KINDS)
def test_jobs_go_through_a_profile(plain, tmp_path, kind):
    """An index and a training as jobs of a batch system, whose records and model are as those of a local run."""
    assert _run(plain, tmp_path, kind, Batch(kind, tmp_path).env) == _local(plain)


@has_plugin
@pytest.mark.workflow
@pytest.mark.slurm
@pytest.mark.skipif(shutil.which("qsub") is None, reason="slurm-wlm-torque is not installed")
def test_jobs_go_through_the_commands_of_pbs_on_a_real_cluster(plain, tmp_path):
    assert _run(plain, tmp_path, "pbs", dict(os.environ)) == _local(plain)


def _run(workflow, folder: Path, kind: str, environment: dict[str, str]) -> bytes:
    command = [sys.executable, "-m", "snakemake", "--profile", str(workflow.folder / "profiles" / kind)]
    command += ["--config", "dataset=shapes", "gpus=0", "threads=1", "workers=1", "loaders=0", "--", MODEL]
    where = folder / "elsewhere"
    where.mkdir()
    environment = {**environment, "PYTHONPATH": workflow.env["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("with external jobid") == 2
    return (where / MODEL).read_bytes()


def _local(workflow) -> bytes:
    workflow("--", MODEL)
    return (workflow.folder / MODEL).read_bytes()
