"""The workflow as a part of another, deployed by snakedeploy, and in a Snakemake that lacks its packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from conftest import TINY, Workflow

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parent.parent
SMALL = {"dataset": "shapes", "datasets": {"shapes": TINY}}
OF_ITS_OWN = """
rule its_own:
    input: "copy.csv", "summary"

rule summary:
    output: "summary"
    shell: "echo '{config}' > {{output}}"

module wsss:
    snakefile: "{clone}/{snakefile}"
    {config_line}

use rule * from wsss{as_what}

rule copy:
    input: "results/shapes/data/index.csv"
    output: "copy.csv"
    shell: "cp {{input}} {{output}}"
"""


class Importer:
    """A workflow of somebody else, in a folder of its own, that uses ours as a module."""

    def __init__(self, folder: Path, clone: Path):
        self.folder, self.clone = folder, clone
        self.env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}

    def write(self, text: str, config: dict | None = None, name: str = "Snakefile") -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")
        if config is not None:
            (self.folder / "its.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def __call__(self, *arguments: str, check: bool = True, python: str = sys.executable) -> str:
        command = [python, "-m", "snakemake", "--cores", "2", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == check, said[-6000:]
        return said


@pytest.fixture
def importer(tmp_path, workflow: Workflow) -> Importer:
    return Importer(tmp_path, workflow.folder)


@pytest.mark.parametrize(
    ("as_what", "config_line", "snakefile"),
    [
        ("", "", "workflow/Snakefile"),
        ("", 'config: config["ours"]', "Snakefile"),
        (" as wsss_*", "", "Snakefile"),
        (" as wsss_*", 'config: config["ours"]', "workflow/Snakefile"),
    ],
)
def test_another_workflow_uses_its_rules(importer, as_what, config_line, snakefile):
    text = OF_ITS_OWN.format(
        clone=importer.clone, as_what=as_what, config_line=config_line, snakefile=snakefile, config=""
    )
    head = 'configfile: "its.yaml"\n' if config_line else ""
    importer.write(head + text, {"samples": "its own", "ours": SMALL})
    prefix = "wsss_" if as_what else ""
    listed = importer("--list")
    assert f"{prefix}train (Train a method's networks on image-level labels.)" in listed
    assert re.search(rf"^{prefix}submission_acr_acr \(Test images segmented", listed, re.M)
    asked = importer("-n", "--quiet", "host", "--config", "samples=other", "--", f"{prefix}seam_table2")
    assert re.search(rf"^{prefix}measure +4$", asked, re.M)
    assert "Before seam_table2 can be written" in asked

    importer()  # its own first rule, which needs our index
    index = (importer.folder / "results/shapes/data/index.csv").read_text(encoding="utf-8")
    assert (importer.folder / "copy.csv").read_text(encoding="utf-8") == index
    assert (importer.folder / "summary").is_file()
    assert len(index.splitlines()) == 1 + TINY["options"]["train"] + TINY["options"]["val"]
