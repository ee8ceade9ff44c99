"""Judged claims with records: an audit judges them again, and the tables of docs/evidence.md are written from them."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from provenance_chain import DATA, cam, configured, index, measured, run_of, train, walk, working_in
from provenance_files import read, rewrite

from wsss.provenance.audit import Audit, audit
from wsss.provenance.commands import find
from wsss.provenance.describe import cell, describe
from wsss.provenance.evidence import marks, write_evidence
from wsss.provenance.record import recorded
from wsss.report.claims import write_claims
from wsss.report.judging import RULE

ROOT = Path(__file__).parent.parent
CLAIMS = "results/toy/claims/claims"
SAYS = "The walk is better than the map."
BEGIN, END = marks("toy")


def drawing() -> dict:
    """The walk against the class map it starts from, over two seeds, and a claim that was not computed."""
    sides = {"walk": "argmax", "cam": "best"}
    cells = []
    for stage, at in sides.items():
        files = [f"{run_of(seed)}/measure/{stage}_measured.json" for seed in (0, 1)]
        side = {"run": "seam/seam", "dataset": "toy", "stage": stage, "metric": "miou", "at": at, "images": "measured"}
        cells.append({**side, "metrics": files})
    bare = [{key: value for key, value in one.items() if key != "metrics"} for one in cells]
    about = {"paper": "SEAM", "says": SAYS, "source": "Table 1", "direction": "above"}
    return {
        "name": "claims",
        "paper": "",
        "paper_title": "All papers",
        "title": "Claims of all papers",
        "caption": "C",
        "dataset": "toy",
        "seeds": [0, 1],
        "columns": [{"key": "difference", "label": "difference"}],
        "claims": [{"claim": "seam/walk", **about}, {"claim": "seam/later", **about, "says": "Not yet."}],
        "rows": [
            {"claim": "seam/walk", "label": "seam walk - seam", "reported": 8.2, "cells": cells},
            {"claim": "seam/later", "label": "a - b", "reported": None, "missing": "not computed", "cells": bare},
        ],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with results of two seeds and judged claims, each with its record."""
    folder = tmp_path_factory.mktemp("judged")
    with working_in(folder):
        index()
        for seed in (0, 1):
            train(seed)
            cam(seed)
            walk(seed)
            measured("cam", seed)
            measured("walk", seed)
        config = drawing()
        files = [path for one in config["rows"][0]["cells"] for path in one["metrics"]]
        with recorded("judge", [configured(f"{CLAIMS}/config.yaml", config), *files], [CLAIMS], config, "cpu"):
            write_claims(config, Path(CLAIMS))
    return folder


