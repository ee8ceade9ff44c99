"""The cluster profile on a real Slurm, and what clusters do to jobs: each ends in the bytes of an undisturbed run.

sudo python tests/slurm/cluster.py up; WSSS_SLURM_PARTITION=main python -m pytest -m slurm tests

On another cluster than that one only the first test runs, from a folder that its nodes see (--basetemp=<folder>).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import wait_for
from conftest import Workflow

from wsss.files import sha256

pytestmark = pytest.mark.slurm

METRICS = "results/shapes/seam/baseline/seed0/measure/cam_measured.json"
DEFAULT = "all"  # what is made if nothing is named
TRAIN = "results/shapes/pretraining/classifier/seed0/train"
MINUTES = 60  # seconds
PATIENCE = 30 * MINUTES  # a guard against hanging, also on a machine that is busy
QUICK = ("--slurm-init-seconds-before-status-checks", "5", "--jobs", "8")
SMALL = ("dataset=shapes", "gpus=0", "threads=1", "workers=1", "loaders=2", "shards=2")


def toy_cluster():
    spec = importlib.util.spec_from_file_location("cluster", Path(__file__).parent / "slurm" / "cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster = toy_cluster()
OURS = Path("/etc/slurm/slurm.conf")
on_toy = pytest.mark.skipif(
    not (OURS.exists() and OURS.read_text().startswith(cluster.OURS)),
    reason="not the cluster of tests/slurm/cluster.py",
)


class Run:
    """`snakemake --profile slurm` as a process of its own.

    Args:
        workflow: the clone that it runs in.
        target: what is asked for.
        config: changes of the configuration.
        site: the site file's settings.
        folder: the working folder, if not the clone.
    """

    def __init__(self, workflow, target: str, *config: str, site: str = "", folder: Path | None = None, options=()):
        self.folder = folder or workflow.folder
        site_file = self.folder / "site.yaml"
        site_file.write_text(site)
        command = [sys.executable, "-m", "snakemake", "--profile", str(workflow.folder / "slurm"), *QUICK, *options]
        command += ["--config", *SMALL, *config, "--default-resources", "mem_mb=1500", "runtime=10", "--", target]
        self._log = self.folder / "controller.log"
        with self._log.open("w") as log:
            environment = {**workflow.env, "WSSS_SITE": str(site_file)}
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def said(self) -> str:
        return self._log.read_text()

    def end(self, seconds: float = PATIENCE) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(self.said()) from None


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def running() -> dict[str, str]:
    """Job id -> node of what runs now."""
    rows = (line.split() for line in ask("squeue", "-h", "-t", "R", "-o", "%i %N").splitlines())
    return dict(rows)


class Case:
    """A training that takes minutes on Slurm, and the bytes that it should end in."""

    def __init__(self, workflow):
        self.workflow, self.out = workflow, workflow.folder / TRAIN
        self.runs: list[Run] = []
        self.steps = "overrides: {train: {steps: 1200}}"
        (workflow.folder / "long.yaml").write_text(self.steps)
        start = time.monotonic()
        workflow("--configfile", "long.yaml", "--", f"{TRAIN}/model.pt")
        self.seconds = time.monotonic() - start
        self.expected = self.bytes()
        self.clear()

    def bytes(self) -> tuple[str, str]:
        return sha256(self.out / "model.pt"), sha256(self.out / "losses.csv")

    def clear(self) -> None:
        shutil.rmtree(self.out)

    def run(self, *config: str, options: tuple[str, ...] = (), **more) -> Run:
        options = ("--configfile", str(self.workflow.folder / "long.yaml"), *options)
        self.runs.append(Run(self.workflow, f"{TRAIN}/model.pt", *config, options=options, **more))
        return self.runs[-1]

    def steps_done(self) -> int:
        return lines(self.out / ".losses.0.csv")

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in (self.out / "attempts.jsonl").read_text().splitlines()]

    def check(self, run: Run) -> None:
        assert run.end() == 0, run.said()
        assert self.bytes() == self.expected
        assert self.workflow.wsss("audit", f"{TRAIN}/model.pt").returncode == 0


@pytest.fixture(scope="session")
def workflow(tmp_path_factory) -> Workflow:
    """A clone in a folder whose name holds what shells read as something else, but no apostrophe."""
    return Workflow(tmp_path_factory.mktemp('a clone "{x}" für $HOME'))


@pytest.fixture(scope="session")
def long(workflow) -> Case:
    return Case(workflow)


@pytest.fixture
def case(long, workflow):
    if long.out.exists():
        long.clear()
    cluster.start_nodes()  # those that a test crashed which was itself interrupted
    yield long
    for run in long.runs:
        if run.process.poll() is None:
            run.process.kill()
    workflow("--unlock", "--", METRICS)
    subprocess.run(["scancel", "--user=root"], check=False)
    cluster.start_nodes()


def test_the_profile_runs_the_pipeline_through_sbatch(workflow):
    """From index to metrics in Slurm jobs; the records say which job made what."""
    run = Run(workflow, METRICS, site=f"cpu_partition: {os.environ['WSSS_SLURM_PARTITION']}")
    assert run.end() == 0, run.said()
    assert 0 <= json.loads((workflow.folder / METRICS).read_text())["points"]["best"]["miou"] <= 1
    record = json.loads((workflow.folder / TRAIN / "record.json").read_text())
    assert record["machine"]["slurm"]["SLURM_JOB_ID"].isdigit()
    assert workflow.wsss("audit", METRICS).returncode == 0


@on_toy
def test_a_job_without_the_gpu_it_asked_for_fails_and_is_tried_on_another_node(case):
    run = case.run("gpus=1")
    assert run.end() == 1
    said = (case.workflow.folder / "results/logs/shapes/pretraining/classifier/seed0/train.log").read_text()
    assert "the job asked for 1 GPU, but no CUDA device is visible on node" in said
    events = [json.loads(line) for line in (case.out / "attempts.jsonl").read_text().splitlines()]
    nodes = [event["node"] for event in events if event["event"] == "lacks GPU"]
    assert sorted(nodes) == ["node1", "node2"]  # and never the same twice


@on_toy
def test_a_training_that_is_preempted_goes_on(case):
    run = case.run(site="cpu_partition: scavenge")
    wait_for(lambda: case.steps_done() > 20, PATIENCE)
    ask("sbatch", "-p", "main", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    case.check(run)
    assert case.events().count("started") == 2
    assert "resumed" in case.events()


@on_toy
def test_a_training_that_is_longer_than_its_partition_allows_goes_on(case):
    """It asks for no more than the limit, is warned, writes a checkpoint and is submitted again.

    Slurm warns up to 30 seconds early. Here that is in the middle of the training, on fast machines and slow ones.
    """
    warning = max(cluster.SHORT - 0.5 - case.seconds / 4 / MINUTES, 0.5)
    run = case.run(site=f"cpu_partition: short\nwarn_minutes: {warning:.2f}", options=("--retries", "30"))
    wait_for(lambda: case.steps_done() > 20, PATIENCE)
    (job,) = running()
    assert f"TimeLimit=00:{cluster.SHORT:02}:00" in ask("scontrol", "show", "job", job)
    case.check(run)
    assert "resumed" in case.events()


@on_toy
def test_a_controller_that_is_killed_and_started_again_cancels_what_it_left(case):
    lost = case.run()
    wait_for(lambda: case.steps_done() > 20, PATIENCE)
    os.killpg(lost.process.pid, signal.SIGKILL)
    lost.process.wait()
    (orphan,) = running()
    case.workflow("--unlock", "--", f"{TRAIN}/model.pt")
    again = case.run()
    case.check(again)
    assert f"Cancelled, left by a controller that was lost: jobs {orphan}." in again.said()
    assert case.events() == ["started", "ended", "started", "resumed", "ended"]


@on_toy
def test_a_node_that_is_cut_off_and_its_successor_do_not_write_both(case):
    """The node's daemon is gone, its job lives on. Slurm starts the job anew elsewhere, where it waits."""
    run = case.run()
    wait_for(lambda: case.steps_done() > 20, PATIENCE)
    ((_, node),) = running().items()
    cluster.leave_node(node)
    case.check(run)
    assert case.events() == ["started", "ended"]


