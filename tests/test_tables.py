"""Verdicts and tables, on small hand-made results."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from toys import metrics_file

from wsss.errors import WsssError
from wsss.plan import Plan, drawings, targets
from wsss.report.badges import badge
from wsss.report.cells import Cell, read_cell
from wsss.report.filled import verdicts
from wsss.report.notes import Reasons, nth_letter
from wsss.report.rendering import html, latex, markdown
from wsss.report.tables import write_table

ROOT = Path(__file__).parent.parent


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def make_cell(values=(), reported=None, spread=None, scale=100, missing=None, not_comparable=None) -> Cell:
    return Cell(reported, spread, tuple(values), missing, not_comparable, (), (), scale)


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
        (make_cell([50.0], 50.0, not_comparable="data set shapes"), "not comparable: data set shapes"),
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


@pytest.mark.parametrize(
    ("verdict", "mark", "word"),
    [
        ("not", "✗", "not reproduced"),
        ("not comparable: data set shapes", "–", "not comparable"),
        ("under has no value here", "–", "no value"),  # computed: no pixel was rightly found
        ("no value in somebody 2019", "–", "no value"),
        ("no value reported, none asked for", "–", "no value"),
        ("paper occse is not among those configured", "–", "not computed"),
    ],
)
def test_a_verdict_has_a_mark_and_a_word(verdict, mark, word):
    found = badge(verdict)
    assert (found.mark, found.word) == (mark, word)


# ---- tables


@pytest.fixture
def table(tmp_path) -> dict:
    """Two columns, four rows: two runs, a quotation, one that cannot be run."""

    def run(name: str, stage: str, value: float, reported: float | None) -> dict:
        path = metrics_file(tmp_path / f"{name}_{stage}.json", value, stage)
        at = "best" if stage != "walk" else "argmax"
        about = {
            "run": f"a/{name}",
            "stage": stage,
            "metric": "miou",
            "at": at,
            "images": "measured",
            "metrics": [path],
        }
        return about | ({"reported": reported} if reported else {})

    quoted = {"literature": "A & B, Table 1", "stage": "cam", "metric": "miou", "at": "best", "images": "measured"}
    absent = {"missing": "no code", "images": "measured"}
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
                "cells": [run("one", "cam", 0.471, 47.0), run("one", "walk", 0.6, None)],
            },
            {
                "label": "two",
                "note": "Odd.",
                "cells": [run("two", "cam", 0.45, 47.43), run("two", "walk", 0.5, 60.0)],
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
    assert rows[0]["metrics"].endswith("one_cam.json")
    assert verdicts(rows) == "1 reproduced, 1 partly, 1 not reproduced, 1 not reported"


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
    one["cells"][1].update(images="val", reported=61.5)  # beside 60.25 on other images
    two["cells"][1]["reported"] = 60.25
    stand_in = {"label": "one", "attributes": {"net": "ResNet"}, "cells": one["cells"]}
    write_table({**table, "rows": [one, two, stand_in]}, tmp_path)
    text = (tmp_path / "table.md").read_text()
    note = "one (VGG16), one (ResNet): one run of ours, since their settings are the same on data set voc12."
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


def test_markdown_leaves_code_as_it_is():
    assert markdown("a_b | `train.may_skip` * c") == r"a\_b \| `train.may_skip` \* c"
    assert markdown("`a_b`, `c | d`") == r"`a_b`, `c \| d`"
    assert markdown("a lone ` and_more") == r"a lone ` and\_more"


def test_html_escapes_and_scrolls(table, tmp_path):
    write_table(table, tmp_path)
    text = (tmp_path / "table.html").read_text()
    assert "three &lt;3" in text
    assert '<div class="wide" tabindex="0"' in text
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
    assert [nth_letter(i) for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def test_every_table_of_the_papers_can_be_written(tmp_path):
    """All tables, on VOC and on the small data set, filled with one made-up value."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config.update({"results": str(tmp_path)})
    config["datasets"]["voc12"]["seeds"] = [0]
    plan = Plan(config, ROOT / "workflow" / "papers")
    voc = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"]
    voc += ["horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]
    point = {
        "miou": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "precision_fg": 0.5,
        "recall_fg": 0.5,
        "iou": [0.5] * 21,
        "map": 0.5,
    }
    content = json.dumps(
        {
            "classes": ["background", *voc],
            "points": dict.fromkeys(("best", "highest", "fixed", "argmax", "alpha=4", "iou=0.5"), point),
        }
    )
    for dataset in ("voc12", "shapes"):
        for name, target in targets.available(plan, dataset).items():
            if target.kind != "tables":
                continue
            drawing, folder = (
                drawings.table(plan, dataset, target.paper, target.name),
                targets.folder(plan, dataset, target),
            )
            for path in map(Path, drawings.inputs(drawing)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            write_table(drawing, folder)
            text = Path(folder, "table.md").read_text()
            assert len({line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("|")}) == 1
            assert all(row["verdict"] for row in read_csv(Path(folder, "table.csv"))), name
