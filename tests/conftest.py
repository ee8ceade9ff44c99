"""Fixtures that tests share, the real workflow among them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from farm import plant

from wsss.errors import WsssError
from wsss.plan import papers

ROOT = Path(__file__).parent.parent
TINY = {  # the smallest thing that goes through every stage
    "builder": "shapes",
    "options": {"seed": 1, "train": 12, "val": 6, "size": 64, "icons": 8, "icon_size": 32},
    "splits": {"train": "train", "measured": "train", "val": "val"},
    "pixels": 0.125,
    "seeds": [0],
}


PARTITION = os.environ.get("WSSS_SLURM_PARTITION")  # of the cluster that tests marked slurm use
if PARTITION is None:  # Snakemake's plugin asks scontrol when it is loaded, which waits ten seconds for no controller
    os.environ["SLURM_CONF"] = os.devnull


# A runner in the background ignores Ctrl-C, and every process that the tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Undo what a command that ran in this process did to SIGTERM: processes started later would inherit it."""
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Workflow:
    """A clone of the sources in a folder of its own, with a small data set."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "config.yaml", "pyproject.toml", "workflow", "slurm", "profiles", "envs", "config"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        config["datasets"]["shapes"].update(TINY)
        shapes = config["datasets"]["shapes"]
        few = {"steps": 6, "batch_size": 4}
        shapes["overrides"]["train"].update(few)
        for section in ("affinity", "irn_train", "deeplab"):
            shapes["overrides"][section].setdefault("train", {}).update(few)
        shapes["pretraining"]["train"].update(few)
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "workflow")}

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        result = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)}\n{result.stdout[-4000:]}\n{result.stderr[-8000:]}")
        return result

    def wsss(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "wsss.cli", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Return the rules that a dry run would execute, and how often."""
        result = self("-n", "--quiet", "host", *arguments)
        output = result.stdout + result.stderr
        lines = [line.split() for line in output.splitlines()]
        start = next((i for i, words in enumerate(lines) if words[:2] == ["job", "count"]), None)
        rows = [] if start is None else lines[start + 2 :]
        counts = {}
        for words in rows:
            if len(words) != 2 or words[0] == "total":
                break
            counts[words[0]] = int(words[1])
        return counts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` run where there is a CUDA device, those marked ``slurm`` where a partition is named."""
    lacking = {"gpu": "no CUDA device here"} if not torch.cuda.is_available() else {}
    lacking |= {"slurm": "WSSS_SLURM_PARTITION names no partition"} if PARTITION is None else {}
    for item in items:
        for mark, reason in lacking.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def one_line():
    """Return a check that an action ends with an error of one line with the given words; the check returns the line."""

    def check(action: Callable, *words: str) -> str:
        with pytest.raises(WsssError) as error:
            action()
        message = str(error.value)
        assert "\n" not in message
        assert all(word in message for word in words), message
        return message

    return check


@pytest.fixture
def farm(tmp_path) -> tuple[Path, dict]:
    """Make a small data set: its folder, and the settings that index it."""
    root = tmp_path / "farm"
    return root, plant(root)


@pytest.fixture
def mistaken_paper(tmp_path) -> Callable[[str, str, str, str], None]:
    """Load a paper file in which one text is exchanged for another, and expect a message."""

    def check(text: str, old: str, new: str, message: str) -> None:
        assert old in text
        (tmp_path / "a.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(WsssError, match=message):
            papers.load(["a"], tmp_path)

    return check


@pytest.fixture(scope="session")
def workflow(tmp_path_factory) -> Workflow:
    """A clone in a folder whose name holds what shells and Snakemake read as something else."""
    return Workflow(tmp_path_factory.mktemp('a clone\'s "{x}" für $HOME'))


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Workflow:
    """A clone in a folder with a plain name: with conda and cluster-generic, paths reach a shell as they are."""
    return Workflow(tmp_path_factory.mktemp("plain"))
