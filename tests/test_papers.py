"""The paper files: that they say what the papers say, and that mistakes are named."""

from __future__ import annotations

import copy
import re
import statistics
from pathlib import Path

import pytest

from wsss.errors import WsssError
from wsss.plan import papers
from wsss.plan.layers import line_of
from wsss.plan.papers import cell

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflow" / "papers"
PAPERS = ["seam", "eader", "occse", "aeft", "acr", "psa", "irn"]
SMALL = """\
title: A paper
citation: "@misc{a}"
runs:
  first: {method: cam}
tables:
  t:
    title: T
    caption: C
    attributes:
      - {key: backbone, label: backbone}
    columns:
      - {key: a, label: A}
      - {key: b, label: B, stage: crf}
    rows:
      - {label: one, run: first, reported: {a: 40.0}}
      - {label: two, literature: somebody, reported: {a: 30.0}}
figures:
  f:
    kind: table_dots
    title: F
    caption: C
    table: t
    column: a
"""


@pytest.fixture(scope="module")
def specs() -> dict:
    return papers.load(PAPERS, FOLDER)


def reported(specs: dict, paper: str, table: str) -> list[tuple[str, dict]]:
    return [(row["label"], row.get("reported", {})) for row in specs[paper]["tables"][table]["rows"]]


# ---- what the papers say


@pytest.mark.parametrize(
    ("paper", "tables"),
    [
        ("seam", {f"table{i}" for i in range(1, 8)}),
        ("eader", {"alpha", "integrability", "classes", "erasing", "comparison"}),
        ("occse", {"table1", "depth"}),
        ("aeft", {"gpp", "triplet", "comparison"}),
        ("acr", {"strategy", "losses", "cam", "segmentation"}),
        ("psa", {"labels", "segmentation"}),
        ("irn", {"labels", "segmentation"}),
    ],
)
def test_every_table_of_the_papers_is_there(specs, paper, tables):
    assert tables <= set(specs[paper]["tables"])
    assert specs[paper]["figures"]


def test_names_split_at_the_first_underscore(specs):
    assert not [name for name in specs if "_" in name]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_reported_value_is_a_run_or_says_where_it_comes_from(specs, paper):
    for table in specs[paper]["tables"]:
        for row, cells in papers.rows(specs[paper], table):
            for one in cells:
                origin = one.get("run") or one.get("literature") or one.get("missing")
                assert origin or "reported" not in one, (table, row["label"])


@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_says_what_its_values_were_measured_on(specs, paper):
    for name, table in specs[paper]["tables"].items():
        assert "VOC 2012" in table["caption"], name
    for kind in ("tables", "figures"):  # and no caption says it of ours, which may be of another data set
        for name, about in specs[paper][kind].items():
            for sentence in re.split(r"[.;] ", about["caption"]):
                told = "VOC" not in sentence or re.search(r"[Rr]eported|release|slides|they measured", sentence)
                assert told, (name, sentence)


def test_reported_values_are_percentages_but_where_the_column_says_otherwise(specs):
    for paper, spec in specs.items():
        for table in spec["tables"]:
            for _, cells in papers.rows(spec, table):
                for one in cells:
                    if "reported" in one:
                        low, high = (0, 1) if one.get("scale") == 1 else (2, 100)
                        assert low < one["reported"] < high, (paper, table, one)


def test_classes_average_to_the_mean(specs):
    """The papers' means are of unrounded values: they agree within the rounding of the classes and their own."""
    for label, values in reported(specs, "seam", "table6"):
        classes = [value for key, value in values.items() if key != "miou"]
        assert len(classes) == 21
        assert statistics.fmean(classes) == pytest.approx(values["miou"], abs=0.1), label
    rows = reported(specs, "eader", "classes")
    for column in ("psa", "eader"):
        classes = [values[column] for label, values in rows if label != "mean"]
        assert len(classes) == 21
        assert statistics.fmean(classes) == pytest.approx(dict(rows)["mean"][column], abs=0.1)


