"""The paper files: that they say what the papers say, that every run resolves, and that mistakes are named."""

from __future__ import annotations

import copy
import json
import os
import re
import statistics
from pathlib import Path

import pytest
import yaml

from wsss.errors import WsssError
from wsss.files import sha256
from wsss.plan import Plan, drawings, papers, state
from wsss.plan.jobs import Outlook
from wsss.plan.papers import cell, line_of

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflow" / "papers"
PAPERS = ["seam", "eader", "occse", "aeft", "acr"]
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
def config() -> dict:
    return {**yaml.safe_load((ROOT / "config.yaml").read_text()), "papers": PAPERS}


@pytest.fixture(scope="module")
def plan(config) -> Plan:
    return Plan(config, FOLDER)


@pytest.fixture(scope="module")
def specs(plan) -> dict:
    return plan.papers


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
    assert of("eader", "classes", "mean", "eader") == of("eader", "integrability", "PSA w/ EADER", "segment")
    assert of("eader", "erasing", "EADER", "val") == of("eader", "classes", "mean", "eader")
    assert of("aeft", "gpp", "GPP", "miou") == of("aeft", "triplet", "GPP only", "miou")
    assert of("acr", "losses", "(c)", "miou") == of("acr", "strategy", "Adversarial", "miou") + 4.5
    assert of("acr", "cam", "ACR", "seed") == of("acr", "losses", "(c)", "miou")
    assert of("acr", "cam", "OC-CSE [19], ICCV21", "seed") == of("occse", "table1", "ResNet38", "occse")
    assert of("acr", "cam", "AEFT [46], ECCV22", "seed") == of("aeft", "triplet", "Attract (Soft) + Repel", "miou")


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


# ---- that they can be run


def test_every_run_resolves_on_every_data_set(plan, config):
    for dataset in config["datasets"]:
        for paper, spec in plan.papers.items():
            for run in spec["runs"]:
                resolved = plan.resolve(dataset, paper, run)
                assert resolved["method"]["name"] in ("cam", *PAPERS)
                for stage in ("train", "seed", "crf", "walk"):
                    plan.stage_config(dataset, paper, run, 0, stage)
                learnt_from = {resolved["affinity"]["low_alpha"], resolved["affinity"]["high_alpha"]}
                assert learnt_from <= set(resolved["crf"]["alphas"]), (dataset, paper, run)


def test_every_drawing_knows_its_files_on_every_data_set(plan, config):
    for dataset in config["datasets"]:
        for name, kind, folder in drawings.targets(plan, dataset):
            paper, _, short = name.partition("_")
            drawing = drawings.spec(plan, dataset, kind, paper, short)
            assert folder == f"results/{dataset}/{kind}/{name}"
            beside = config["datasets"][dataset].get("companions", {}).values()
            homes = tuple(f"results/{place}/" for place in (dataset, *beside))
            assert all(path.startswith(homes) for path in drawings.inputs(drawing))
        assert len(state.page(plan, dataset)["entries"]) >= len(drawings.targets(plan, dataset))


def test_the_ordinary_classifier_is_the_model_of_the_same_seed(plan):
    (model,) = [w for w in plan.references("voc12", "occse", "occse", 2, "train") if w.endswith("model.pt")]
    assert "/seed2/train/" in model
    owner = plan.owner("voc12", "occse", "ordinary", "train")
    assert model == f"{plan.home('voc12', *owner, 2, 'train')}/model.pt"


def test_only_what_differs_between_runs_is_trained(plan):
    assert plan.owner("voc12", "seam", "gradcam", "train") == ("seam", "baseline")
    assert plan.owner("voc12", "occse", "ordinary", "train") == ("eader", "psa")
    trained = {plan.owner("voc12", p, run, "train") for p, spec in plan.papers.items() for run in spec["runs"]}
    for pair in (
        ("eader", "alpha0"),
        ("eader", "localizer"),
        ("aeft", "gpp"),
        ("acr", "baseline"),
        ("occse", "depth3"),
    ):
        assert pair in trained


def test_a_table_of_another_papers_run_says_so_when_that_paper_is_not_configured(config):
    alone = Plan({**config, "papers": ["acr"]}, FOLDER)
    rows = drawings.table(alone, "voc12", "acr", "cam")["rows"]
    (cells,) = [row["cells"] for row in rows if row["label"].startswith("OC-CSE")]
    assert cells[0]["missing"] == "paper occse is not among those configured"
    overview = Plan({**config, "papers": ["overview", "seam"]}, FOLDER)
    states = {entry["name"]: entry["state"] for entry in state.entries(overview, "shapes")}
    assert states["overview_cams"] == "paper eader is not among those configured"
    assert states["overview_pipeline"].startswith("needs ")


