"""Figures and the page, on small hand-made results."""

from __future__ import annotations

import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from provenance_chain import make_chain
from toys import metrics_file

from wsss.backbones import without_weights
from wsss.data import build as build_data
from wsss.data.index import Dataset
from wsss.methods import build as build_method
from wsss.plan import Plan, drawings, state, targets
from wsss.plan.checks import METRICS
from wsss.plan.runs import PRETRAINING, Run
from wsss.provenance.audit import audit
from wsss.provenance.record import recorded
from wsss.report import pictures, words
from wsss.report.figures import KINDS, draw_figure
from wsss.report.insides.seam import outline_pair
from wsss.report.page import write_page
from wsss.report.reading import files_read
from wsss.report.tables import write_table
from wsss.stages import MEASURED
from wsss.stores import write_masks, write_scores

ROOT = Path(__file__).parent.parent


# ---- figures


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small data set with one made-up result per stage and untrained models."""
    folder = tmp_path_factory.mktemp("world")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config.update({"papers": ["seam", "eader", "occse", "aeft", "acr"], "results": str(folder / "results")})
    shapes = config["datasets"]["shapes"]
    shapes["options"] = {"seed": 1, "train": 10, "val": 4, "size": 64}
    tiny = shapes["stand_ins"]["resnet38d"]
    shapes["stand_ins"].update({name: dict(tiny) for name in ("resnet18", "resnet101")})
    shapes["methods"] = {
        **shapes["methods"],
        "acr": {"train": {"crop": 224}, "method": {"unet_depth": 4, "unet_width": 8}},
    }
    plan = Plan(config, ROOT / "workflow" / "papers")
    build_data(plan.data_config("shapes"), plan.data("shapes"))
    return plan, Dataset.load(plan.data("shapes"))


def fill(plan: Plan, dataset, drawing: dict) -> None:
    """Write what a figure reads: scores and masks from noise, models as initialised."""
    rng = np.random.default_rng(0)
    for entry in [*drawing.get("series", []), *drawing.get("columns", [])]:
        stage = entry.get("stage", "cam")
        for path in entry.get("metrics", []):
            metrics_file(Path(path), 0.4, stage)
        for path in entry.get("files", []):
            writer = write_scores if path.endswith(".npz") else write_masks
            with writer(path) as store:
                for record in dataset.records:
                    size = (record.height, record.width)
                    if path.endswith(".zip"):
                        store.put(record.id, rng.integers(0, 4, size).astype(np.uint8))
                    else:
                        keys = [record.id] if stage == "cam" else [f"{record.id}@4", f"{record.id}@24"]
                        for key in keys:
                            store.put(key, [0, 1], rng.random((2, *size), np.float32))
        if "model" in entry and not Path(entry["model"]).exists():
            torch.manual_seed(0)
            Path(entry["model"]).parent.mkdir(parents=True, exist_ok=True)
            torch.save(
                build_method(without_weights(entry["config"]), len(dataset.classes)).state_dict(), entry["model"]
            )


@pytest.mark.parametrize(
    ("paper", "name"),
    [
        ("seam", "figure5"),  # affinities of a model
        ("seam", "figure6"),  # curves in groups
        ("seam", "pipeline"),  # scores, CRF scores and masks
        ("seam", "classes"),
        ("eader", "erased"),
        ("aeft", "erased"),
        ("aeft", "chart"),  # reported values alone
        ("acr", "reconstructions"),
        ("acr", "precision_recall"),
    ],
)
def test_figures_are_drawn(world, tmp_path, paper, name):
    plan, dataset = world
    drawing = drawings.figure(plan, "shapes", paper, name)
    drawing.update({"count": 2} if "count" in drawing else {})
    fill(plan, dataset, drawing)
    for path in drawings.inputs({key: drawing[key] for key in drawing if key == "rows"}):
        metrics_file(Path(path), 0.4)
    draw_figure(drawing, tmp_path)
    picture = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    assert 400 < picture.shape[1] < 1600
    assert picture.std() > 5
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf  # fonts are embedded as TrueType


def test_a_grid_fits_a_page_and_its_heads_their_columns(world, monkeypatch):
    drawing = drawings.figure(world[0], "shapes", "seam", "pipeline")
    drawing["columns"] = [{"label": "a head of many words", "kind": "image"} for _ in range(8)]
    for page in (pictures.HEIGHT, 5.0):
        monkeypatch.setattr(pictures, "HEIGHT", page)
        figure = pictures.draw_grid(drawing)
        assert figure.get_size_inches()[1] <= page
    widest = max(line for axis in figure.axes for line in map(len, axis.get_title().split("\n")))
    assert 0 < widest <= len("many words")  # columns of half an inch
    plt.close("all")


def test_figures_are_the_same_bytes_again(world, tmp_path):
    plan, _ = world
    drawing = drawings.figure(plan, "shapes", "aeft", "chart")
    for folder in ("a", "b"):
        draw_figure(drawing, tmp_path / folder)
    for name in ("figure.png", "figure.pdf", "figure.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert re.search(r'alt="[^"]+ reported: \d+ from [^"]+"', (tmp_path / "a/figure.html").read_text())


def test_the_chart_of_test_values_needs_no_run(world):
    plan, _ = world
    assert drawings.inputs(drawings.figure(plan, "shapes", "aeft", "chart")) == []


def test_the_schema_knows_the_kinds_that_can_be_drawn():
    schema = yaml.safe_load((ROOT / "workflow/schemas/paper.schema.yaml").read_text())
    assert set(schema["properties"]["figures"]["additionalProperties"]["properties"]["kind"]["enum"]) == set(KINDS)


def test_the_outline_pair_lies_across_the_outline():
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 3
    truth[:, 7] = 255
    on, beside = outline_pair(truth, (8, 8))
    assert truth[on] == 3
    assert truth[beside] == 0
    assert abs(on[0] - beside[0]) + abs(on[1] - beside[1]) == 1
    assert outline_pair(np.zeros((8, 8), np.uint8), (4, 4)) is None


# ---- the page


def test_the_page_is_one_file_with_what_is_made_and_what_is_missing(world):
    plan, _ = world
    folder = Path(targets.folders(plan, "shapes")["seam_table2"])
    drawing = drawings.table(plan, "shapes", "seam", "table2")
    for path in drawings.inputs(drawing):
        metrics_file(Path(path), 0.4)
    with recorded("table", [], [str(folder)], None, "cpu"):
        write_table(drawing, folder)
    chart = Path(targets.folders(plan, "shapes")["aeft_chart"])
    with recorded("figure", [], [str(chart)], None, "cpu"):
        draw_figure(drawings.figure(plan, "shapes", "aeft", "chart"), chart)
    curves = Path(targets.folders(plan, "shapes")["seam_thresholds"])
    with recorded("figure", [], [str(curves)], None, "cpu"):
        draw_figure(drawings.figure(plan, "shapes", "seam", "thresholds"), curves)
    losses = ["step,epoch,phase,term,value", "0,0,classifier,cls,0.7", "1,0,classifier,cls,0.6"]
    for paper, run in (("seam", "baseline"), PRETRAINING):
        training = plan.home(Run("shapes", paper, run), 0, "train")
        training.mkdir(parents=True, exist_ok=True)
        (training / "losses.csv").write_text("\n".join([*losses, ""]))
    official = plan.home(Run("shapes", "seam", "seam"), 0, "train")  # read, not trained: no curves
    official.mkdir(parents=True, exist_ok=True)
    (official / "losses.csv").write_text(losses[0] + "\n")

    logs = plan.results / "logs/shapes/seam"
    for run in ("baseline", "gradcam"):
        (logs / run / "seed0").mkdir(parents=True)
        (logs / run / "seed0/cam_measured-0-of-1.log").write_text("")
    log = logs / "baseline/seed0/train.log"
    log.write_text("\n".join(f"line {i}" for i in range(99)))
    out = plan.results / "shapes/report/index.html"
    write_page(state.page(plan, "shapes"), out)
    text = out.read_text()
    assert 'href="#seam_table2"' in text
    assert "made: 4 not comparable" in text
    assert re.search(r"<code>seam_<wbr>table7</code></td>.*needs pretraining/classifier", text)
    assert text.count("data:image/webp;base64,") == 2
    assert text.count("Ours: data set shapes.</p>") == 1  # below curves, not below a chart of reported values
    assert text.count("data:image/svg+xml;base64,") == 3  # losses of two networks, the plot of claims
    assert re.findall(r"<b>(\d+)</b> <span [^>]*>✓</span> ([a-z ]+)</span>", text)[0][1] == "hold"
    assert text.index("Forest plot") < text.index("claims: not run</summary>") < text.index('id="results"')
    assert text.index('id="results"') < text.index('id="seam_table2"') < text.index('id="waiting"')
    assert ">pretraining/classifier: classifier" in re.sub(r"<span.*?</span>", "", text)
    assert 'name="viewport"' in text
    assert "line 98" in text
    assert "line 50" not in text
    assert not re.search(r'src="(?!data:)|<script[^>]|<link|://', text)  # nothing comes from elsewhere
    links = set(re.findall(r'href="([^#"]+)"', text))
    assert {"../tables/seam_table2/table.csv", "../seam/baseline/seed0/train/losses.csv"} <= links
    assert "<p>seam/gradcam: <a" in text
    assert {f"../../logs/shapes/seam/{run}/seed0/cam_measured-0-of-1.log" for run in ("baseline", "gradcam")} <= links
    assert f"../../{log.relative_to(plan.results)}" in links
    assert all((out.parent / link).is_file() for link in links)
    anchors = re.findall(r'id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(anchors)


@pytest.fixture
def page_of_a_chain(tmp_path, monkeypatch):
    """A page over the small finished chain; returns the text of a page, and the outline it was written from."""
    chain = make_chain(tmp_path)
    monkeypatch.chdir(tmp_path)
    folder, run = "results/toy/tables/seam_table2", "results/toy/seam/seam/seed0"
    network = {"stage": "train", "method": "seam", "backbone": "tiny", "own": True, "seeds": 1}
    about = {"run": "seam/seam", "dataset": "toy", "method": "seam", "backbone": "tiny"}
    runs = [{**about, "networks": {f"{run}/train": network}, "logs": []}]
    words_of = {"name": "seam_table2", "kind": "tables", "paper": "seam", "title": "Table 2", "caption": "Of a toy."}
    entry = {**words_of, "folder": folder, "log": "results/logs/none.log", "state": "made", "runs": runs}
    paper = {"title": "SEAM", "citation": None, "note": None}
    stage_words = {"train": "classifier", "cam": "class maps", "walk": "masks by random walk"}
    outline = {"dataset": "toy", "papers": {"seam": paper}, "entries": [entry], "stage_words": stage_words}
    outline["claims"] = {"name": "claims", "dataset": "toy", "rows": [], "claims": []}
    return chain, outline, Path("results/toy/report/index.html")


def test_a_number_on_the_page_is_one_click_from_its_chain(page_of_a_chain):
    _, outline, out = page_of_a_chain
    write_page(outline, out)
    text = out.read_text()
    numbers = re.findall(r'<td class="ours"><a href="#(seam_table2-\d)"[^>]*>([\d.]+)</a></td>', text)
    assert [anchor for anchor, _ in numbers] == ["seam_table2-1", "seam_table2-2"]  # the first row was quoted
    for anchor, number in numbers:
        chain = re.search(rf'<div class="chain small" id="{anchor}">(.*?)</div>', text, re.DOTALL)[1]
        assert f"{float(re.search(r'mIoU: ([0-9.]+)', chain)[1]):.2f}" == number
        steps = [line.split(":")[0] for line in re.findall(r"<li>(.*?)</li>", chain)]
        assert steps == (
            ["measure", "class maps", "classifier", "index"]
            if anchor.endswith("1")
            else ["measure", "masks by random walk", "class maps", "classifier", "index"]
        )
        links = re.findall(r'href="([^#"]+)"', chain)
        assert links
        assert all((out.parent / link).is_file() for link in links)


def test_a_page_is_written_again_with_the_same_bytes(page_of_a_chain):
    chain, outline, out = page_of_a_chain
    pages = []
    for _ in range(2):
        write_page(outline, out)
        pages.append(out.read_bytes())
        for path in chain.files():
            os.utime(path, (0, 0))
    assert pages[0] == pages[1]


def test_the_metrics_that_claims_are_judged_by_are_part_of_a_page(page_of_a_chain):
    _, outline, _ = page_of_a_chain
    of_both = [["a/cam_measured.json", "b/cam_measured.json"], ["c/cam_measured.json"]]
    outline["claims"]["rows"] = [{"cells": [{"metrics": files} for files in of_both]}, {"cells": [{}, {}]}]
    assert {file for files in of_both for file in files} <= set(files_read(outline))


def test_the_record_of_a_page_lists_all_that_is_on_it(page_of_a_chain):
    _, outline, out = page_of_a_chain
    log = Path("results/logs/toy/seam/seam/seed0/train.log")
    log.parent.mkdir(parents=True)
    log.write_text("the last line")
    with recorded("page", files_read(outline), [str(out)], None, "cpu"):
        write_page(outline, out)
    assert not audit(out, cold=True, code=False).findings
    opened = {"tables/seam_table2/table.html", "seam/seam/seed0/train/losses.csv"}
    for name in [*(f"results/toy/{file}" for file in opened), str(log)]:
        kept = Path(name).read_bytes()
        Path(name).write_bytes(kept + b"more")
        found = audit(out, cold=True, code=False).findings
        assert [finding.place for finding in found] == [name.removeprefix("results/")]
        Path(name).write_bytes(kept)


def test_a_table_that_was_edited_is_not_on_the_page(page_of_a_chain):
    _, outline, out = page_of_a_chain
    Path("results/toy/tables/seam_table2/table.md").write_text("99.00")
    assert files_read(outline) == []
    write_page(outline, out)
    assert "seam_table2-1" not in out.read_text()


def test_the_page_has_words_for_all_that_is_measured(world):
    plan, _ = world
    assert set(MEASURED) <= set(state.page(plan, "shapes")["stage_words"])
    assert set(words.METRICS) == set(METRICS)
    assert words.metric("iou", "dog") == "IoU of dog"
    assert words.points("threshold 0.25; alpha=16") == "threshold 0.25; exponent 16"
    assert [words.loss(term) for term in ("ce_0.5", "dp_bg", "new")] == [
        "cross entropy, × 0.5",
        "displacement, background pairs",
        "new",
    ]


def test_figures_of_a_table_follow_it(world):
    plan, _ = world
    names = [entry["name"] for entry in state.entries(plan, "shapes")]
    assert names.index("acr_precision_recall") == names.index("acr_losses") + 1
    assert names.index("acr_cams") > names.index("acr_segmentation")
    assert len(names) == len(targets.every(plan))