def test_numbers_that_occur_in_several_tables_agree(specs):
    def of(paper, table, label, column):
        found = [values[column] for name, values in reported(specs, paper, table) if name == label and column in values]
        assert found, (paper, table, label)
        return found[0]

    for table in ("table1", "table2", "table3", "table4"):
        first = specs["seam"]["tables"][table]["rows"][0]
        assert first["reported"]["miou"] == of("seam", "table5", "multi-scale", "baseline") == 47.43
    seam = of("seam", "table5", "multi-scale", "seam")
    assert of("seam", "table2", "CAM + SEAM", "miou") == of("seam", "table3", "SEAM", "miou") == seam
    assert of("seam", "table6", "SEAM", "miou") == of("seam", "table7", "SEAM", "val")
    assert of("seam", "table6", "AffinityNet", "miou") == of("seam", "table7", "AffinityNet [2]", "val")
    assert of("eader", "classes", "mean", "eader") == of("eader", "integrability", "PSA w/ EADER", "predict")
    assert of("eader", "erasing", "EADER", "val") == of("eader", "classes", "mean", "eader")
    assert of("aeft", "gpp", "GPP", "miou") == of("aeft", "triplet", "GPP only", "miou")
    assert of("acr", "losses", "(c)", "miou") == of("acr", "strategy", "Adversarial", "miou") + 4.5
    assert of("acr", "cam", "ACR", "cam") == of("acr", "losses", "(c)", "miou")
    assert of("acr", "cam", "OC-CSE [19], ICCV21", "cam") == of("occse", "table1", "ResNet38", "occse")
    assert of("acr", "cam", "AEFT [46], ECCV22", "cam") == of("aeft", "triplet", "Attract (Soft) + Repel", "miou")


def test_segmentation_tables_of_two_papers_agree_but_for_the_known_contradiction(specs):
    def by_method(paper, table):
        rows = reported(specs, paper, table)
        return {label.split(" [")[0].split(",")[0]: values for label, values in rows if values.get("val")}

    aeft, acr = by_method("aeft", "comparison"), by_method("acr", "segmentation")
    both = set(aeft) & set(acr)
    assert {"SEAM", "OC-CSE", "AEFT", "RIB", "PMM", "CPN", "IRNet", "AffinityNet"} <= both
    differing = {name for name in both if aeft[name] != acr[name]}
    assert differing == {"IRNet"}
    assert "IRNet" in specs["aeft"]["tables"]["comparison"]["note"]
    assert "IRNet" in specs["acr"]["tables"]["segmentation"]["note"]


def test_systems_that_are_here_are_run_wherever_they_are_quoted_and_with_one_value(specs):
    """PSA in 32 cells and IRNet in 8, beside the rows of their own files."""
    own = {
        run: {"val": val, "test": test}
        for run, val, test in (
            ("psa/resnet38", 61.7, 63.7),
            ("psa/resnet38_vgg16", 58.4, 60.5),
            ("irn/irn", 63.5, 64.8),
        )
    }
    for run, values in own.items():
        paper, name = run.split("/")
        (row,) = [row for row in specs[paper]["tables"]["segmentation"]["rows"] if row["run"] == name]
        assert row["reported"] == values
    counts = {"psa": 0, "irn": 0}
    for paper in PAPERS[:5]:
        for table in specs[paper]["tables"]:
            for row, cells in papers.rows(specs[paper], table):
                quotes = row["label"].startswith(("AffinityNet", "PSA [16] (", "IRNet"))
                if not quotes:
                    continue
                for one in cells:
                    assert one["run"].split("/")[0] in counts, (paper, table, row["label"])
                    if "reported" not in one:
                        continue
                    counts[one["run"].split("/")[0]] += 1
                    if one.get("metric") == "miou" and one["images"] in ("val", "test") and not one.get("companion"):
                        assert one["reported"] == own[one["run"]][one["images"]], (paper, table, row["label"])
    assert counts == {"psa": 32, "irn": 8}


def test_supervised_rows_are_the_upper_bound_of_the_overview(specs):
    rows = {row["label"]: row for row in specs["eader"]["tables"]["comparison"]["rows"]}
    assert rows["WideResNet-38 [30]"]["run"] == "overview/bound"
    assert rows["DeepLabV3+ [4]"]["run"] == "overview/bound_v3plus"


def test_differences_that_the_posters_print(specs):
    triplet = reported(specs, "aeft", "triplet")
    base = triplet[0][1]
    printed = [(-1.4, 0.5, -0.8), (0.1, 1.6, 0.8), (1.9, 0.7, 1.8)]
    for (_, values), differences in zip(triplet[1:], printed, strict=True):
        for key, difference in zip(("precision", "recall", "miou"), differences, strict=True):
            assert values[key] - base[key] == pytest.approx(difference)
    losses = reported(specs, "acr", "losses")
    base = losses[0][1]
    printed = [(0.12, -0.04, 5.0), (-0.03, 0.05, 3.1), (0.14, 0.04, 11.9)]  # the poster has 13.6 for 11.9, as noted
    for (_, values), differences in zip(losses[1:], printed, strict=True):
        for key, difference in zip(("precision", "recall", "miou"), differences, strict=True):
            assert values[key] - base[key] == pytest.approx(difference)


# ---- cells and mistakes


