"""Records tell the truth about inputs, code, machine and attempts. A job refuses inputs that are not what was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from provenance_chain import DATA, RUN, cam, configured, index, settings, table, train, walk, working_in
from provenance_files import flip, read

from wsss.errors import Stopped, WsssError
from wsss.files import sha256
from wsss.plan.drawings import ENTRY_POINTS
from wsss.provenance import code, content, ledger
from wsss.provenance.describe import describe
from wsss.provenance.record import recorded
from wsss.provenance.sources import digest_of_sources, sources

pytest_plugins = ("provenance_fixtures",)


def make(out: str = f"{RUN}/train", inputs: tuple[str, ...] = (), **more: object) -> Path:
    """One job that writes one file; returns its record."""
    with recorded("train", inputs, [out], settings("train", 0, **more), "auto"):
        Path(out).mkdir(parents=True, exist_ok=True)
        Path(out, "model.pt").write_text("weights")
    return Path(out, "record.json")


@pytest.fixture
def here(tmp_path):
    with working_in(tmp_path):
        yield tmp_path


def test_a_record_follows_the_published_schema(finished):
    for path in finished.folder.rglob("*record.json"):
        assert content.parse(path.read_bytes())["version"] == 2


def test_a_record_says_what_an_auditor_asks_for(finished):
    record = read(finished.path("seam/seam/seed0/cam/measured-0-of-1.record.json"))
    assert record["self"] == "toy/seam/seam/seed0/cam/measured-0-of-1.record.json"
    assert record["results"] == "results"
    assert set(record["parents"]) == {
        "toy/data/dataset.json",
        "toy/data/index.csv",
        "toy/seam/seam/seed0/train/model.pt",
    }
    model = read(finished.path("seam/seam/seed0/train/record.json"))
    assert record["parents"]["toy/seam/seam/seed0/train/model.pt"] == model["identity"]
    assert record["seed"] == 0
    assert record["supervision"]
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["device_asked"] == "auto"
    assert {"processor", "instructions", "folder", "slurm"} <= set(record["machine"])
    assert record["packages"]["numpy"]
    assert "cam.py" in record["code"]["files"]
    assert len(record["code"]["lock"]) == 64
    assert record["outputs"]["toy/seam/seam/seed0/cam/measured-0-of-1.npz"]["size"] > 0


def test_files_outside_the_results_are_pinned_by_content(here, tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights") / "w.pth"
    weights.write_text("of the user")
    record = read(make(inputs=(str(weights),)))
    assert record["inputs"] == {}
    assert record["external"][str(weights)]["sha256"] == sha256(weights)


def test_the_same_bytes_made_again_are_clean(chain):
    with working_in(chain.folder):
        before = read(chain.path("seam/seam/seed0/train/record.json"))
        train()
        after = read(chain.path("seam/seam/seed0/train/record.json"))
    assert before["identity"] == after["identity"]
    assert before["seal"] != after["seal"]
    assert not chain.audit().findings


def test_other_bytes_make_what_rests_on_them_stale(chain):
    with working_in(chain.folder):
        train(steps=4)
    assert ("stale", "toy/seam/seam/seed0/train/model.pt") in chain.kinds()


def test_the_same_bytes_of_other_settings_are_reported(chain):
    with working_in(chain.folder):
        walk()
        config = settings("walk", 0, walk={"beta": 8, "more": 1})
        out = f"{RUN}/walk/measured-0-of-1.zip"
        inputs = [configured(f"{RUN}/walk/config.yaml", config), DATA, f"{RUN}/cam/measured-0-of-1.npz"]
        with recorded("walk", inputs, [out], config, "auto"):
            pass
    kinds = chain.kinds()
    assert kinds == {("stale", "toy/seam/seam/seed0/walk/measured-0-of-1.zip")}


def test_a_job_refuses_an_input_that_is_not_what_was_made(chain, one_line):
    flip(chain.path("seam/seam/seed0/train/model.pt"))
    with working_in(chain.folder):
        one_line(cam, "model.pt", "is not what 'train' made", "--mend")


def test_a_job_refuses_an_input_with_a_broken_record(chain, one_line):
    chain.path("seam/seam/seed0/train/record.json").write_text("{}")
    with working_in(chain.folder):
        one_line(cam, "record.json", "is no record of version 2", "delete it")


def test_an_input_that_changes_while_a_job_runs_is_an_error(chain, one_line):
    def job() -> None:
        with recorded("cam", [f"{RUN}/train/model.pt"], [f"{RUN}/cam/val-0-of-1.npz"], settings("cam", 0), "cpu"):
            Path(f"{RUN}/train/model.pt").write_text("other weights")

    with working_in(chain.folder):
        one_line(job, "model.pt", "was changed while 'cam' read it")
        assert not Path(f"{RUN}/cam/val-0-of-1.record.json").exists()


def test_an_input_that_is_only_touched_is_none(chain):
    with working_in(chain.folder), recorded("cam", [DATA], [f"{RUN}/cam/val-0-of-1.npz"], settings("cam", 0), "cpu"):
        os.utime(f"{DATA}/index.csv")
        Path(f"{RUN}/cam/val-0-of-1.npz").write_text("scores")


def test_code_that_changes_while_a_job_runs_is_an_error(here, one_line, monkeypatch):
    before = code.files("train", settings("train", 0))
    file = next(iter(before))
    monkeypatch.setattr(code, "files_again", lambda *_: {**before, file: "0" * 64})
    monkeypatch.setattr(code, "stamps", iter([(), (), ("touched",)]).__next__)
    one_line(make, file, "was changed while 'train' ran")
    assert not Path(RUN, "train/record.json").exists()


def test_code_of_today_that_is_another_is_named(chain, monkeypatch):
    real = code.files
    monkeypatch.setattr(code, "files", lambda *given: {**real(*given), "cam.py": "0" * 64})
    kinds = {(finding.kind, finding.place) for finding in chain.audit(code=True).findings}
    assert ("code", "workflow/wsss/cam.py") in kinds


def test_other_locked_packages_are_named_and_make_nothing_again(chain, tmp_path, monkeypatch):
    (tmp_path / "uv.lock").write_text("another")
    monkeypatch.setattr(code, "LOCK", tmp_path / "uv.lock")
    found = chain.audit(code=True)
    assert [(finding.kind, finding.place) for finding in found.findings] == [("code", "uv.lock")]
    assert "make nothing again" in describe(found)


def test_code_of_today_is_read_anew(here):
    assert code.files_again("cam", {}) == code.files("cam", {})


def test_the_commit_is_of_the_repository_that_tracks_the_package(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    package = tmp_path / "workflow/wsss"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "nothing of the package")
    monkeypatch.setattr(code, "PACKAGE", package)
    monkeypatch.setattr(code, "REPOSITORY", tmp_path)
    assert code._of_repository()["commit"] is None
    git("add", ".")
    git("commit", "-q", "-m", "the package")
    clean = code._of_repository()
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (package / "new.py").write_text("a = 1\n")
    dirty = code._of_repository()
    assert dirty["dirty"] is True
    assert list(dirty["untracked"]) == ["workflow/wsss/new.py"]
    (package / "__init__.py").write_text("b = 2\n")
    assert "+b = 2" in code._of_repository()["patch"]
    (package / "__init__.py").write_text("b = 2\n" * 50_000)
    assert code._of_repository()["patch"] is None
    assert len(code._of_repository()["patch_sha256"]) == 64


def test_the_entry_points_are_those_of_the_plan():
    assert {
        "table": ENTRY_POINTS["tables"],
        "figure": ENTRY_POINTS["figures"],
        "judge": ENTRY_POINTS["claims"],
        "page": "",
    } == {**code.DRAWN, "page": ""}


def test_packages_are_those_that_were_imported():
    script = "import numpy; from wsss.provenance.machine import packages; print(sorted(packages()))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "numpy" in result.stdout
    assert "torch" not in result.stdout


def test_every_attempt_stays_in_the_ledger(here):
    def fail(error: BaseException) -> None:
        with recorded("train", [], [f"{RUN}/train"], settings("train", 0), "cpu"):
            raise error

    for error in (WsssError("boom"), Stopped("stopped at step 3"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
    assert not Path(RUN, "train/record.json").exists()
    record = read(make())
    events = [json.loads(line) for line in Path(RUN, "train/attempts.jsonl").read_text().splitlines()]
    assert [event["how"] for event in events if event["event"] == "ended"] == [
        "failed",
        "stopped",
        "interrupted",
        "done",
    ]
    assert record["attempts"]["number"] == 4
    assert ledger.LEDGER not in os.environ


def resumed_job(at: int, basis: str | None = None) -> None:
    with recorded("train", [], [f"{RUN}/train"], settings("train", 0), "cpu"):
        ledger.note("resumed", step=at, basis=ledger.basis() if basis is None else basis)
        Path(RUN, "train/model.pt").write_text("weights")


def kinds_of_training() -> list[str]:
    from wsss.provenance.audit import audit

    return [finding.kind for finding in audit(Path(RUN, "train"), cold=True, code=False).findings]


def test_a_training_that_goes_on_with_the_same_inputs_is_clean(here):
    make()
    resumed_job(33)
    assert kinds_of_training() == []


def test_a_training_that_goes_on_with_other_inputs_is_mixed(here):
    Path("masks.zip").write_text("masks")
    make(inputs=("masks.zip",))
    resumed_job(33)
    assert kinds_of_training() == ["attempt mixed"]


def test_a_checkpoint_of_other_inputs_is_mixed(here):
    make()
    resumed_job(33, "0" * 64)
    assert kinds_of_training() == ["attempt mixed"]


def test_a_ledger_that_was_rewritten_is_found(here):
    make()
    path = Path(RUN, "train/attempts.jsonl")
    path.write_text(path.read_text().replace("done", "lost"))
    assert kinds_of_training() == ["modified"]


def test_a_page_lists_what_it_embeds(chain):
    records = ["results/toy/tables/seam_table2/record.json"]
    shown = "results/toy/tables/seam_table2/table.html"
    page, out = chain.path("report/index.html"), ["results/toy/report/index.html"]

    def kinds() -> list[tuple[str, str]]:
        from wsss.provenance.audit import audit

        return [(finding.kind, finding.place) for finding in audit(page, cold=True, code=False).findings]

    with working_in(chain.folder):
        for inputs in (records, [*records, shown]):
            with recorded("page", inputs, out, None, "cpu"):
                page.parent.mkdir(exist_ok=True)
                page.write_text("all of it")
            if inputs == records:
                assert kinds() == [("untraced", "toy/tables/seam_table2/table.html")]
        assert kinds() == []
        table()
        assert kinds() == [("stale", "toy/tables/seam_table2/record.json")]


def test_the_supervision_of_a_folder_is_known(tmp_path):
    for name in ("labels.csv", "train.txt", "images/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("id,cat\na,1\n")
    config = {"name": "mine", "builder": "folder", "root": str(tmp_path), "lists": {"train": "train.txt"}}
    assert [Path(path).name for path in sources(config)] == ["labels.csv", "train.txt"]
    before = digest_of_sources(config)
    (tmp_path / "labels.csv").write_text("id,dog\na,1\n")
    assert digest_of_sources(config) != before


def test_the_supervision_of_voc_is_known(tmp_path):
    for name in ("JPEGImages/a.jpg", "ImageSets/Segmentation/train.txt", "Annotations/a.xml", "Annotations/b.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n")
    config = {"name": "voc", "builder": "voc", "root": str(tmp_path), "lists": {"train": "train.txt"}}
    assert [Path(path).name for path in sources(config)] == ["a.xml", "train.txt"]
    assert sources({**config, "labels": None}) == [str(tmp_path / "ImageSets/Segmentation/train.txt")]


def test_the_supervision_of_coco_is_known_and_drawn_images_have_none(tmp_path):
    path = tmp_path / "annotations/instances_train2014.json"
    path.parent.mkdir()
    path.write_text("{}")
    assert sources({"builder": "coco", "root": str(tmp_path)}) == [str(path)]
    assert digest_of_sources({"builder": "shapes"}) is None


def test_labels_that_are_swapped_are_found(tmp_path_factory, here):
    labels = tmp_path_factory.mktemp("mine") / "labels.csv"
    labels.write_text("id,cat,dog\n")
    index()
    config = configured(f"{DATA}/config.yaml", {"builder": "folder"})
    with recorded("index", [config, str(labels)], [DATA], {"builder": "folder"}, "cpu"):
        pass
    labels.write_text("id,dog,cat\n")
    from wsss.provenance.audit import audit

    found = audit(f"{DATA}/index.csv", cold=True, code=False).findings
    assert [(finding.kind, finding.place) for finding in found] == [("modified", str(labels))]
