"""Tables and figures of the papers: that every run resolves, what they need, and when they are stale."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import yaml

from wsss.errors import WsssError
from wsss.plan import Plan, drawings, state, targets
from wsss.plan.outlook import Outlook
from wsss.plan.runs import Run
from wsss.plan.target import Target
from wsss.provenance.record import recorded

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflow" / "papers"
PAPERS = ["seam", "eader", "occse", "aeft", "acr"]


@pytest.fixture(scope="module")
def config() -> dict:
    return {**yaml.safe_load((ROOT / "config.yaml").read_text()), "papers": PAPERS}


@pytest.fixture(scope="module")
def plan(config) -> Plan:
    return Plan(config, FOLDER)


def test_every_run_resolves_on_every_data_set(plan, config):
    for dataset in config["datasets"]:
        for paper, spec in plan.papers.items():
            for run in spec["runs"]:
                resolved = plan.resolve(Run(dataset, paper, run))
                assert resolved["method"]["name"] in ("cam", *PAPERS)
                for stage in ("train", "cam", "crf", "walk"):
                    plan.stage_config(Run(dataset, paper, run), 0, stage)
                learnt_from = {resolved["affinity"]["low_alpha"], resolved["affinity"]["high_alpha"]}
                assert learnt_from <= set(resolved["crf"]["alphas"]), (dataset, paper, run)


def test_every_drawing_knows_its_files_on_every_data_set(plan, config):
    for dataset in config["datasets"]:
        for name, target in targets.available(plan, dataset).items():
            drawing = drawings.drawing(plan, dataset, target)
            assert targets.folders(plan, dataset)[name] == f"results/{dataset}/{target.kind}/{name}"
            beside = config["datasets"][dataset].get("companions", {}).values()
            homes = tuple(f"results/{place}/" for place in (dataset, *beside))
            assert all(path.startswith(homes) for path in drawings.inputs(drawing))
        assert len(state.page(plan, dataset)["entries"]) >= len(targets.available(plan, dataset))


def test_the_ordinary_classifier_is_the_model_of_the_same_seed(plan):
    (model,) = [w for w in plan.references(Run("voc12", "occse", "occse"), 2, "train") if w.endswith("model.pt")]
    assert "/seed2/train/" in model
    owner = plan.owner(Run("voc12", "occse", "ordinary"), "train")
    assert model == f"{plan.home(owner, 2, 'train')}/model.pt"


def test_only_what_differs_between_runs_is_trained(plan):
    assert plan.owner(Run("voc12", "seam", "gradcam"), "train").word == "seam/baseline"
    assert plan.owner(Run("voc12", "occse", "ordinary"), "train").word == "eader/psa"
    trained = {plan.owner(run, "train").word for run in plan.runs.on("voc12")}
    assert {"eader/alpha0", "eader/localizer", "aeft/gpp", "acr/baseline", "occse/depth3"} <= trained


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
    otherwise = copy.deepcopy(config)
    otherwise["datasets"]["voc12"]["runs"] = {"acr/acr_vit": {"train": {"crop": 7}}}
    assert first_cell(otherwise)["not_comparable"] == "other settings than the paper's: train.crop"
    smaller = copy.deepcopy(config)
    smaller["datasets"]["voc12"]["stand_ins"]["resnet38d"] = {"name": "mobilenet_v2"}
    assert "backbone.name" in first_cell(smaller)["not_comparable"]
    every = Plan({**config, "papers": [*config["papers"], "overview"]}, FOLDER)
    shapes = drawings.table(every, "shapes", "overview", "segmentation")["rows"][0]["cells"][0]
    assert shapes["not_comparable"] == "data set shapes, backbone tiny"


def test_no_run_on_the_papers_own_data_departs_from_its_paper(config):
    """Also those that start from another run, which the paper file and the settings name in other words."""
    papers = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    every = Plan({**config, "papers": papers}, FOLDER)
    departing = {run.word: every.departures(run) for run in every.runs.on("voc12")}
    assert {word: keys for word, keys in departing.items() if keys} == {}
    assert len(departing) > 60


def test_a_network_is_listed_with_the_runs_that_are_made_with_it(config):
    every = Plan({**config, "papers": [*config["papers"], "overview"]}, FOLDER)
    (entry,) = [e for e in state.entries(every, "shapes") if e["name"] == "overview_segmentation"]
    networks = {
        run["run"]: {network["stage"] for network in run["networks"].values() if network["own"]}
        for run in entry["runs"]
    }
    assert networks["overview/bound"] == {"train", "deeplab"}
    assert networks["seam/baseline"] == {"train", "affinity", "deeplab"}
    (baseline,) = [run for run in entry["runs"] if run["run"] == "seam/baseline"]
    started_from = "results/shapes/pretraining/classifier/seed0/train"
    assert next(iter(baseline["networks"].items())) == (
        started_from,
        {"stage": "train", "method": "cam", "backbone": "tiny", "own": False, "seeds": 1},
    )


def test_all_seeds_of_a_run_start_from_one_pretrained_classifier(config):
    shapes = {**config["datasets"]["shapes"], "seeds": [3, 4, 5]}
    plan = Plan({**config, "datasets": {**config["datasets"], "shapes": shapes}}, FOLDER)
    (entry,) = [e for e in state.entries(plan, "shapes") if e["name"] == "seam_table2"]
    (baseline,) = [run for run in entry["runs"] if run["run"] == "seam/baseline"]
    seeds = {folder: network["seeds"] for folder, network in baseline["networks"].items()}
    assert seeds == {
        "results/shapes/pretraining/classifier/seed3/train": 1,
        "results/shapes/seam/baseline/seed3/train": 3,
    }


def test_a_companion_stands_beside_its_data_set(plan):
    """COCO's figures and columns are made of the data set in that role alone, and of nothing when there is none."""
    figure = drawings.figure(plan, "shapes", "occse", "figure5")
    assert all(path.startswith("results/shapes_coco/") for path in drawings.inputs(figure))
    rows = drawings.table(plan, "shapes", "aeft", "comparison")["rows"]
    of_paper = [cell for row in rows for cell in row["cells"] if cell.get("companion") and cell.get("metrics")]
    assert len(of_paper) == 3
    assert all("data set shapes_coco" in cell["not_comparable"] for cell in of_paper)
    assert "occse_figure5" in targets.available(plan, "shapes")
    states = {name: how for name, *_, how in state.listing(plan, "shapes")}
    assert states["occse_figure5"].startswith("needs pretraining/classifier on shapes_coco,")


