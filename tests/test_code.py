"""The digest of a stage's code: what counts in it, and what does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wsss.plan import code

ROOT = Path(__file__).parent.parent
DIGESTS = """
import json
from wsss.plan.code import stage_code
from wsss.stages import STAGES

print(json.dumps({
    f"{stage} {method}": stage_code(stage, {"names": ["shapes"] if stage == "index" else [method, "tiny"]})
    for stage in STAGES for method in ("cam", "acr")
}))
"""
TRAININGS = {"train", "affinity", "irn_train", "deeplab"}
WALKS = {"walk", "irn_walk", "irn_instances"}
SHARDS = {"cam", "crf", "pamr", "predict", "irn_marks"} | WALKS
IMAGES = TRAININGS | SHARDS | {"measure", "submission", "index"}


def edit(package: Path, file: str, old: str, new: str) -> None:
    """Replace the one place in a file of the package where ``old`` stands; without ``old``, add ``new`` at its end."""
    path = package / file
    text = path.read_text()
    if old:
        assert text.count(old) >= 1, f"{file}: {old}"
    path.write_text(text.replace(old, new, 1) if old else text + new)


class Package:
    """A copy of the sources whose digests can be asked for, before and after edits."""

    def __init__(self, folder: Path):
        self.folder = folder / "wsss"
        shutil.copytree(ROOT / "workflow/wsss", self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.before = self.digests()

    def digests(self) -> dict[str, str]:
        env = {**os.environ, "PYTHONPATH": str(self.folder.parent)}
        said = subprocess.run([sys.executable, "-c", DIGESTS], env=env, capture_output=True, text=True, check=True)
        return json.loads(said.stdout)

    def changed(self, *edits: tuple[str, str, str]) -> set[str]:
        """The stages, each with a method, whose digest edits change. The edits are undone."""
        kept = {file: (self.folder / file).read_bytes() for file, _, _ in edits if (self.folder / file).exists()}
        try:
            for file, old, new in edits:
                (self.folder / file).touch()
                edit(self.folder, file, old, new)
            after = self.digests()
        finally:
            for file, _, _ in edits:
                if file in kept:
                    (self.folder / file).write_bytes(kept[file])
                else:
                    (self.folder / file).unlink()
        return {name for name, digest in after.items() if digest != self.before.get(name, digest)}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Package:
    return Package(tmp_path_factory.mktemp("sources"))


CRF_ROW = '    "crf": Stage('
FURTHER_ROW = '    "further": Stage(function="wsss.refine.further:further", makes="scores"),\n'
NOTHING = {
    "a space in a docstring": [("methods/acr.py", "If a segment is complete", "If  a segment is complete")],
    "a comment": [("data/download.py", "", "# a remark\n"), ("train.py", "", "# another\n")],
    "a docstring of a function": [("data/index.py", '"""', '"""Well: ')],
    "line breaks": [("loop.py", "def poly(step: int,", "def poly(\n    step: int,")],
    "a new method": [
        ("methods/further.py", "", "x = 1\n"),
        ("methods/__init__.py", '"cam":', '"further": "wsss.methods.further:x",\n    "cam":'),
    ],
    "a new stage": [
        ("refine/further.py", "", "def further(given): ...\n"),
        ("stages.py", CRF_ROW, FURTHER_ROW + CRF_ROW),
    ],
    "a new backbone": [
        ("backbones/further.py", "", "x = 1\n"),
        ("backbones/__init__.py", '"tiny":', '"further": "wsss.backbones.further:x",\n    "tiny":'),
    ],
    "another backbone's code": [("backbones/resnet38d.py", "dilation * (size // 2)", "dilation * (size // 3)")],
    "imports for type checkers": [("job.py", "TYPE_CHECKING:", "TYPE_CHECKING:\n    from wsss.data import coco")],
    "the plan": [("plan/cost.py", "", "x = 1\n")],
    "the words of commands": [("commands.py", "", "x = 1\n")],
}


@pytest.mark.parametrize("edits", [pytest.param(edits, id=name) for name, edits in NOTHING.items()])
def test_what_cannot_change_a_result_makes_nothing_stale(package, edits):
    assert package.changed(*edits) == set()


def of(stages: set[str], *methods: str) -> set[str]:
    return {f"{stage} {method}" for stage in stages for method in methods or ("cam", "acr")}


NETWORKS = (TRAININGS | SHARDS) - {"crf", "pamr", "irn_marks"}
SOMETHING = {
    "a method's code": (("methods/acr.py", "return c_t * g,", "return c_t + g,"), of({"train", "cam"}, "acr")),
    "how torch is seeded": (("run_training.py", '["seed"])', '["seed"] + 1)'), of(TRAININGS)),
    "the training loop": (("loop.py", "LOG_EVERY = 10", "LOG_EVERY = 11"), of(TRAININGS)),
    "the shard loop": (("run_shards.py", "*entry", "*entry[::-1]"), of(SHARDS)),
    "how files are written": (("files.py", "os.replace(temporary", "os.rename(temporary"), of(IMAGES)),
    "work by processes": (("pool.py", "QUEUED = 3", "QUEUED = 4"), of({*SHARDS, "index"})),
    "the network": (("backbones/tiny.py", "x + self.bn2", "x - self.bn2"), of(NETWORKS)),
    "how images are read": (("data/pictures.py", 'picture.convert("RGB")', 'picture.convert("L")'), of(IMAGES)),
    "a builder": (("data/shapes.py", "MIN_VISIBLE = 0.6", "MIN_VISIBLE = 0.7"), of({"index"})),
    "the measures": (("measure/metrics.py", "EPS = 1e-10", "EPS = 1e-9"), of({"measure"})),
}


@pytest.mark.parametrize(("edits", "stale"), [pytest.param(*case, id=name) for name, case in SOMETHING.items()])
def test_code_that_a_stage_runs_makes_it_stale_and_nothing_else(package, edits, stale):
    assert package.changed(edits) == stale


def test_the_choice_of_images_makes_all_that_reads_images_stale(package):
    assert package.changed(("data/index.py", "records[i::n]", "records[i:]")) >= of(TRAININGS | SHARDS | {"measure"})


@pytest.mark.parametrize("file", ["report/templates/table.md.j2", "report/templates/table.tex.j2"])
def test_templates_count_where_they_are_read(file):
    tables = code.files_of(["wsss.report.tables:write_table"], {})
    assert file in tables
    assert file not in code.files_of(["wsss.report.figures:draw_figure"], {"kind": "class_bars"})


def test_a_figure_depends_on_its_kind_alone():
    bars = code.files_of(["wsss.report.figures:draw_figure"], {"kind": "class_bars"})
    assert "report/charts.py" in bars
    assert not [file for file in bars if file.startswith(("methods", "backbones", "report/insides"))]


def test_every_file_that_the_package_reads_is_named_by_a_module():
    """Templates and YAML: those of settings come into the digest as settings, the others by ``READS``."""
    root = ROOT / "workflow/wsss"
    named: set[str] = set()
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        named |= set(code._read(".".join(("wsss", *parts)).removesuffix(".__init__")).reads)
    files = [path.relative_to(root) for path in root.rglob("*") if path.suffix in (".j2", ".yaml", ".json")]
    settings = {"defaults.yaml", "segment/presets.yaml"}
    others = {file.as_posix() for file in files if file.parent.name != "methods"} - settings
    assert others == named


def test_the_digest_does_not_depend_on_the_order_of_settings():
    settings = {"method": {"name": "seam"}, "backbone": {"name": "tiny"}}
    turned = dict(reversed(settings.items()))
    assert code.stage_code("train", settings) == code.stage_code("train", turned)
