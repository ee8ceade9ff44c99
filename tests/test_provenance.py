"""The chain of records, and what an audit sees when something below a result changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wsss.data import build
from wsss.errors import WsssError
from wsss.files import read_json, sha256, write_json
from wsss.provenance.audit import audit, describe
from wsss.provenance.record import recorded


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """results/model/model.pt -> results/scores-0-of-1.npz -> results/table/table.csv, with records."""
    monkeypatch.chdir(tmp_path)
    Path("results/model").mkdir(parents=True)
    Path("outside.jpg").write_text("a photograph")
    with recorded("train", ["outside.jpg"], ["results/model"], {"seed": 4}, "cpu"):
        Path("results/model/model.pt").write_text("weights")
    with recorded("localize", ["results/model/model.pt"], ["results/scores-0-of-1.npz"], {"seed": 4}, "cpu"):
        Path("results/scores-0-of-1.npz").write_text("scores")
    with recorded("table", ["results/scores-0-of-1.npz"], ["results/table"], None, "cpu"):
        Path("results/table").mkdir()
        Path("results/table/table.csv").write_text("47.43")
    return Path("results/table/table.csv")


def kinds(target) -> set[tuple[str, str]]:
    return {(kind, path) for kind, path, _ in audit(target).findings}


def test_an_untouched_chain_is_clean(chain):
    seen = audit(chain)
    assert not seen.findings
    assert [content["command"] for content in seen.records.values()] == ["table", "localize", "train"]
    assert "Everything matches its record." in describe(chain, seen)


def test_records_hold_what_an_auditor_asks_for(chain):
    record = read_json("results/model/record.json")
    assert record["inputs"] == {"outside.jpg": sha256("outside.jpg")}
    assert record["outputs"] == {"results/model/model.pt": sha256("results/model/model.pt")}
    assert record["seed"] == 4
    assert record["packages"]["torch"]
    assert len(record["code"]["sources"]) == 64
    assert record["peak_memory_mib"]["process"] > 0
    parents = read_json("results/scores-0-of-1.record.json")["parents"]
    assert parents == {"results/model/record.json": sha256("results/model/record.json")}


def test_an_edited_table_is_modified(chain):
    chain.write_text("55.41")
    assert kinds(chain) == {("modified", str(chain))}


def test_an_edited_file_far_below_is_found(chain):
    Path("results/model/model.pt").write_text("other weights")
    assert kinds(chain) == {("modified", "results/model/model.pt"), ("stale", "results/model/model.pt")}


def test_a_changed_photograph_is_found(chain):
    Path("outside.jpg").write_text("another photograph")
    assert kinds(chain) == {("stale", "outside.jpg")}


def test_a_missing_file_is_found(chain):
    Path("results/scores-0-of-1.npz").unlink()
    assert ("missing", "results/scores-0-of-1.npz") in kinds(chain)


def test_a_result_made_again_makes_what_rests_on_it_stale(chain):
    with recorded("train", ["outside.jpg"], ["results/model"], {"seed": 5}, "cpu"):
        pass
    assert ("stale", "results/scores-0-of-1.npz") in kinds(chain)


def test_a_laundered_record_breaks_the_chain(chain):
    """Rewriting a file and its record to match leaves the record below the next one in the chain wrong."""
    Path("results/model/model.pt").write_text("other weights")
    record = read_json("results/model/record.json")
    record["outputs"]["results/model/model.pt"] = sha256("results/model/model.pt")
    write_json("results/model/record.json", record)
    assert ("stale", "results/scores-0-of-1.npz") in kinds(chain)


def test_a_result_without_record_is_untraced(chain):
    Path("results/found.npz").write_text("from somewhere")
    with recorded("table", ["results/found.npz"], ["results/table"], None, "cpu"):
        pass
    assert kinds(chain) == {("untraced", "results/found.npz")}


def test_results_of_an_absolute_folder_are_traced_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, weights = tmp_path / "elsewhere" / "seed", tmp_path / "weights.pth"
    folder.mkdir(parents=True)
    weights.write_text("of the user")
    (folder / "config.yaml").write_text("{}")
    (folder / "found.npz").write_text("from somewhere")
    table = tmp_path / "elsewhere" / "table"
    inputs = [str(folder / "config.yaml"), str(folder / "found.npz"), str(weights)]
    with recorded("table", inputs, [str(table)], None, "cpu"):
        table.mkdir()
        (table / "table.csv").write_text("47.43")
    assert kinds(table / "table.csv") == {("untraced", str(folder / "found.npz"))}


def test_a_target_without_record_is_a_clear_error(tmp_path):
    with pytest.raises(WsssError, match="no record says where this comes from"):
        audit(tmp_path / "table.csv")


def test_a_failed_job_leaves_no_record(tmp_path):
    def fail():
        with recorded("train", [], [str(tmp_path / "model")], None, "cpu"):
            raise WsssError("boom")

    with pytest.raises(WsssError):
        fail()
    assert not list(tmp_path.iterdir())


def test_images_of_an_index_are_part_of_the_chain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("images/a.jpg").write_text("pixels")
    with recorded("index", [], ["results/data"], None, "cpu"):
        Path("results/data").mkdir(parents=True)
        row = f"a,a.jpg,,train,cat,1,1,{sha256('images/a.jpg')},"
        header = "id,image,mask,split,labels,width,height,sha256,mask_sha256"
        Path("results/data/index.csv").write_text(f"{header}\n{row}\n")
        write_json("results/data/dataset.json", {"root": str(tmp_path / "images")})
    assert not audit("results/data/index.csv").findings
    Path("images/a.jpg").write_text("other pixels")
    assert kinds("results/data/index.csv") == {("modified", str(tmp_path / "images/a.jpg"))}


def test_masks_of_an_index_are_part_of_the_chain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with recorded("index", [], ["results/data"], None, "cpu"):
        build({"name": "toy", "builder": "shapes", "seed": 0, "train": 1, "val": 1, "size": 32}, Path("results/data"))
    assert not audit("results/data/index.csv").findings
    paths = [f"results/data/VOC/{folder}/train_0000.png" for folder in ("SegmentationClass", "SegmentationObject")]
    for path in paths:
        Path(path).write_bytes(b"other")
    assert kinds("results/data/index.csv") == {("modified", path) for path in paths}


def test_the_command_exits_with_1_and_names_the_file(chain):
    chain.write_text("55.41")
    result = subprocess.run([sys.executable, "-m", "wsss.cli", "audit", str(chain)], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"modified: {chain}" in result.stdout


def test_records_are_readable_json(chain):
    assert json.loads(Path("results/table/record.json").read_text())["command"] == "table"


def test_an_absolute_path_names_the_same_result(chain):
    assert not audit(chain.absolute()).findings


def test_a_page_made_from_records_is_part_of_the_chain(chain):
    with recorded("page", ["results/table/record.json"], ["results/index.html"], None, "cpu"):
        Path("results/index.html").write_text("all of it")
    seen = audit("results/index.html")
    assert not seen.findings
    assert [content["command"] for content in seen.records.values()] == ["page", "table", "localize", "train"]
    Path("results/model/model.pt").write_text("other weights")
    assert ("modified", "results/model/model.pt") in kinds("results/index.html")
