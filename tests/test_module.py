"""The workflow as a part of another, deployed by snakedeploy, and in a Snakemake that lacks its packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
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
    snakefile: {snakefile!r}
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
        self.folder, self.clone, self.snakefile = folder, clone, f"{clone}/Snakefile"
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
        as_what=as_what, config_line=config_line, snakefile=f"{importer.clone}/{snakefile}", config=""
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
    assert len(index.splitlines()) == 1 + sum(TINY["options"][split] for split in ("train", "val", "icons"))


def test_a_module_that_moves_its_files_is_told_how_to(importer):
    importer.write(
        f'module wsss:\n    snakefile: {importer.snakefile!r}\n    prefix: "below"\n\nuse rule * from wsss\n'
    )
    assert "set 'results' in its config" in importer("-n", check=False)


def test_a_wrong_value_in_a_modules_configuration_is_named(importer):
    config = '    config: {"device": "tpu"}\n'
    importer.write(f"module wsss:\n    snakefile: {importer.snakefile!r}\n{config}\nuse rule * from wsss\n")
    assert "configuration: device: 'tpu' does not match" in importer("-n", check=False)


@pytest.fixture
def github(tmp_path, workflow) -> dict[str, str]:
    """A repository of the clone, in place of one on GitHub: the environment in which git finds it there."""
    home = tmp_path / "hosted/somebody/wsss"
    home.parent.mkdir(parents=True)
    shutil.copytree(workflow.folder, home, ignore=shutil.ignore_patterns("results", ".snakemake", "__pycache__"))
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*who, "commit", "-qm", "all"), ("tag", "v1")):
        subprocess.run(["git", *words], cwd=home, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/hosted/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python with Snakemake and snakedeploy, and without the packages that jobs need."""
    environment = tmp_path_factory.mktemp("environments") / "bare"
    venv.create(environment, with_pip=True)
    packages = (f"snakemake=={metadata.version('snakemake')}", "snakedeploy")
    command = [environment / "bin/python", "-m", "pip", "install", "--quiet", *packages]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the packages cannot be installed here")
    return environment


def test_snakedeploy_makes_a_project_that_runs(tmp_path, importer, github, bare):
    """As the Snakemake workflow catalog tells people to: the project reads the workflow from its repository."""
    importer.folder, importer.env = tmp_path / "project", importer.env | github
    where = ("https://github.com/somebody/wsss", str(importer.folder), "--tag", "v1")
    command = [bare / "bin/snakedeploy", "deploy-workflow", *where]
    deployed = subprocess.run(command, env=importer.env, capture_output=True, text=True)
    assert deployed.returncode == 0, deployed.stderr
    assert 'github("somebody/wsss", path="workflow/Snakefile", tag="v1")' in (
        importer.folder / "workflow/Snakefile"
    ).read_text(encoding="utf-8")
    assert {path.name for path in (importer.folder / "config").iterdir()} == {"README.md", "config.yaml"}

    said = importer("-n", "--quiet", "host")
    usual = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["datasets"]["shapes"]["targets"]
    assert f"Before {len(usual)} targets can be written" in said
    assert re.search(r"^page +1$", said, re.M)
    importer("--", "results/shapes/data/index.csv")  # a job finds the package, too
    record = (importer.folder / "results/shapes/data/record.json").read_text(encoding="utf-8")
    commit = subprocess.run(
        ["git", "rev-parse", "v1"], cwd=tmp_path / "hosted/somebody/wsss", capture_output=True, text=True
    ).stdout.strip()
    assert commit in record


def test_a_snakemake_that_lacks_the_packages_says_so(importer, bare):
    importer.write(f"include: {importer.snakefile!r}\n")
    said = importer("-n", check=False, python=str(bare / "bin/python"))
    assert re.search(r"lacks .*scipy.*torch.*; install the project there \(python -m pip install ", said)
    assert "/bare/bin/python" in said
