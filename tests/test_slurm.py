"""The cluster profile on a real Slurm, from a folder that its nodes see:

WSSS_SLURM_PARTITION=<partition> python -m pytest -m slurm tests --basetemp=<folder>
"""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.slurm

METRICS = "results/shapes/seam/baseline/seed0/metrics/seed_seed.json"


def test_the_profile_runs_the_pipeline_through_sbatch(workflow):
    """From index to metrics in Slurm jobs; the records say which job made what."""
    workflow(
        "--profile", "slurm", "--config", "dataset=shapes", "gpus=0", "threads=1", "workers=1", "shards=2",
        "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5",
        "--default-resources", f"slurm_partition={os.environ['WSSS_SLURM_PARTITION']}", "mem_mb=1500", "runtime=10",
        "--", METRICS,
    )  # fmt: skip
    assert 0 <= json.loads((workflow.folder / METRICS).read_text())["points"]["best"]["miou"] <= 1
    record = json.loads((workflow.folder / "results/shapes/seam/baseline/seed0/train/record.json").read_text())
    assert record["machine"]["slurm"]["SLURM_JOB_ID"].isdigit()
    assert workflow.wsss("audit", METRICS).returncode == 0
