"""What is made when nothing is named, and what makes it again: Snakemake, `wsss cost` and `wsss targets` agree."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import Workflow
from provenance_files import stages_of

from wsss.stages import STAGES
from wsss.stores import Scores

pytestmark = pytest.mark.workflow

TABLE = "results/shapes/tables/seam_stages"
BASELINE = "results/shapes/seam/baseline/seed0"
COUNTED = [name for name in STAGES if name not in ("index", "submission")]
CRF_ROW = '    "crf": Stage('
FURTHER_ROW = '    "further": Stage(function="wsss.refine.further:further", makes="scores"),\n'
ALL = {"train": 3, "cam": 2, "crf": 1, "affinity": 1, "walk": 1, "deeplab": 1, "predict": 2, "measure": 5}


@contextmanager
def edited(clone, file: str, old: str, new: str) -> Iterator[None]:
    path = clone.folder / "workflow/wsss" / file
    content = path.read_text()
    assert old in content, file
    try:
        path.write_text(content.replace(old, new, 1))
        yield
    finally:
        path.write_text(content)


def by_snakemake(clone) -> dict[str, int]:
    jobs = clone.jobs()
    return {stage: jobs[stage] for stage in COUNTED if stage in jobs}


def by_cost(clone) -> dict[str, int]:
    said = clone.wsss("cost").stdout
    found = {}
    for stage in COUNTED:
        for words in (STAGES[stage].one, STAGES[stage].many):
            if match := re.search(rf"^ +(\d+) {re.escape(words)} ", said, re.M):
                found[stage] = int(match[1])
    return found


def by_targets(clone) -> dict[str, str]:
    """The state of the tables and figures that are made by default."""
    lines = clone.wsss("targets").stdout.replace("\n    ", "  ").splitlines()
    names = ("seam_stages", "seam_pipeline", "seam_thresholds", "seam_classes")
    return {line.split()[0]: line for line in lines if line.startswith(names)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workflow:
    """A clone with everything that `snakemake` makes when nothing is named.

    It takes minutes. All tests that need it are in this file, so one process makes it.
    """
    clone = Workflow(tmp_path_factory.mktemp("made"))
    clone()
    return clone


def test_everything_is_made_once(made):
    table = list(csv.DictReader((made.folder / TABLE / "table.csv").read_text().splitlines()))
    assert [row["row"] for row in table[:2]] == ["CAM", "CAM + dense CRF"]
    assert all(0 <= float(row["ours"]) <= 100 for row in table)
    assert {"table.md", "table.tex", "table.html"} <= {p.name for p in (made.folder / TABLE).iterdir()}
    for picture in (made.folder / "results/shapes/figures").glob("*/figure.png"):
        assert picture.stat().st_size > 5000
    assert made.jobs() == {}


def test_results_of_one_run_are_shared(made):
    """Further class maps of the baseline's classifier need no training."""
    jobs = made.jobs("--", "seam_table2")
    assert jobs["cam"] == 2
    assert "train" not in jobs


def test_the_whole_chain_is_clean_and_an_edit_is_found(made):
    clean = made.wsss("audit", f"{TABLE}/table.csv")
    assert clean.returncode == 0, clean.stdout
    assert made.wsss("audit", "seam_stages").returncode == 0
    assert made.wsss("audit", "seam_table1").returncode == 2  # not made
    assert {"table", "measure", "cam", "train", "index"} <= stages_of(clean.stdout)
    model = made.folder / BASELINE / "train/model.pt"
    content = model.read_bytes()
    try:
        model.write_bytes(content + b"x")
        found = made.wsss("audit", f"{TABLE}/table.csv")
    finally:
        model.write_bytes(content)
    assert found.returncode == 1
    assert f"modified: {BASELINE.removeprefix('results/')}/train/model.pt" in found.stdout


def test_nothing_is_stale_at_first(made):
    assert by_snakemake(made) == by_cost(made) == {}
    assert all(re.search(r"  made$", line) for line in by_targets(made).values())


@pytest.mark.parametrize(
    ("file", "old", "new", "again"),
    [
        ("methods/acr.py", "If a segment is complete", "If  a segment is complete", {}),
        ("methods/acr.py", "return c_t * g,", "return c_t + g,", {}),
        ("data/download.py", "MIRROR =", "# a remark\nMIRROR =", {}),
        ("stages.py", CRF_ROW, FURTHER_ROW + CRF_ROW, {}),
        ("methods/seam.py", "COLUMNS = 4096", "COLUMNS = 4095", {"train": 1, "cam": 1, "measure": 1}),
        ("refine/crf.py", "FLOOR = 1e-5", "FLOOR = 1e-6", None),
        ("run_training.py", '["seed"])', '["seed"] + 1)', ALL),
        ("data/index.py", "records[i::n]", "records[i:]", ALL),
        ("files.py", "os.replace(temporary, path)", "os.rename(temporary, path)", ALL),
        ("measure/metrics.py", "EPS = 1e-10", "EPS = 1e-9", {"measure": 5}),
    ],
)
def test_all_three_agree_on_what_an_edit_makes_stale(made, file, old, new, again):
    with edited(made, file, old, new):
        planned, cost, targets = by_snakemake(made), by_cost(made), by_targets(made)
    assert planned == cost
    if again is not None:
        assert planned == again
    stale = [name for name, line in targets.items() if "stale: other settings or code" in line]
    assert bool(stale) == bool(planned)