def test_a_companion_without_folder_is_no_obstacle_but_for_what_shows_it(config):
    plan = Plan(config, FOLDER)
    plan.check("voc12")
    said = "no folder of coco14 is given (config.yaml, datasets.coco14.options.root)"
    assert "occse_figure5" not in targets.available(plan, "voc12")
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
    assert "results/coco14/occse/occse/seed0/predict/val-0-of-1.zip" in inputs
    assert plan.resolve(Run("coco14", "aeft", "aeft"))["method"]["loss_weights"] == {
        "cls": 1.0,
        "attract": 0.15,
        "repel": 0.15,
    }


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
    spec = drawings.drawing(plan, "shapes", Target("seam", "tables", name))
    for job in Outlook(plan).missing(drawings.inputs(spec)):
        home = plan.results / job.dataset / job.paper / job.run / f"seed{job.seed}" / job.stage
        home.mkdir(parents=True, exist_ok=True)
        (home / job.file).write_text(job.file)
        settings = plan.stage_config(Run(job.dataset, job.paper, job.run), job.seed, job.stage)
        (home / "config.yaml").write_text(yaml.safe_dump(settings))
    folder = Path(targets.folders(plan, "shapes")[f"seam_{name}"])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(spec))
    with recorded("table", drawings.inputs(spec), [str(folder)], spec, "cpu"):
        (folder / "table.csv").write_text("the table")
    return Path(plan.metrics(Run("shapes", "seam", "er"), 0, "cam"))


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
    for time in (later, 0):  # a copy may keep an old time
        os.utime(source, (time, time))
        assert table1(plan) == f"stale: {os.path.relpath(source)} has changed"
    source.unlink()
    assert table1(plan) == f"stale: {os.path.relpath(source)} is gone"


def test_a_drawing_is_stale_when_settings_below_it_or_its_own_entry_have_changed(config, tmp_path):
    config = {**config, "results": str(tmp_path / "results")}
    plan = Plan(config, FOLDER)
    made(plan, "table1")
    listed = {name: how for name, *_, how in state.listing(plan, "shapes")}
    assert listed["seam_table1"] == "made"
    otherwise = copy.deepcopy(config)
    otherwise["datasets"]["shapes"]["methods"]["cam"]["train"] = {"steps": 7}
    listed = {name: how for name, *_, how in state.listing(Plan(otherwise, FOLDER), "shapes")}
    assert listed["seam_table1"] == "stale: other settings or code of seam/baseline"
    reworded = Plan(config, FOLDER)
    reworded.papers["seam"]["tables"]["table1"]["caption"] += " Said otherwise."
    listed = {name: how for name, *_, how in state.listing(reworded, "shapes")}
    assert listed["seam_table1"] == "stale: its entry in the paper, or the code that draws it, has changed"
