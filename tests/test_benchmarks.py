"""Every benchmark runs, at sizes that take no time, and ends with the ratio of plain time to ours."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SIZES = {
    "audit": "--images 20",
    "crf": "--images 2 --height 48 --width 64",
    "dry_run": "--dataset shapes --targets seam_table2",
    "gpu": "--device cpu --sizes small --methods cam --seconds 0.1 --out {folder}/gpu.json --into {folder}/page.md",
    "methods": "--backbone tiny --crop 32 --batch 2 --methods cam --warmup 1 --steps 1 --repeats 1",
    "pamr": "--images 2 --height 48 --width 64",
    "record": "--jobs 2 --megabytes 1",
    "store": "--images 2 --size 64",
    "sweep": "--images 2 --height 40 --width 56",
    "whole_run": "--dataset shapes --targets seam_table2",
    "walk": "--height 12 --width 16 --log_steps 2",
}


def test_every_script_has_its_sizes_here():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == SIZES.keys()


def run(script: str, folder: Path) -> list[str]:
    """Run a benchmark; returns the lines that it prints."""
    (folder / "page.md").write_text("before\n<!-- figures of gpu.py -->\n<!-- end of the figures -->\nafter\n")
    command = [sys.executable, str(FOLDER / f"{script}.py"), *SIZES[script].format(folder=folder).split()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.splitlines()


@pytest.mark.parametrize("script", [name for name in SIZES if name != "gpu"])
def test_it_ends_with_its_ratio(script, tmp_path):
    word, ratio = run(script, tmp_path)[-1].split()
    assert word == "ratio"
    assert float(ratio) > 0


def test_the_benchmark_of_a_gpu_measures_everything_and_goes_on_where_it_stopped(tmp_path):
    word, ratio = run("gpu", tmp_path)[-1].split()
    assert word == "ratio"
    assert float(ratio) > 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["what"], row.get("precision"), row.get("how", "")): row for row in found["rows"]}
    assert not [row for row in rows.values() if "failed" in row]
    assert {what for what, *_ in rows} == {"peak", "train", "localize", "walk", "resume", "loading", "ddp"}
    trained = {(row["method"], row["precision"]) for row in found["rows"] if row["what"] == "train" and not row["how"]}
    assert trained == set(itertools.product(("cam", "affinity", "deeplab"), ("bf16", "tf32", "float32")))
    assert rows["resume", None, "deterministic"]["equal"]
    assert rows["train", "bf16", ""]["share"] > 0
    page = (tmp_path / "page.md").read_text().splitlines()
    assert (page[0], page[-1]) == ("before", "after")
    assert any(line.startswith("| cam | float32 | - |") for line in page)
    del found["rows"][-2:]
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    said = run("gpu", tmp_path)
    assert sum(line.startswith("{") for line in said) == 2  # what was missing, and nothing else