def test_a_data_sets_note_goes_with_its_tables(config):
    note = config["datasets"]["shapes"]["note"]
    spec = drawings.table(Plan(config, FOLDER), "shapes", "seam", "table1")
    assert spec["dataset_note"] == note
    assert drawings.table(Plan(config, FOLDER), "voc12", "seam", "table1")["dataset_note"] is None


def test_values_of_other_settings_are_not_compared_with_published_ones(config):
    def first_cell(config, table="cam"):
        return drawings.table(Plan(config, FOLDER), "voc12", "acr", table)["rows"][-1]["cells"][0]

    assert "not_comparable" not in first_cell(config)
    assert first_cell({**config, "overrides": {"train": {"steps": 7}}})["not_comparable"] == (
        "other settings than the paper's: train.steps"
    )
    smaller = copy.deepcopy(config)
    smaller["datasets"]["voc12"]["stand_ins"]["resnet38d"] = {"name": "mobilenet_v2"}
    assert "backbone.name" in first_cell(smaller)["not_comparable"]
    every = Plan({**config, "papers": [*config["papers"], "overview"]}, FOLDER)
    shapes = drawings.table(every, "shapes", "overview", "segmentation")["rows"][0]["cells"][0]
    assert shapes["not_comparable"] == "data set shapes, backbone tiny"


def test_a_network_is_listed_with_the_runs_that_are_made_with_it(config):
    every = Plan({**config, "papers": [*config["papers"], "overview"]}, FOLDER)
    (entry,) = [e for e in state.entries(every, "shapes") if e["name"] == "overview_segmentation"]
    networks = {run["run"]: set(run["networks"]) for run in entry["runs"]}
    assert networks["overview/bound"] == {"train", "deeplab"}
    assert networks["seam/baseline"] == {"train", "affinity", "deeplab"}


def test_a_companion_stands_beside_its_data_set(plan):
    """COCO's figures and columns are made of the data set in that role alone, and of nothing when there is none."""
    figure = drawings.figure(plan, "shapes", "occse", "figure5")
    assert all(path.startswith("results/shapes_coco/") for path in drawings.inputs(figure))
    rows = drawings.table(plan, "shapes", "aeft", "comparison")["rows"]
    of_paper = [cell for row in rows for cell in row["cells"] if cell.get("companion") and cell.get("metrics")]
    assert len(of_paper) == 3
    assert all("data set shapes_coco" in cell["not_comparable"] for cell in of_paper)
    assert "occse_figure5" in {name for name, _, _ in drawings.targets(plan, "shapes")}


def test_a_companion_without_folder_is_no_obstacle_but_for_what_shows_it(config):
    plan = Plan(config, FOLDER)
    plan.check("voc12")
    said = "no folder of coco14 is given (config.yaml, datasets.coco14.options.root)"
    assert "occse_figure5" not in {name for name, _, _ in drawings.targets(plan, "voc12")}
    assert {name: how for name, *_, how in state.listing(plan, "voc12")}["occse_figure5"] == said
    rows = drawings.table(plan, "voc12", "acr", "segmentation")["rows"]
    assert {c["missing"] for r in rows for c in r["cells"] if c.get("companion") and c.get("run")} == {said}
    with pytest.raises(WsssError, match="no folder of coco14"):
        plan.check("coco14")

    given = copy.deepcopy(config)
    given["datasets"]["coco14"]["options"]["root"] = "/data/coco"
    plan = Plan(given, FOLDER)
    plan.check("coco14")
    inputs = drawings.inputs(drawings.figure(plan, "voc12", "occse", "figure6"))
    assert "results/coco14/occse/occse/seed0/segment/val-0-of-1.zip" in inputs
    assert plan.resolve("coco14", "aeft", "aeft")["method"]["weights"] == {"cls": 1.0, "attract": 0.15, "repel": 0.15}


def test_a_data_set_without_companions_says_so(config):
    alone = copy.deepcopy(config)
    alone["datasets"]["shapes"]["companions"] = {}
    listed = {name: how for name, *_, how in state.listing(Plan(alone, FOLDER), "shapes")}
    assert listed["occse_figure5"] == "no coco data set beside shapes"
    alone["datasets"]["shapes"]["companions"] = {"coco": "nowhere"}
    with pytest.raises(WsssError, match="unknown data set 'nowhere'"):
        Plan(alone, FOLDER).check("shapes")


