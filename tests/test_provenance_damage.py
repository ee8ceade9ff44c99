"""Every kind of damage to every kind of file is found and named, wherever the chain lies."""

from __future__ import annotations

import os
import random

import pytest
from provenance_chain import RUN, Chain
from provenance_files import DAMAGES, flip

pytest_plugins = ("provenance_fixtures",)

KINDS = (
    "data/index.csv",
    "data/dataset.json",
    "data/record.json",
    "data/config.yaml",
    "data/attempts.jsonl",
    "data/VOC/JPEGImages/train_0001.jpg",
    "data/VOC/SegmentationClass/val_0000.png",
    "data/VOC/SegmentationObject/train_0000.png",
    "data/VOC/ImageSets/Segmentation/train.txt",
    "data/VOC/image_labels.csv",
    "seam/seam/seed0/train/model.pt",
    "seam/seam/seed0/train/losses.csv",
    "seam/seam/seed0/train/record.json",
    "seam/seam/seed0/train/config.yaml",
    "seam/seam/seed0/cam/measured-0-of-1.npz",
    "seam/seam/seed0/cam/measured-0-of-1.record.json",
    "seam/seam/seed0/walk/measured-0-of-1.zip",
    "seam/seam/seed0/measure/walk_measured.json",
    "seam/seam/seed0/measure/walk_measured.record.json",
    "tables/seam_table2/table.csv",
    "tables/seam_table2/table.html",
    "tables/seam_table2/config.yaml",
)
OWN = "tables/seam_table2/record.json"  # without it there is nothing to audit


def named(chain: Chain, name: str) -> bool:
    return any(name in finding.line(full=True) for finding in chain.audit().findings)


def test_an_untouched_chain_is_clean(chain):
    found = chain.audit()
    assert not found.findings
    assert (len(found.chain.links), found.images) == (7, 16)
    assert found.recomputed.cells == 3
    assert found.recomputed.points == 5


HARMED = [(name, harm) for name in KINDS for harm in DAMAGES]
HARMED.remove(("data/attempts.jsonl", "append"))  # a ledger may grow


@pytest.mark.parametrize(("name", "harm"), HARMED)
def test_damage_is_found_and_the_file_named(chain, name, harm):
    DAMAGES[harm](chain.path(name))
    assert named(chain, name)


@pytest.mark.parametrize("harm", sorted(set(DAMAGES) - {"delete"}))
def test_damage_to_the_record_of_the_target_is_found(chain, harm):
    DAMAGES[harm](chain.path(OWN))
    assert named(chain, OWN)


def test_two_hundred_random_flips_are_all_found(chain):
    draw = random.Random(0)
    for _ in range(200):
        path = draw.choice(chain.files())
        kept, at, bit = path.read_bytes(), draw.randrange(path.stat().st_size), draw.randrange(8)
        flip(path, at, bit)
        assert named(chain, path.relative_to(chain.path("")).as_posix()), (path, at, bit)
        path.write_bytes(kept)
    assert not chain.audit().findings


def test_damage_is_found_though_the_cache_knows_the_file(chain, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("wsss.provenance.hashes.SETTLED", 0)
    assert chain.audit(cold=False).read > 0
    assert chain.audit(cold=False).read == 0
    flip(chain.folder / RUN / "train/model.pt")
    assert [finding.kind for finding in chain.audit(cold=False).findings] == ["modified"]


def test_consequences_are_folded_under_their_cause(chain):
    flip(chain.folder / RUN / "train/model.pt")
    (finding,) = chain.audit().findings
    assert finding.rests[0] == "toy/seam/seam/seed0/cam/measured-0-of-1.npz"
    assert "toy/tables/seam_table2/table.csv" in finding.rests
    assert finding.line().count("\n") == 0
    assert "5 results rest on it" in finding.line()


def test_many_missing_images_are_few_lines(chain):
    from wsss.provenance import images

    images.EACH, kept = 2, images.EACH
    for path in chain.path("data/VOC/JPEGImages").iterdir():
        path.unlink()
    assert len(chain.audit().findings) == 3
    images.EACH = kept


def test_two_images_that_are_swapped_are_both_named(chain):
    one, other = (chain.path(f"data/VOC/JPEGImages/train_000{i}.jpg") for i in (0, 1))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    places = {(finding.kind, finding.place) for finding in chain.audit().findings}
    assert places == {("modified", f"toy/data/VOC/JPEGImages/train_000{i}.jpg") for i in (0, 1)}


def touch(chain: Chain) -> None:
    """Give every file the same time of today, as ``snakemake --touch`` does."""
    for path in chain.files():
        os.utime(path)


def test_files_that_were_only_touched_are_clean(chain):
    touch(chain)
    assert not chain.audit().findings


@pytest.mark.parametrize("name", [name for name in KINDS if not name.endswith("attempts.jsonl")])
def test_a_touch_hides_nothing(chain, name):
    DAMAGES["append"](chain.path(name))
    touch(chain)
    assert named(chain, name)
