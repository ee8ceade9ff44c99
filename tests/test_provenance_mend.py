"""Findings can be mended, and results that were copied can be taken over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from provenance_chain import RUN, TABLE, cam, index, measured, table, train, walk, working_in
from provenance_files import flip, read, rewrite

from wsss.provenance.adopt import adopt
from wsss.provenance.audit import audit
from wsss.provenance.mend import mend

pytest_plugins = ("provenance_fixtures",)

MAKERS = {
    "toy/data/index.csv": index,
    "toy/seam/seam/seed0/train/model.pt": train,
    "toy/seam/seam/seed0/cam/measured-0-of-1.npz": cam,
    "toy/seam/seam/seed0/walk/measured-0-of-1.zip": walk,
    "toy/seam/seam/seed0/measure/cam_measured.json": lambda: measured("cam"),
    "toy/seam/seam/seed0/measure/walk_measured.json": lambda: measured("walk"),
    "toy/tables/seam_table2/table.csv": table,
}


def make_again(chain) -> list[str]:
    """Make what is missing, as Snakemake does, in the order of the chain."""
    made = []
    with working_in(chain.folder):
        for name, maker in MAKERS.items():
            if not Path("results", name).is_file():
                maker()
                made.append(name)
    return made


@pytest.mark.parametrize(
    ("harmed", "again"),
    [
        ("tables/seam_table2/table.csv", 1),
        ("tables/seam_table2/record.json", 1),
        ("seam/seam/seed0/measure/walk_measured.json", 2),
        ("seam/seam/seed0/measure/walk_measured.record.json", 2),
        ("seam/seam/seed0/walk/measured-0-of-1.zip", 3),
        ("seam/seam/seed0/train/model.pt", 6),
        ("seam/seam/seed0/train/losses.csv", 6),
        ("seam/seam/seed0/train/record.json", 6),
        ("data/dataset.json", 7),
    ],
)
@pytest.mark.parametrize("harm", [flip, lambda path: path.write_bytes(b"")])
def test_what_is_set_aside_is_made_again_and_nothing_else(chain, harmed, again, harm):
    before = chain.audit().content
    harm(chain.path(harmed))
    done = mend(chain.audit())
    assert (done.folder / "toy" / harmed).is_file()
    assert len(make_again(chain)) == again
    after = chain.audit()
    assert not after.findings
    assert after.content == before


def test_a_deleted_file_is_made_again(chain):
    chain.path("seam/seam/seed0/walk/measured-0-of-1.record.json").unlink()
    mend(chain.audit())
    assert len(make_again(chain)) == 3
    assert not chain.audit().findings


def test_what_a_job_refuses_is_set_aside_by_the_command_that_it_names(chain, one_line):
    """Also where the job's own record is gone, so that an audit of the target does not come down to there."""
    flip(chain.path("seam/seam/seed0/train/model.pt"))
    chain.path("seam/seam/seed0/cam/measured-0-of-1.record.json").unlink()
    with working_in(chain.folder):
        one_line(cam, "is not what 'train' made", "wsss audit results/toy/seam/seam/seed0/train/model.pt --mend")
        mend(audit("results/toy/seam/seam/seed0/train/model.pt", cold=True, code=False))
    mend(chain.audit())
    assert len(make_again(chain)) == 6
    assert not chain.audit().findings


def test_a_planted_record_is_set_aside_alone(chain):
    planted = chain.folder / TABLE / "table.record.json"
    shutil.copy(chain.folder / TABLE / "record.json", planted)
    rewrite(planted, self="toy/tables/seam_table2/table.record.json")
    assert mend(chain.audit()).moved == ["toy/tables/seam_table2/table.record.json"]
    assert not chain.audit().findings


def test_edited_settings_are_written_as_they_were(chain):
    path = chain.folder / RUN / "walk/config.yaml"
    path.write_text(path.read_text().replace("beta: 8", "beta: 9"))
    done = mend(chain.audit())
    assert done.restored == ["toy/seam/seam/seed0/walk/config.yaml"]
    assert not done.moved
    assert not chain.audit().findings


def test_files_outside_the_results_are_left_to_their_owner(chain, tmp_path_factory):
    photograph = tmp_path_factory.mktemp("outside") / "a.jpg"
    photograph.write_text("pixels")
    record = chain.folder / RUN / "train/record.json"
    entry = {"sha256": "0" * 64, "size": 6}
    rewrite(record, external={str(photograph): entry})
    done = mend(chain.audit())
    (text,) = [text for text in done.left if str(photograph) in text]
    assert "restore it, or take it as it is now: `snakemake --cores 1 --forcerun" in text
    assert text.endswith("toy/seam/seam/seed0/train/model.pt`")
    assert photograph.is_file()


def test_nothing_is_set_aside_of_a_clean_chain(chain):
    assert str(mend(chain.audit())) == "There is nothing to mend."


def ages(chain) -> None:
    """Every file is at least as old as what was made from it."""
    for path in chain.folder.rglob("*record.json"):
        content = read(path)
        made = min((chain.folder / "results" / key).stat().st_mtime for key in content["outputs"])
        read_last = max((chain.folder / "results" / key).stat().st_mtime for key in content["inputs"])
        assert read_last <= made <= path.stat().st_mtime


@pytest.fixture
def shuffled(chain):
    for at, path in enumerate(reversed(chain.files())):
        os.utime(path, (at * 1000, at * 1000))
    return chain


def test_adopted_results_are_as_old_as_their_records_say(shuffled):
    done = adopt(shuffled.audit())
    assert "toy/tables/seam_table2/table.csv" in done.results
    assert not done.stale
    ages(shuffled)
    assert not shuffled.audit().findings


def test_settings_that_several_results_share_are_young_whichever_is_adopted_last(shuffled):
    name = "toy/seam/seam/seed0/measure/config.yaml"
    path = shuffled.folder / "results" / name
    today = {**yaml.safe_load(path.read_text()), "code": "0" * 64}
    metrics = [shuffled.path(f"seam/seam/seed0/measure/{stage}_measured.json") for stage in ("cam", "walk")]
    done = adopt([audit(path, code=False) for path in metrics], lambda key: today if key == name else None)
    assert done.stale == [name]
    assert yaml.safe_load(path.read_text()) == today
    assert path.stat().st_mtime > max(metrics_file.stat().st_mtime for metrics_file in metrics)
    assert len(done.results) == len(set(done.results))


def test_settings_of_today_that_are_others_are_named_and_young(shuffled):
    name = "toy/seam/seam/seed0/walk/config.yaml"
    path = shuffled.folder / "results" / name
    today = {**yaml.safe_load(path.read_text()), "code": "0" * 64}
    done = adopt(shuffled.audit(), lambda key: today if key == name else None)
    assert done.stale == [name]
    assert yaml.safe_load(path.read_text()) == today
    newest = max(other.stat().st_mtime for other in shuffled.files() if other != path)
    assert path.stat().st_mtime > newest
