"""Every benchmark runs, at sizes that take no time, and ends with the ratio of plain time to ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SIZES = {
    "audit": "--images 20",
    "crf": "--images 2 --height 48 --width 64",
    "dry_run": "--dataset shapes --targets seam_table2",
    "methods": "--backbone tiny --crop 32 --batch 2 --methods cam --warmup 1 --steps 1 --repeats 1",
    "pamr": "--images 2 --height 48 --width 64",
    "record": "--jobs 2 --megabytes 1",
    "store": "--images 2 --size 64",
    "sweep": "--images 2 --height 40 --width 56",
    "walk": "--height 12 --width 16 --log_steps 2",
}


def test_every_script_has_its_sizes_here():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == SIZES.keys()


@pytest.mark.parametrize("script", SIZES)
def test_it_ends_with_its_ratio(script):
    command = [sys.executable, str(FOLDER / f"{script}.py"), *SIZES[script].split()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    word, ratio = result.stdout.splitlines()[-1].split()
    assert word == "ratio"
    assert float(ratio) > 0