def made(plan: Plan, name: str) -> Path:
    """Make files and settings of all results below a table of SEAM on shapes, and its own; the metrics file of ER."""
    spec = drawings.table(plan, "shapes", "seam", name)
    for job in Outlook(plan).missing(drawings.inputs(spec)):
        home = plan.results / job.dataset / job.paper / job.run / f"seed{job.seed}" / job.stage
        home.mkdir(parents=True, exist_ok=True)
        (home / job.file).write_text(job.file)
        settings = plan.stage_config(job.dataset, job.paper, job.run, job.seed, job.stage)
        (home / "config.yaml").write_text(yaml.safe_dump(settings))
    folder = Path(drawings.folder(plan, "shapes", "tables", "seam", name))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(spec))
    hashes = {path: sha256(path) for path in drawings.inputs(spec)}
    (folder / "record.json").write_text(json.dumps({"inputs": hashes}))
    return Path(plan.metrics("shapes", "seam", "er", 0, "seed"))


def test_a_drawing_is_stale_when_what_it_shows_has_changed_and_not_when_it_was_touched(config, tmp_path):
    config = {**config, "results": str(tmp_path / "results")}
    plan = Plan(config, FOLDER)

    def table1(plan):
        return {name: how for name, *_, how in state.listing(plan, "shapes")}["seam_table1"]

    assert table1(plan) == "needs pretraining/classifier, seam/baseline, seam/er and 2 more"
    source = made(plan, "table1")
    assert table1(plan) == "made"
    later = source.stat().st_mtime + 10
    os.utime(source, (later, later))
    assert table1(plan) == "made"
    source.write_text("2")
    os.utime(source, (later, later))
    assert table1(plan) == f"stale: {source} has changed"
    source.unlink()
    assert table1(plan) == f"stale: {source} is gone"


def test_a_drawing_is_stale_when_settings_below_it_or_its_own_entry_have_changed(config, tmp_path):
    config = {**config, "results": str(tmp_path / "results")}
    plan = Plan(config, FOLDER)
    made(plan, "table1")
    listed = {name: how for name, *_, how in state.listing(plan, "shapes")}
    assert listed["seam_table1"] == "made"
    otherwise = copy.deepcopy(config)
    otherwise["datasets"]["shapes"]["methods"]["cam"]["train"]["steps"] = 7
    listed = {name: how for name, *_, how in state.listing(Plan(otherwise, FOLDER), "shapes")}
    assert listed["seam_table1"] == "stale: other settings of seam/baseline"
    plan.papers["seam"]["tables"]["table1"]["caption"] += " Said otherwise."
    listed = {name: how for name, *_, how in state.listing(plan, "shapes")}
    assert listed["seam_table1"] == "stale: its entry in the paper has changed"


# ---- cells and mistakes


def test_a_cell_takes_the_nearest_setting():
    column = {"key": "a", "label": "A", "stage": "crf", "at": "best", "split": "val"}
    row = {"label": "r", "run": "x", "at": "alpha=4", "reported": {"a": 1.5, "b": 2.5}, "cells": {"a": {"run": "y"}}}
    assert cell(row, column) == {
        "stage": "crf",
        "at": "alpha=4",
        "split": "val",
        "run": "y",
        "reported": 1.5,
        "metric": "miou",
    }
    assert cell({"label": "r"}, {"key": "a", "label": "A"}) == {
        "stage": "seed",
        "metric": "miou",
        "at": "best",
        "split": "seed",
    }
    assert cell({"label": "r", "stage": "segment"}, {"key": "a"})["split"] == "val"
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
        ("stage: crf", "stage: crff", r"a\.yaml, table t: unknown stage 'crff': choose one of seed.* \(line 13\)"),
        ("reported: {a: 40.0}", "reported: {c: 4.0}", r"table t: unknown column 'c': choose one of a, b \(line 15\)"),
        ("run: first, rep", "metric: iuo, run: first, rep", r"unknown metric 'iuo': choose one of miou.* \(line 15\)"),
        ("run: first, rep", "metric: iou, run: first, rep", r"metric iou needs a class \(line 15\)"),
        ("run: first, rep", "metric: map, run: first, rep", r"stage seed has no metric 'map' \(line 15\)"),
        ("run: first, rep", "at: argmax, run: first, rep", r"stage seed has no operating point 'argmax' \(line 15\)"),
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
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, message):
    assert old in SMALL
    (tmp_path / "a.yaml").write_text(SMALL.replace(old, new, 1))
    with pytest.raises(WsssError, match=message):
        papers.load(["a"], tmp_path)


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
