"""What the repository says of itself: pins, the README's commands, the size of the front door."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker

from wsss.cli import parser

ROOT = Path(__file__).parent.parent


PYTHON = "3.11"  # of the conda environment
PYTHONS = ("3.11", "3.12")


def locked(python: str) -> dict[str, str]:
    """The lock's versions for a version of Python."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    here = {"python_full_version": f"{python}.0", "python_version": python}
    return {
        package["name"]: package["version"]
        for package in lock["package"]
        if "version" in package
        and any(Marker(marker).evaluate(here) for marker in package.get("resolution-markers", ["python_version > '3'"]))
    }


def conda_pins() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "envs/wsss.yaml").read_text())
    assert f"python={PYTHON}" in environment["dependencies"]
    return dict(pin.split("==") for pin in environment["dependencies"][-1]["pip"])


def test_the_conda_environment_has_the_locks_pins():
    pins = conda_pins()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(pins) == {re.match(r"[\w.-]+", requirement).group().lower() for requirement in project}
    assert pins == {name: locked(PYTHON)[name] for name in pins}


def test_the_pythons_that_are_admitted_are_the_ones_that_are_solved():
    admitted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert admitted == f">={PYTHONS[0]},<3.{int(PYTHONS[-1].rpartition('.')[2]) + 1}"
    assert PYTHON in PYTHONS


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_pins_can_be_solved(tmp_path, python):
    """Those of the conda environment are the ones of its Python."""
    uv = shutil.which("uv", path=f"{ROOT}/.tools/bin:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not here")
    pins = {name: locked(python)[name] for name in conda_pins()}
    wanted = tmp_path / "requirements.in"
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--python-version", python, str(wanted)]
    result = subprocess.run(command, capture_output=True, text=True)
    if "Failed to fetch" in result.stderr or "Could not connect" in result.stderr:
        pytest.skip("the package index cannot be reached")
    assert result.returncode == 0, result.stderr
    assert f"numpy=={pins['numpy']}" in result.stdout


def test_the_readme_starts_with_two_commands_that_make_knows():
    first = re.search(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1).splitlines()
    assert first == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test"} <= set(targets)


GUIDES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))


def snakemake_commands(guide: Path) -> list[str]:
    """Find the commands of Snakemake in a guide, in blocks and in sentences."""
    text = guide.read_text(encoding="utf-8")
    return re.findall(r"^snakemake [^#\n]*", text, re.M) + re.findall(r"`(snakemake -[^`]*)`", text)


@pytest.mark.parametrize("line", [line for guide in GUIDES for line in snakemake_commands(guide)])
def test_snakemake_takes_every_command_of_the_guides(line: str):
    from snakemake.cli import get_argument_parser

    given = get_argument_parser().parse_args(shlex.split(line)[1:])
    runs_jobs = not (given.dryrun or given.lint or given.unlock)
    assert given.cores or "slurm" in (given.profile or "") or not runs_jobs
    assert all("=" in str(pair) for pair in given.config or ())


def test_the_readme_has_commands_of_snakemake():
    assert len(snakemake_commands(ROOT / "README.md")) > 6


def wsss_commands(guide: Path) -> set[str]:
    """Find the commands of the package in a guide, in blocks and in sentences; those without arguments are names."""
    text = guide.read_text(encoding="utf-8")
    found = re.findall(r"^wsss [^#|\n]*", text, re.M) + re.findall(r"`(wsss [^`\n]*)`", text)
    return {re.sub(r"<[^>]*>", "it", command).partition(" > ")[0].strip() for command in found}


@pytest.mark.parametrize("line", sorted(set.union(*map(wsss_commands, GUIDES))))
def test_wsss_takes_every_command_of_the_guides(line: str, capsys):
    _, name, *arguments = shlex.split(line)
    if name == "--help":
        return
    try:
        parser().parse_args([name, *arguments])
    except SystemExit:
        said = capsys.readouterr().err
        assert "arguments are required" in said or "expected one argument" in said, said
        assert not arguments or arguments[-1].startswith("--"), said  # a sentence may name a command or an option


def test_ci_calls_the_readmes_test_command_and_nothing_else():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in lines if not line.startswith(("#", "set ", "cd "))] == ["make test"]


def test_a_release_has_one_version():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    of_lock = next(package["version"] for package in lock["package"] if package["name"] == "wsss")
    of_project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    newest = next(heading for heading in headings if heading != "Unreleased")
    assert of_lock == of_project == cited == newest


def test_the_snakefile_is_a_table_of_contents():
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 60


def test_the_package_imports_no_snakemake_and_the_plan_no_torch():
    code = "import sys, wsss.plan, wsss.cli; print([m for m in ('snakemake', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    sources = "".join(path.read_text() for path in (ROOT / "workflow/wsss").rglob("*.py"))
    assert not re.search(r"^\s*(import|from) snakemake", sources, re.M)


def test_a_process_of_the_crf_loads_no_torch():
    modules = "wsss.data.index, wsss.refine.crf, wsss.refine.irn_marks, wsss.refine.smooth, wsss.segment.crf"
    code = f"import sys, wsss.cli, {modules}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_stages_without_training_load_no_more_than_torch():
    """Fabric and torchvision load torch's compiler, which takes longer than to localize a small data set."""
    code = "import sys, wsss.cam, wsss.methods.acr, wsss.refine.walk, wsss.refine.irn_walk, wsss.segment; "
    code += "print([m for m in ('lightning_fabric', 'torchvision', 'torch._dynamo') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_lists_the_stages_in_pipeline_order():
    result = subprocess.run([sys.executable, "-m", "wsss.cli", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^    (\S+)", result.stdout, re.M)
    order = [
        "download",
        "index",
        "train",
        "cam",
        "crf",
        "pamr",
        "affinity",
        "walk",
        "irn_marks",
        "irn_train",
        "irn_walk",
        "irn_instances",
    ]
    order += ["deeplab", "predict", "measure", "table", "figure", "audit"]
    assert [command for command in commands if command in order] == order


def test_the_documented_stages_are_the_rows():
    """`wsss stages` prints what stands in the page."""
    page = (ROOT / "docs/architecture.md").read_text()
    block = re.search(r"<!-- stages: .* -->\n(.*?)\n<!-- end of stages -->", page, re.S).group(1)
    said = subprocess.run([sys.executable, "-m", "wsss.cli", "stages"], capture_output=True, text=True, check=True)
    assert block == said.stdout.strip()


def test_the_editors_schema_is_the_types():
    """`wsss schema` prints what stands in the file."""
    said = subprocess.run([sys.executable, "-m", "wsss.cli", "schema"], capture_output=True, text=True, check=True)
    assert said.stdout == (ROOT / "workflow/schemas/settings.schema.json").read_text()