def test_a_template_makes_tables_stale_and_computes_nothing(made):
    with edited(made, "report/templates/table.md.j2", "# {{", "## {{"):
        jobs, targets = made.jobs(), by_targets(made)
        assert by_cost(made) == {}
    assert jobs["table"] == 1
    assert "figure" not in jobs
    assert "the code that draws it" in targets["seam_stages"]
    assert targets["seam_classes"].endswith("  made")


def test_other_settings_of_one_stage_leave_the_stages_before_alone(made):
    (made.folder / "other.yaml").write_text("overrides: {walk: {alpha: 7}}")
    jobs = made.jobs("--configfile", "other.yaml", "--")
    assert {"walk", "deeplab", "predict", "measure"} <= set(jobs)
    assert not {"train", "cam", "crf", "affinity"} & set(jobs)


def test_touching_a_model_runs_nothing_again(made):
    (made.folder / BASELINE / "train/model.pt").touch()
    assert made.jobs() == {}


def test_what_is_missing_below_a_result_is_not_made_again(made):
    """Results that came back from a cluster without its models; the cost of a target says the same."""
    model, record = made.folder / BASELINE / "train/model.pt", made.folder / TABLE / "record.json"
    content = model.read_bytes(), record.read_bytes()
    try:
        model.unlink()
        assert made.jobs("--", "seam_stages") == {}
        record.unlink()
        assert made.jobs("--", "seam_stages") == {"table": 1, "seam_stages": 1}
        assert made.wsss("cost", "seam_stages").stdout.strip() == "Nothing has to be computed."
    finally:
        model.write_bytes(content[0])
        record.write_bytes(content[1])


def test_other_numbers_of_threads_and_processes_run_nothing_again(made):
    assert made.jobs("--config", "threads=2", "workers=1", "loaders=2", "shards=3") == {}


def test_another_locale_changes_nothing(made, tmp_path, monkeypatch):
    """Texts are UTF-8, whatever the locale says."""
    name = "en_US.ISO-8859-1"
    compiled = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / name)]
    if shutil.which("localedef") is None or subprocess.run(compiled, capture_output=True).returncode:
        pytest.skip("no locales can be made here")
    monkeypatch.setattr(made, "env", made.env | {"LOCPATH": str(tmp_path), "LC_ALL": name, "PYTHONUTF8": "0"})
    code = "import sys; print(sys.getfilesystemencoding())"
    found = subprocess.run([sys.executable, "-c", code], env=made.env, capture_output=True, text=True)
    assert found.stdout.strip() == "iso8859-1"
    assert made.jobs() == {}
    made("--config", "results=elsewhere", "--", "elsewhere/shapes/data/index.csv")
    index = [made.folder / folder / "shapes/data/index.csv" for folder in ("results", "elsewhere")]
    assert index[0].read_bytes() == index[1].read_bytes()
    said = made("-n", "--config", "results=Ergebniß", check=False)
    assert "PYTHONUTF8=1" in said.stdout + said.stderr


def test_measuring_otherwise_does_not_train_again(made):
    (made.folder / "other.yaml").write_text("overrides: {measure: {fixed: 0.3}}")
    jobs = made.jobs("--configfile", "other.yaml", "--", "seam_stages")
    assert "train" not in jobs
    assert jobs["measure"] == 5


def test_the_number_of_shards_changes_no_result(made):
    metrics = "shapes/seam/baseline/seed0/measure/walk_measured.json"
    whole = json.loads((made.folder / "results" / metrics).read_text())
    made("--config", "shards=3", "results=cut", "--", f"cut/{metrics}")
    cut = made.folder / "cut/shapes/seam/baseline/seed0"
    assert len(list((cut / "walk").glob("measured-*-of-3.zip"))) == 3
    assert json.loads((made.folder / "cut" / metrics).read_text()) == whole
    shards = [cut / f"cam/measured-{i}-of-3.npz" for i in range(3)]
    whole_store, cut_store = Scores([made.folder / BASELINE / "cam/measured-0-of-1.npz"]), Scores(shards)
    assert cut_store.ids == whole_store.ids
    for image_id in whole_store.ids:
        assert np.array_equal(cut_store.get(image_id)[1], whole_store.get(image_id)[1])