@on_toy
def test_a_node_that_crashes_is_replaced(case):
    run = case.run("checkpoint_minutes=0.05")
    wait_for((case.out / "checkpoint.pt").exists, PATIENCE)
    ((job, node),) = running().items()
    cluster.crash(node, job)
    case.check(run)
    assert case.events()[:3] == ["started", "started", "resumed"]


@on_toy
def test_two_controllers_with_one_folder_of_results_take_turns(case, tmp_path):
    results = tmp_path / "results of both"  # the clone's name has braces, which results may not have
    out = results / Path(TRAIN).relative_to("results")
    runs = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        options = ("--configfile", str(case.workflow.folder / "long.yaml"))
        runs.append(Run(case.workflow, f"{out}/model.pt", f"results={results}", folder=folder, options=options))
    for run in runs:
        assert run.end() == 0, run.said()
    assert (out / "attempts.jsonl").read_text().count('"started"') == 1


@on_toy
def test_the_default_made_through_every_fault_is_that_of_a_local_run(workflow):
    """From nothing, in shards on two nodes: a node crashes, jobs are preempted, the controller is killed."""
    home = workflow.folder / "results"
    shutil.rmtree(home, ignore_errors=True)
    (workflow.folder / "longer.yaml").write_text("overrides: {train: {steps: 300}}")
    options = ("--configfile", str(workflow.folder / "longer.yaml"))
    workflow(*options, "--", DEFAULT)
    of_runs = ("measure/*_measured.json", "measure/*_val.json", "*/model.pt", "*/losses.csv")
    kept = ("tables/*/table.*", *(f"*/*/seed0/{name}" for name in of_runs))
    for pattern in kept:
        assert digests(home / "shapes", (pattern,)), pattern
    expected = digests(home / "shapes", kept)
    shutil.rmtree(home)

    shards = ("shards=3", "shard_images=4")
    run = Run(workflow, DEFAULT, "checkpoint_minutes=0.05", *shards, site="cpu_partition: scavenge", options=options)
    trains = home / "shapes/pretraining/classifier/seed0/train/.losses.0.csv"
    wait_for(lambda: lines(trains) > 20, PATIENCE)
    ((job, node),) = running().items()
    cluster.crash(node, job)
    wait_for(lambda: any(lines(log) > 20 for log in home.glob("shapes/seam/*/seed0/train/.losses.0.csv")), PATIENCE)
    ask("sbatch", "-p", "main", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    cluster.start_node(node)
    wait_for(lambda: list(home.glob("shapes/seam/*/seed0/cam/measured-*.npz")), PATIENCE)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    workflow("--unlock", "--", DEFAULT)
    run = Run(workflow, DEFAULT, *shards, site="cpu_partition: main", options=options)
    assert run.end() == 0, run.said()
    assert list(home.glob("shapes/seam/*/seed0/cam/measured-2-of-3.npz"))
    assert digests(home / "shapes", kept) == expected
    for table in (home / "shapes/tables").iterdir():
        audit = workflow.wsss("audit", table.name, *options)
        assert audit.returncode == 0, audit.stdout


@pytest.fixture
def accounting(case):
    """The cluster with Slurm's accounting, which the other tests do without."""
    cluster.down()
    cluster.up("accounting")
    yield
    cluster.down()
    cluster.up()


@on_toy
def test_accounting_that_is_down_for_a_minute_delays_nothing(case, accounting):
    """The job completes meanwhile, and the controller learns of it without Slurm's database."""
    run = case.run()
    wait_for(lambda: case.steps_done() > 20, PATIENCE)
    cluster.stop_accounting()
    stopped = time.monotonic()
    wait_for(lambda: time.monotonic() > stopped + MINUTES and not running(), PATIENCE)
    cluster.start_accounting()
    case.check(run)
    assert case.events() == ["started", "ended"]


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    found = sorted(file for pattern in patterns for file in folder.glob(pattern))
    return {str(file.relative_to(folder)): sha256(file) for file in found}