def test_a_cell_takes_the_nearest_setting():
    column = {"key": "a", "label": "A", "stage": "crf", "at": "best", "images": "val"}
    row = {"label": "r", "run": "x", "at": "alpha=4", "reported": {"a": 1.5, "b": 2.5}, "cells": {"a": {"run": "y"}}}
    assert cell(row, column) == {
        "stage": "crf",
        "at": "alpha=4",
        "images": "val",
        "run": "y",
        "reported": 1.5,
        "metric": "miou",
    }
    assert cell({"label": "r"}, {"key": "a", "label": "A"}) == {
        "stage": "cam",
        "metric": "miou",
        "at": "best",
        "images": "measured",
    }
    assert cell({"label": "r", "stage": "predict"}, {"key": "a"})["images"] == "val"
    assert cell({"label": "r", "stage": "walk"}, {"key": "a"})["at"] == "argmax"


def test_the_small_paper_is_sound(tmp_path):
    (tmp_path / "a.yaml").write_text(SMALL)
    assert set(papers.load(["a"], tmp_path)) == {"a"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "run: first, rep",
            "run: frist, rep",
            r"table t: unknown run 'frist': choose one of first \(line 15\)",
        ),
        (
            "run: first, rep",
            "run: b/first, rep",
            r"unknown run 'b/first': there is no paper 'b' \(line 15\)",
        ),
        ("stage: crf", "stage: crff", r"a\.yaml, table t: unknown stage 'crff': choose one of cam.* \(line 13\)"),
        ("reported: {a: 40.0}", "reported: {c: 4.0}", r"table t: unknown column 'c': choose one of a, b \(line 15\)"),
        ("run: first, rep", "metric: iuo, run: first, rep", r"unknown metric 'iuo': choose one of miou.* \(line 15\)"),
        ("run: first, rep", "metric: iou, run: first, rep", r"metric iou needs a class: add 'class' \(line 15\)"),
        ("run: first, rep", "metric: map, run: first, rep", r"stage cam has no metric 'map': .* \(line 15\)"),
        (
            "run: first, rep",
            "at: argmax, run: first, rep",
            r"no operating point 'argmax': give best, .* \(line 15\)",
        ),
        (
            "run: first, rep",
            "attributes: {bone: x}, rep",
            r"unknown attribute 'bone': choose one of b.* \(line 15\)",
        ),
        ("literature: somebody, ", "", r"a reported value without a run needs literature .* \(line 16\)"),
        (
            "caption: C\n    attributes",
            "caption: C\n    captoin: x\n    attributes",
            r"a\.yaml: tables\.t: .*captoin.* \(line 6\)",
        ),
        ("column: a", "column: c", r"a\.yaml, figure f: unknown column 'c': choose one of a, b \(line 23\)"),
        ("    table: t\n", "", r"figure f: kind table_dots needs 'table' \(line 18\)"),
        ("figures:\n  f:", "figures:\n  t:", r"a\.yaml, figure t: a table has this name, too.* \(line 18\)"),
        ("kind: table_dots", "kind: pie", r"a\.yaml: figures\.f\.kind: 'pie' is not one of .* \(line 19\)"),
        ("method: cam", "mehtod: cam", r"a\.yaml: runs\.first: 'method' is a required property \(line 4\)"),
    ],
)
def test_a_mistake_is_named_with_its_line(mistaken_paper, old, new, message):
    mistaken_paper(SMALL, old, new, message)


@pytest.mark.parametrize("kind", ["class_bars", "threshold_curve"])
def test_a_point_that_a_stage_does_not_have_is_named_before_anything_is_drawn(mistaken_paper, kind):
    drawn = f"    kind: {kind}\n    series:\n      - {{label: CAM, run: first, at: best}}\n"
    text = SMALL.replace("    kind: table_dots\n", drawn).replace("    table: t\n    column: a\n", "")
    message = r"a\.yaml, figure f: stage cam has no operating point 'bset': give best, highest or fixed \(line 21\)"
    mistaken_paper(text, "at: best", "at: bset", message)


def test_a_paper_s_name_has_no_underscore(tmp_path):
    path = tmp_path / "small_one.yaml"
    path.write_text(SMALL)
    with pytest.raises(WsssError, match=re.escape(f"{path}: rename it without '_'")):
        papers.load(["small_one"], tmp_path)


def test_lines_are_found_in_mappings_and_lists(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SMALL)
    assert line_of(path, ("tables", "t", "columns", 1, "stage")) == 13
    assert line_of(path, ("tables", "t", "nothing", "below")) == 6
    assert line_of(path, ()) == 1


def test_loading_leaves_nothing_behind_from_one_plan_to_the_next(tmp_path):
    (tmp_path / "a.yaml").write_text(SMALL)
    first = papers.load(["a"], tmp_path)
    before = copy.deepcopy(first)
    papers.load(["a"], tmp_path)["a"]["tables"]["t"]["rows"].clear()
    assert first == before
