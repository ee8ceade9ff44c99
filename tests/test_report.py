"""Verdicts, tables, figures and the page, on small hand-made results."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wsss.backbones import without_weights
from wsss.data import build as build_data
from wsss.data.index import Dataset
from wsss.errors import WsssError
from wsss.methods import build as build_method
from wsss.plan import Plan, drawings, state
from wsss.plan.checks import METRICS
from wsss.plan.stages import MEASURED
from wsss.report import draw_figure, pictures, words, write_page, write_table
from wsss.report.cells import Cell, read_cell
from wsss.report.figures import KINDS
from wsss.report.insides import outline_pair
from wsss.report.layout import Reasons, _letters
from wsss.report.page import verdicts
from wsss.report.tables import html, latex
from wsss.stores import write_masks, write_scores

ROOT = Path(__file__).parent.parent
CLASSES = ["background", "cat", "dog"]


def metrics_file(path: Path, miou: float, stage: str = "seed", **more) -> str:
    point = {"miou": miou, "precision": miou + 0.1, "recall": miou + 0.2, "iou": [0.9, miou, 0.1], **more}
    names = {"seed": ("best", "fixed"), "crf": ("alpha=4", "alpha=24", "best")}.get(stage, ("argmax",))
    content = {"classes": CLASSES, "points": {name: dict(point) for name in names}}
    if stage == "seed":
        content["points"]["best"]["threshold"] = 0.25
        thresholds = [0.0, 0.25, 0.5]
        rising, falling = [0.1, 1.0, 10.0], [5.0, 0.5, 0.05]
        content["sweep"] = {"thresholds": thresholds, "miou": [0.2, miou, 0.3], "under": rising, "over": falling}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def make_cell(values=(), reported=None, spread=None, scale=100, missing=None, comparable=None) -> Cell:
    return Cell(reported, spread, tuple(values), missing, comparable, (), (), scale)


# ---- the verdict


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        (make_cell([51.0], 50.0), "reproduced"),  # exactly 1 point
        (make_cell([51.01], 50.0), "partly"),
        (make_cell([47.0], 50.0), "partly"),  # exactly 3 points
        (make_cell([46.99], 50.0), "not"),
        (make_cell([51.0, 53.0], 50.0), "reproduced"),  # mean 52, sd 1.41: 2 <= 2.83
        (make_cell([51.9, 52.1], 50.0), "partly"),  # mean 52, sd 0.14
        (make_cell([44.0, 64.0], 50.0), "not"),  # 4 points off: no spread excuses that
        (make_cell([52.0], 50.0, spread=1.0), "reproduced"),  # the reported spread counts, too
        (make_cell([0.62], 0.61, scale=1), "reproduced"),  # a fraction: 1 point
        (make_cell([0.63], 0.61, scale=1), "partly"),
        (make_cell([0.65], 0.61, scale=1), "not"),
        (make_cell([50.0], 50.0, comparable="data set shapes"), "not comparable: data set shapes"),
        (make_cell([50.0]), "not reported"),
        (make_cell([], 50.0, missing="quoted: somebody"), "quoted: somebody"),
    ],
)
def test_verdict(cell, verdict):
    assert cell.verdict == verdict


def test_a_cell_is_the_mean_over_seeds(tmp_path):
    files = [metrics_file(tmp_path / f"{i}.json", v) for i, v in enumerate((0.40, 0.44))]
    cell = read_cell({"metrics": files, "at": "best", "metric": "miou", "reported": 41.0})
    assert cell.mean == pytest.approx(42.0)
    assert cell.spread == pytest.approx(2.8284, abs=1e-4)
    assert cell.difference == pytest.approx(1.0)
    assert cell.points == ("threshold 0.25", "threshold 0.25")


def test_a_cell_of_a_class(tmp_path):
    spec = {"metrics": [metrics_file(tmp_path / "m.json", 0.4)], "at": "best", "metric": "iou", "reported": 1.0}
    assert read_cell({**spec, "class": "dog"}).mean == pytest.approx(10.0)
    elsewhere = {**spec, "class": "cow", "dataset": "shapes", "not_comparable": "data set shapes"}
    assert read_cell(elsewhere).verdict == "data set shapes has no such class"
    with pytest.raises(WsssError, match=r"m\.json: no class 'cow': choose one of background, cat, dog"):
        read_cell({**spec, "class": "cow"})
    with pytest.raises(WsssError, match=r"m\.json: no operating point 'bets': choose one of best, fixed"):
        read_cell({**spec, "at": "bets"})


def test_a_number_without_value_says_so(tmp_path):
    path = metrics_file(tmp_path / "m.json", 0.4, under=float("nan"))
    cell = read_cell({"metrics": [path], "at": "fixed", "metric": "under", "reported": 1.0})
    assert (cell.mean, cell.verdict) == (None, "under has no value here")


# ---- tables


@pytest.fixture
def table(tmp_path) -> dict:
    """Two columns, four rows: two runs, a quotation, one that cannot be run."""

    def run(name: str, stage: str, value: float, reported: float | None) -> dict:
        path = metrics_file(tmp_path / f"{name}_{stage}.json", value, stage)
        at = "best" if stage != "walk" else "argmax"
        about = {"run": f"a/{name}", "stage": stage, "metric": "miou", "at": at, "split": "seed", "metrics": [path]}
        return about | ({"reported": reported} if reported else {})

    quoted = {"literature": "A & B, Table 1", "stage": "seed", "metric": "miou", "at": "best", "split": "seed"}
    absent = {"missing": "no code", "split": "seed"}
    return {
        "name": "t",
        "paper": "a",
        "paper_title": "A paper",
        "dataset": "voc12",
        "title": "Things",
        "caption": "What they were measured on: 50% of x_1.",
        "note": "A note.",
        "attributes": [{"key": "net", "label": "network"}],
        "columns": [{"key": "s", "label": "seed"}, {"key": "m", "label": "mask"}],
        "rows": [
            {
                "label": "one",
                "attributes": {"net": "VGG16"},
                "cells": [run("one", "seed", 0.471, 47.0), run("one", "walk", 0.6, None)],
            },
            {
                "label": "two",
                "note": "Odd.",
                "cells": [run("two", "seed", 0.45, 47.43), run("two", "walk", 0.5, 60.0)],
            },
            {"label": "three <3", "cells": [{**quoted, "reported": 40.1}, quoted]},
            {"label": "four", "cells": [{**absent, "reported": 41.0}, absent]},
        ],
    }


def test_csv_holds_every_cell_with_its_files(table, tmp_path):
    write_table(table, tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "table.csv")
    assert [(row["row"], row["column"], row["ours"], row["verdict"]) for row in rows] == [
        ("one", "seed", "47.1000", "reproduced"),
        ("one", "mask", "60.0000", "not reported"),
        ("two", "seed", "45.0000", "partly"),
        ("two", "mask", "50.0000", "not"),
        ("three <3", "seed", "", "quoted: A & B, Table 1"),
        ("three <3", "mask", "", "no value in A & B, Table 1"),
        ("four", "seed", "", "no code"),
        ("four", "mask", "", "no code"),
    ]
    assert rows[0]["attributes"] == "network: VGG16"
    assert rows[0]["points"] == "threshold 0.25"
    assert rows[0]["metrics"].endswith("one_seed.json")
    assert verdicts(rows) == "1 reproduced, 1 partly, 1 not, 1 not reported"


def test_markdown_explains_every_mark(table, tmp_path):
    write_table(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| one | VGG16 | 47.00 | 47.10 | +0.10 | ✓ | – | 60.00 | – | a |" in text
    assert "| two |  | 47.43 | 45.00 | −2.43 | ≈ | 60.0 | 50.00 | −10.00 | ✗ |" in text
    assert "| three <3 |  | 40.10 | – | – | b | – | – | – | c |" in text
    reasons = ("a: not reported.", "b: quoted: A & B, Table 1.", "c: no value in A & B, Table 1.", "d: no code.")
    selected = "Background thresholds were selected on the ground truth of the images they are measured on."
    for note in (*reasons, f"Ours: data set voc12, 1 seed. {selected}", "A note.", "two: Odd."):
        assert f"\n{note}\n" in text
    assert "✓ reproduced, ≈ partly, ✗ not" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_rows_of_one_run_say_so_and_numbers_have_the_decimals_of_their_images(table, tmp_path):
    one, two, *_ = table["rows"]
    one["cells"][1].update(split="val", reported=61.5)  # beside 60.25 on other images
    two["cells"][1]["reported"] = 60.25
    stand_in = {"label": "one", "attributes": {"net": "ResNet"}, "cells": one["cells"]}
    write_table({**table, "rows": [one, two, stand_in]}, tmp_path)
    text = (tmp_path / "table.md").read_text()
    note = "one (VGG16), one (ResNet): one run of ours, their settings are the same on data set voc12."
    assert text.count("one run of ours") == text.count(note) == 1
    assert "| 61.5 | 60.00 |" in text
    assert "| 60.25 | 50.00 |" in text


def test_latex_is_whole(table, tmp_path):
    write_table(table, tmp_path)
    text = (tmp_path / "table.tex").read_text()
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 1
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert columns == 2 + 8
    assert [line.replace(r"\&", "").count("&") for line in body.splitlines() if line.endswith(r"\\")] == [
        columns - 1
    ] * 4
    assert r"50\% of x\_1" in text
    assert r"quoted: A \& B" in text
    assert r"three $<$3" in text
    assert not re.search(r"[✓≈✗±–−]", text)
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")


def test_latex_escapes_what_it_would_read():
    assert latex("what `a_b` packs") == r"what \texttt{a\_b} packs"
    assert html("`a` < `b`") == "<code>a</code> &lt; <code>b</code>"
    assert latex(r"a\b{c}~^&") == r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\&"


def test_html_escapes_and_scrolls(table, tmp_path):
    write_table(table, tmp_path)
    text = (tmp_path / "table.html").read_text()
    assert "three &lt;3" in text
    assert '<div class="wide">' in text
    assert 'name="viewport"' in text
    assert text.count("<tr>") == text.count("</tr>") == 6


def test_a_column_of_quotations_has_one_column_and_a_transposed_table_turns(table, tmp_path):
    turned = {**table, "transpose": True, "attributes": []}
    write_table(turned, tmp_path)
    text = (tmp_path / "table.md").read_text()
    header, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    shown = " | ".join(f"{name}, reported | ours | difference | verdict" for name in ("one", "two"))
    assert header == f"| | {shown} | three <3 | four |"
    assert [line.split("|")[1].strip() for line in lines] == ["seed", "mask"]
    assert lines[0].endswith("| 40.10 | 41.00 |")
    assert "three <3: reported values alone (quoted: A & B, Table 1), – no value in A & B, Table 1." in text
    assert "four: reported values alone (no code)." in text


def test_one_column_of_runs_is_judged_in_words(table, tmp_path):
    table["columns"] = table["columns"][:1]
    table["rows"] = [{**row, "cells": row["cells"][:1]} for row in table["rows"]]
    write_table(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| one | VGG16 | 47.00 | 47.10 | +0.10 | reproduced |" in text
    assert "✓" not in text


def test_a_table_without_reported_values_shows_ours_alone(table, tmp_path):
    for row in table["rows"]:
        for cell in row["cells"]:
            cell.pop("reported", None)
    table["rows"] = table["rows"][:2] + table["rows"][3:]
    write_table(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| | network | seed | mask |" in text
    assert "| one | VGG16 | 47.10 | 60.00 |" in text
    assert "| four |  | – a | – a |" in text
    assert "reported" not in text
    assert "a: no code." in text
    assert "reported" not in (tmp_path / "table.tex").read_text() + (tmp_path / "table.html").read_text()


def test_a_column_that_cannot_be_computed_shows_reported_values_and_says_why(table, tmp_path):
    for row in table["rows"]:
        row["cells"][1].pop("metrics", None)
        row["cells"][1] |= {"missing": "test masks are not public"} if row["cells"][1].get("run") else {}
    write_table(table, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| two |  | 47.43 | 45.00 | −2.43 | partly | 60.0 |" in text
    assert "mask: reported values alone (test masks are not public), – no value in A & B, Table 1; no code." in text


def test_reasons_get_letters_once():
    reasons = Reasons()
    assert [reasons.letter(reason) for reason in ("x", "y", "x")] == ["a", "b", "a"]
    assert [_letters(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def test_every_table_of_the_papers_can_be_written(tmp_path):
    """All tables, on VOC and on the small data set, filled with one made-up value."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config.update({"papers": ["seam", "eader", "occse", "aeft", "acr"], "results": str(tmp_path)})
    config["datasets"]["voc12"]["seeds"] = [0]
    plan = Plan(config, ROOT / "workflow" / "papers")
    voc = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"]
    voc += ["horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]
    point = {"miou": 0.5, "precision": 0.5, "recall": 0.5, "precision_fg": 0.5, "recall_fg": 0.5, "iou": [0.5] * 21}
    content = json.dumps(
        {"classes": ["background", *voc], "points": dict.fromkeys(("best", "fixed", "argmax", "alpha=4"), point)}
    )
    for dataset in ("voc12", "shapes"):
        for name, kind, folder in drawings.targets(plan, dataset):
            if kind != "tables":
                continue
            drawing = drawings.table(plan, dataset, *name.split("_", 1))
            for path in map(Path, drawings.inputs(drawing)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            write_table(drawing, folder)
            text = Path(folder, "table.md").read_text()
            assert len({line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("|")}) == 1
            assert all(row["verdict"] for row in read_csv(Path(folder, "table.csv"))), name


# ---- figures


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small data set with one made-up result per stage and untrained models."""
    folder = tmp_path_factory.mktemp("world")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config.update({"papers": ["seam", "eader", "occse", "aeft", "acr"], "results": str(folder / "results")})
    shapes = config["datasets"]["shapes"]
    shapes["options"] = {"seed": 1, "train": 6, "val": 4, "size": 64}
    tiny = shapes["stand_ins"]["resnet38d"]
    shapes["stand_ins"].update({name: dict(tiny) for name in ("resnet18", "resnet101")})
    shapes["methods"] = {**shapes["methods"], "acr": {"method": {"unet_depth": 4, "unet_width": 8}}}
    plan = Plan(config, ROOT / "workflow" / "papers")
    build_data(plan.data_config("shapes"), plan.data("shapes"))
    return plan, Dataset.load(plan.data("shapes"))


def fill(plan: Plan, dataset, drawing: dict) -> None:
    """Write what a figure reads: scores and masks from noise, models as initialised."""
    rng = np.random.default_rng(0)
    for entry in [*drawing.get("series", []), *drawing.get("columns", [])]:
        stage = entry.get("stage", "seed")
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
                        keys = [record.id] if stage == "seed" else [f"{record.id}@4", f"{record.id}@24"]
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
    for name in ("figure.png", "figure.pdf"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


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
    folder = Path(drawings.folder(plan, "shapes", "tables", "seam", "table2"))
    drawing = drawings.table(plan, "shapes", "seam", "table2")
    for path in drawings.inputs(drawing):
        metrics_file(Path(path), 0.4)
    write_table(drawing, folder)
    (folder / "record.json").write_text(json.dumps({"inputs": {}, "outputs": {}}))
    chart = Path(drawings.folder(plan, "shapes", "figures", "aeft", "chart"))
    draw_figure(drawings.figure(plan, "shapes", "aeft", "chart"), chart)
    (chart / "record.json").write_text(json.dumps({"inputs": {}, "outputs": {}}))
    curves = Path(drawings.folder(plan, "shapes", "figures", "seam", "thresholds"))
    draw_figure(drawings.figure(plan, "shapes", "seam", "thresholds"), curves)
    (curves / "record.json").write_text(json.dumps({"inputs": {}, "outputs": {}}))
    training = plan.home("shapes", "seam", "baseline", 0, "train")
    training.mkdir(parents=True, exist_ok=True)
    losses = ["step,epoch,phase,term,value", "0,0,classifier,cls,0.7", "1,0,classifier,cls,0.6"]
    (training / "losses.csv").write_text("\n".join([*losses, ""]))
    official = plan.home("shapes", "seam", "seam", 0, "train")  # read, not trained: no curves
    official.mkdir(parents=True, exist_ok=True)
    (official / "losses.csv").write_text(losses[0] + "\n")

    log = plan.results / "logs/shapes/seam/baseline/seed0/train.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(f"line {i}" for i in range(99)))
    out = plan.results / "shapes/report/index.html"
    write_page(state.page(plan, "shapes"), out)
    text = out.read_text()
    assert 'href="#seam_table2"' in text
    assert "made: 4 not comparable" in text
    assert re.search(r"<td>seam_<wbr>table7</td>.*needs pretraining/classifier", text)
    assert text.count("data:image/webp;base64,") == 2
    assert text.count("Ours: data set shapes.</p>") == 1  # below curves, not below a chart of reported values
    assert text.count("data:image/svg+xml;base64,") == 1
    assert 'name="viewport"' in text
    assert "line 98" in text
    assert "line 50" not in text
    assert not re.search(r'src="(?!data:)|<script|<link|://', text)  # nothing comes from elsewhere
    links = set(re.findall(r'href="([^#"]+)"', text))
    assert {"../tables/seam_table2/table.csv", "../seam/baseline/seed0/train/losses.csv"} <= links
    assert f"../../{log.relative_to(plan.results)}" in links
    assert all((out.parent / link).is_file() for link in links)
    anchors = re.findall(r'id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', text)) - set(anchors) <= {"run-seam/seam"}  # not trained here


def test_the_page_has_words_for_all_that_is_measured():
    assert set(words.STAGES) == set(MEASURED)
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
    assert len(names) == len(drawings.everything(plan))