@pytest.fixture
def judged(whole, tmp_path) -> Path:
    """A copy of it that a test may harm."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def audited(folder: Path) -> Audit:
    return audit(folder / CLAIMS / "table.csv", cold=True, code=False)


def forge(folder: Path, name: str, value: str) -> str:
    """Write another number into the first comparison, with the right digest; returns what was there."""
    table = folder / CLAIMS / "table.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    before, rows[0][name] = rows[0][name], value
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    record = folder / CLAIMS / "record.json"
    outputs = read(record)["outputs"]
    key = next(key for key in outputs if key.endswith("table.csv"))
    outputs[key] = {"sha256": hashlib.sha256(table.read_bytes()).hexdigest(), "size": table.stat().st_size}
    rewrite(record, outputs=outputs)
    return before


def test_an_audit_judges_claims_again(judged):
    found = audited(judged)
    assert not found.findings
    assert found.recomputed.cells == 2
    text = cell(found, "seam/walk: seam walk - seam, difference")
    assert "reported 8.2000" in text.splitlines()[0]
    assert "results/toy" not in text
    assert f"toy/{run_of(0).partition('toy/')[2]}/train" in text
    assert DATA.removeprefix("results/") in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ours", "77.0000"),
        ("verdict", "not run"),
        ("claim_verdict", "not run"),
        ("low", "1.0000"),
        ("decides", ""),
    ],
)
def test_an_edited_judgement_is_found_though_all_digests_are_right(judged, name, value):
    before = forge(judged, name, value)
    (finding,) = audited(judged).findings
    assert finding.kind == "reported value"
    assert f"seam/walk: seam walk - seam: {name} is {value}, and {before} follows" in finding.text


def test_without_scipy_the_audit_says_what_it_left_out(judged, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.special", None)
    found = audited(judged)
    assert not found.findings
    assert any("claims/claims/table.csv: was not calculated again" in line for line in found.left_out)
    assert found.recomputed.points > 0  # the metrics below were


def test_the_document_gets_its_tables_and_keeps_its_words(judged, tmp_path):
    out = tmp_path / "evidence.md"
    out.write_text(f"Before.\n\n{BEGIN}\nOutdated.\n{END}\n\nAfter.\n")
    write_evidence([judged / CLAIMS], out)
    text = out.read_text(encoding="utf-8")
    assert text.startswith(f"Before.\n\n{BEGIN}\n\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "Outdated." not in text
    (row, _) = csv.DictReader((judged / CLAIMS / "table.csv").read_text(encoding="utf-8").splitlines())
    signed = {key: f"{float(row[key]):+.2f}".replace("-", "−") for key in ("ours", "low", "high")}
    shown = f"{signed['ours']} ({signed['low']} to {signed['high']})"
    assert re.search(rf"^\| SEAM \| {SAYS} \| \+8\.20 \| . {row['verdict']}, {re.escape(shown)} \|$", text, re.M)
    assert "Not yet." not in text
    assert "\n\nNot run: not computed (SEAM 1).\n\n" in text
    record = json.loads((judged / CLAIMS / "record.json").read_text())
    assert f"`{record['identity'][:12]}`" in text
    assert re.search(r"^\| toy \| 0, 1 \| 2 \| ", text, re.M)
    assert re.search(r"^\| 2 \| 12 \| \d+ min \| \d{4}-\d\d-\d\d \| .*cpu.* \|", text, re.M)  # trainings, jobs


def test_the_tables_of_other_data_sets_stay(judged, tmp_path):
    out, other = tmp_path / "evidence.md", "\n".join([marks("other")[0], "Kept.", marks("other")[1]])
    out.write_text(f"{other}\n{BEGIN}\n{END}\n")
    write_evidence([judged / CLAIMS], out)
    assert out.read_text(encoding="utf-8").startswith(f"{other}\n{BEGIN}\n\n| data set |")


@pytest.mark.parametrize("dataset", ["proof", "photographs"])
def test_the_document_of_the_project_has_its_marks_and_the_rule(dataset):
    text = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    assert [text.count(mark) for mark in marks(dataset)] == [1, 1]
    assert RULE in " ".join(text.split())


def test_what_has_no_right_record_is_no_evidence(judged, tmp_path, one_line):
    out = tmp_path / "evidence.md"
    one_line(lambda: write_evidence([judged / CLAIMS], out), "evidence.md", "has no lines", BEGIN)
    out.write_text(f"{BEGIN}\n{END}\n")
    measure = judged / run_of(0) / "measure" / "cam_measured.json"
    one_line(lambda: write_evidence([measure], out), "holds no judged claims")
    one_line(lambda: write_evidence([tmp_path / "nothing"], out), "no record")
    table = judged / CLAIMS / "table.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("8.2000", "9.2000"), encoding="utf-8")
    one_line(lambda: write_evidence([judged / CLAIMS], out), "table.csv", "is not what its record says")
    assert out.read_text() == f"{BEGIN}\n{END}\n"


def test_claims_are_found_by_their_word(one_line):
    assert find("seam_claims") == "results/shapes/claims/seam_claims"
    assert find("claims") == "results/shapes/claims/claims"


def unpack(dataset: str, folder: Path) -> None:
    """Unpack the results that the project keeps of a data set."""
    with tarfile.open(ROOT / f"docs/evidence/{dataset}.tar.xz") as archive:
        archive.extractall(folder, filter="data")


@pytest.mark.parametrize("dataset", ["proof", "photographs"])
def test_the_tables_of_a_data_set_follow_from_the_records_that_are_kept(dataset, tmp_path):
    unpack(dataset, tmp_path)
    claims = tmp_path / "results" / dataset / "claims/claims"
    out = tmp_path / "evidence.md"
    shutil.copy(ROOT / "docs/evidence.md", out)
    write_evidence([claims], out)
    assert out.read_text(encoding="utf-8") == (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    found = audit(claims / "table.csv", cold=True, code=False)
    assert {finding.kind for finding in found.findings} == {"missing"}  # models, class maps and images are not kept
    assert found.recomputed.cells > 0
    assert "not the numbers that were recorded" not in describe(found)


def test_the_overview_of_photographs_is_the_table_that_is_kept(tmp_path):
    unpack("photographs", tmp_path)
    table = (tmp_path / "results/photographs/tables/overview_methods/table.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in table.splitlines() if line.startswith("|"))
    assert "\n| SEAM |" in rows
    assert rows in (ROOT / "docs/evidence.md").read_text(encoding="utf-8")


def test_a_walk_has_the_exponent_that_is_like_the_best_threshold_of_its_class_maps(tmp_path):
    """The rule of docs/data.md, on the results that are kept."""
    unpack("proof", tmp_path)
    exponents, like = {}, {}
    for record in tmp_path.glob("results/proof/*/*/seed0/walk/measured-*.record.json"):
        walk = record.parent.relative_to(tmp_path / "results").as_posix()
        exponents[walk] = yaml.safe_load((record.parent / "config.yaml").read_text(encoding="utf-8"))["walk"]["alpha"]
        (maps,) = {Path(path).parent for path in read(record)["inputs"] if "/cam/" in path}
        best = read(tmp_path / "results" / maps.parent / "measure/cam_measured.json")["points"]["best"]
        like[walk] = round(math.log(best["threshold"]) / math.log(1 - best["threshold"]))
    assert exponents
    assert exponents == like
