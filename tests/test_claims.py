"""Claims of the papers: what they say, how they are judged, and what is written of them."""

from __future__ import annotations

import copy
import csv
import re
from pathlib import Path

import pytest
import yaml
from toys import metrics_file

from wsss.plan import Plan, claims, drawings, papers, targets
from wsss.plan.runs import Run
from wsss.plan.target import Target
from wsss.report.claims import write_claims
from wsss.report.forest import forest
from wsss.report.judging import (
    FAILS,
    HOLDS,
    NOT_RUN,
    RULE,
    UNDECIDED,
    ZONES,
    Judged,
    JudgedClaim,
    in_words,
    judge_all,
)

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflow" / "papers"
SMALL = """\
title: "A: a paper"
citation: "@misc{a}"
runs:
  first: {method: cam}
  second: {method: {name: cam, power: 0.5}}
  third: {method: {name: cam, power: 0.7}}
tables:
  t:
    title: T
    caption: C
    columns: [{key: a, label: A}]
    rows: [{label: one, run: first}]
claims:
  better:
    says: "First is better."
    source: "Table 1"
    direction: above
    runs: [first, {run: second, stage: crf}]
    reported: 2.0
  order:
    says: "Each is better than the one before."
    source: "Table 2"
    direction: rising
    runs: [first, second, third]
    reported: [1.0, null]
"""


# ---- what the papers say


@pytest.fixture(scope="module")
def specs() -> dict:
    names = [path.stem for path in FOLDER.glob("*.yaml")]
    return papers.load(sorted(names), FOLDER)


def every(specs: dict) -> list[tuple[str, str, dict]]:
    return [(paper, name, claim) for paper, spec in specs.items() for name, claim in spec.get("claims", {}).items()]


def test_every_paper_has_claims_in_plain_sentences(specs):
    assert not [paper for paper, spec in specs.items() if not spec.get("claims")]
    for paper, name, claim in every(specs):
        assert re.fullmatch(r"[A-Z].{10,85}\.", claim["says"]), (paper, name)
    sentences = [(paper, claim["says"]) for paper, _, claim in every(specs)]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize(
    ("paper", "names"),
    [
        ("seam", "better_maps scales under_activation over_activation modules transformations multi_scale masks"),
        ("seam", "segmentation crf affinity"),
        ("eader", "better_maps recall_rises precision_falls psa_maps psa_masks psa_segmentation affinity"),
        ("occse", "resnet38 resnet101 vgg16 masking"),
        ("aeft", "pooling levels fusion rigid soft soft_recall repel_precision"),
        ("acr", "strategies srf target_precision nontarget_recall both transformer refinement"),
        ("overview", "irnet"),
    ],
)
def test_what_the_texts_say_at_least_is_there(specs, paper, names):
    assert set(names.split()) <= set(specs[paper]["claims"])


def reported_values(specs: dict) -> dict[tuple, set[float]]:
    """What is reported of each result, in percent, over all tables of a paper."""
    found: dict[tuple, set[float]] = {}
    for paper, spec in specs.items():
        for table in spec["tables"]:
            for _, cells in papers.rows(spec, table):
                for cell in cells:
                    if cell.get("run") and "reported" in cell:
                        value = cell["reported"] * (100 if cell.get("scale") == 1 else 1)
                        found.setdefault((paper, *result(paper, cell)), set()).add(value)
    return found


def result(paper: str, cell: dict) -> tuple:
    return (*papers.owner_of(cell["run"], paper), *(cell.get(key) for key in ("stage", "metric", "at", "images")))


def test_reported_differences_are_those_of_the_tables(specs):
    """Every difference that both values of are in tables of the paper; where there are both, it is stated."""
    known, compared = reported_values(specs), 0
    for paper, name, claim in every(specs):
        for (first, second), stated in zip(claims.comparisons(claim), claims.reported(claim), strict=True):
            values = [known.get((paper, *result(paper, side))) for side in (first, second)]
            if None in values:
                assert stated is None, (paper, name)
                continue
            differences = [a - b for a in values[0] for b in values[1]]
            assert stated is not None, (paper, name, differences)
            assert min(abs(stated - one) for one in differences) < 0.006, (paper, name, stated, differences)
            compared += 1
    assert compared > 80


def test_what_is_reported_speaks_for_the_claim(specs):
    for paper, name, claim in every(specs):
        least, most = ZONES[claim["direction"]]
        assert all(least < value < most for value in claims.reported(claim) if value is not None), (paper, name)


def test_every_claim_resolves_on_every_data_set():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    plan = Plan({**config, "papers": [*config["papers"], "recam"]}, FOLDER)
    for dataset in config["datasets"]:
        for word, target in targets.available(plan, dataset).items():
            if target.kind == "claims":
                drawing = drawings.drawing(plan, dataset, target)
                assert Target.of("claims", word) == target
                assert targets.folder(plan, dataset, target) == f"results/{dataset}/claims/{word}"
                for row in drawing["rows"]:
                    files = [cell.get("metrics", []) for cell in row["cells"]]
                    seeds = len(config["datasets"][dataset]["seeds"])
                    assert [len(of) for of in files] == ([0, 0] if "missing" in row else [seeds, seeds])
        known = targets.words(plan, dataset)
        assert known["claims"] == ["claims"]
        assert {"seam_claims", "eader_claims", "occse_claims", "aeft_claims", "acr_claims"} <= set(known)
        assert "seam_claims" in known["seam"]
        assert targets.chosen(plan, dataset, ["claims", "seam_claims"]) == ["claims", "seam_claims"]


# ---- mistakes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "runs: [first, {",
            "runs: [frist, {",
            r"a\.yaml, claim better: unknown run 'frist': choose one .* \(line 18\)",
        ),
        ("{run: second,", "{run: secnd,", r"claim better: unknown run 'secnd': choose one of first.* \(line 18\)"),
        ("stage: crf}", "stage: crff}", r"claim better: unknown stage 'crff': choose one of cam.* \(line 18\)"),
        (
            "stage: crf}",
            "at: argmax}",
            r"no operating point 'argmax': give best, highest or fixed \(line 18\)",
        ),
        (
            "direction: above",
            "direction: above\n    metric: iuo",
            r"unknown metric 'iuo': choose one of m.* \(line 18\)",
        ),
        ("direction: above", "direction: up", r"a\.yaml: claims\.better\.direction: 'up' is not one of .* \(line 17\)"),
        ("[1.0, null]", "[1.0]", r"claim order: has 2 comparisons, so reported needs 2 numbers .* \(line 25\)"),
        (
            "runs: [first, second, third]",
            "pairs: [[first, second]]",
            r"claim order: direction rising is an .*\(line 23\)",
        ),
        (
            "    runs: [first, second, third]\n",
            "",
            r"order: needs either runs or pairs, and not both \(line 20\)",
        ),
        ('    source: "Table 1"\n', "", r"claims\.better: 'source' is a required property \(line 14\)"),
        ("    reported: 2.0", "    repoted: 2.0", r"claims\.better: .*repoted.* \(line 14\)"),
        (
            "  t:\n",
            "  claims:\n",
            r"table claims: this name is the word for the paper's claims: .* \(line 8\)",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(mistaken_paper, old, new, message):
    mistaken_paper(SMALL, old, new, message)


# ---- the rule


def compared(direction: str, *differences: float, reported: float | None = None) -> Judged:
    return Judged("a - b", direction, reported, differences, None if differences else "not computed")


def test_the_interval_is_students():
    one = compared("above", 1.0, 2.0, 3.0)
    assert one.mean == 2.0
    assert one.interval == pytest.approx(
        (2 - 2.484138, 2 + 2.484138), abs=1e-5
    )  # t(2) = 4.302653, s / sqrt(3) = .577350
    assert compared("above", 1.0, 2.0).interval == pytest.approx((1.5 - 6.353102, 1.5 + 6.353102), abs=1e-5)
    assert compared("above", 1.0).interval is None


@pytest.mark.parametrize(
    ("direction", "differences", "verdict"),
    [
        ("above", (4.0, 5.0, 6.0), HOLDS),
        ("above", (1.0, 2.0, 3.0), UNDECIDED),  # the interval reaches below 0
        ("above", (-4.0, -5.0, -6.0), FAILS),
        ("above", (0.0, 0.0, 0.0), UNDECIDED),  # equal on every seed is neither above nor below
        ("above", (9.0,), UNDECIDED),  # one seed decides nothing
        ("above", (), NOT_RUN),
        ("below", (4.0, 5.0, 6.0), HOLDS),  # a positive difference speaks for the claim, whatever its direction
        ("at_least", (-0.3, -0.2, -0.1), HOLDS),
        ("at_least", (4.0, 5.0, 6.0), HOLDS),
        ("at_least", (-2.3, -2.2, -2.1), FAILS),
        ("at_least", (-1.3, -1.0, -0.7), UNDECIDED),
        ("equal", (-0.1, 0.0, 0.1), HOLDS),
        ("equal", (2.1, 2.2, 2.3), FAILS),
        ("equal", (-2.1, -2.2, -2.3), FAILS),
        ("equal", (0.7, 1.0, 1.3), UNDECIDED),
    ],
)
def test_verdicts(direction, differences, verdict):
    assert compared(direction, *differences).verdict == verdict


@pytest.mark.parametrize(
    ("members", "verdict", "weakest"),
    [
        (((4.0, 5.0, 6.0), (1.0, 1.1, 1.2)), HOLDS, 1),
        (((4.0, 5.0, 6.0), (-0.1, 0.1, 0.3)), UNDECIDED, 1),
        (
            ((-4.0, -5.0, -6.0), (4.0, 5.0, 6.0), ()),
            FAILS,
            0,
        ),  # one that does not hold decides, whatever else is missing
        (((4.0, 5.0, 6.0), ()), NOT_RUN, 1),
        (((4.0, 5.0, 6.0), (-0.1, 0.1, 0.3), ()), NOT_RUN, 2),
    ],
)
def test_a_claim_of_several_comparisons(members, verdict, weakest):
    judged = tuple(compared("above", *differences) for differences in members)
    claim = JudgedClaim("a/c", "A", "Says.", "Table 1", "above", judged)
    assert claim.verdict == verdict
    assert claim.weakest is judged[weakest]


def test_every_direction_has_a_zone_and_the_rule_names_them():
    schema = yaml.safe_load((ROOT / "workflow/schemas/paper.schema.yaml").read_text())
    properties = schema["properties"]["claims"]["additionalProperties"]["properties"]
    assert set(properties["direction"]["enum"]) == set(ZONES)
    assert "above -1 point" in RULE
    assert "between -1 and 1 point" in RULE


def test_verdicts_are_counted_in_words():
    assert in_words([HOLDS, HOLDS, FAILS]) == "2 hold, 1 does not hold, 0 undecided, 0 not run"


# ---- on a data set


@pytest.fixture
def plan(tmp_path) -> Plan:
    (tmp_path / "a.yaml").write_text(SMALL)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= {"papers": ["a"], "results": str(tmp_path / "results")}
    config["datasets"]["shapes"]["seeds"] = [0, 1, 2]
    return Plan(config, tmp_path)


def fill(drawing: dict, values: dict[str, list[float]]) -> None:
    """Write the metrics of runs: one mIoU per seed."""
    for row in drawing["rows"]:
        for cell in row["cells"]:
            for path, value in zip(cell["metrics"], values[cell["run"]], strict=True):
                metrics_file(Path(path), value, cell["stage"])


VALUES = {"a/first": [0.50, 0.52, 0.51], "a/second": [0.45, 0.47, 0.45], "a/third": [0.49, 0.50, 0.48]}


def test_differences_are_paired_by_seed(plan):
    drawing = drawings.drawing(plan, "shapes", Target("a", "claims", "claims"))
    fill(drawing, VALUES)
    better, order = judge_all(drawing)
    assert better.comparisons[0].label == "first - second crf"
    assert better.comparisons[0].differences == pytest.approx((5.0, 5.0, 6.0))
    assert [one.label for one in order.comparisons] == ["second - first", "third - second"]
    assert order.comparisons[0].differences == pytest.approx((-5.0, -5.0, -6.0))
    assert (better.verdict, order.verdict) == (HOLDS, FAILS)
    assert order.weakest is order.comparisons[0]


@pytest.mark.parametrize(("direction", "label"), [("above", "first - second"), ("below", "second - first")])
def test_a_positive_difference_speaks_for_the_claim(direction, label):
    (sides,) = claims.comparisons({"direction": direction, "runs": ["first", "second"]})
    assert " - ".join(side["run"] for side in sides) == label
    rising = claims.comparisons({"direction": "rising", "runs": ["a", "b", "c"]})
    falling = claims.comparisons({"direction": "falling", "runs": ["a", "b", "c"]})
    assert [(x["run"], y["run"]) for x, y in rising] == [("b", "a"), ("c", "b")]
    assert [(x["run"], y["run"]) for x, y in falling] == [("a", "b"), ("b", "c")]


def test_what_has_been_computed_can_be_judged_before_the_rest(plan):
    whole = claims.drawing(plan, "shapes", "a")
    first, second = (cell["metrics"] for cell in whole["rows"][0]["cells"])
    for path, value in zip([*first[:2], *second[1:]], (0.5, 0.6, 0.4, 0.3), strict=True):
        metrics_file(Path(path), value, "crf" if path in second else "cam")
    for drawing in (
        claims.drawing(plan, "shapes", "a", so_far=True),
        claims.drawing(Plan({**plan.config, "claims": "computed"}, plan.paper_folder), "shapes", "a"),
    ):
        better, order = judge_all(drawing)
        assert better.comparisons[0].differences == pytest.approx((20.0,))  # of seed 1, which both sides have
        assert (better.verdict, order.verdict, order.weakest.missing) == (UNDECIDED, NOT_RUN, "not computed")
        assert drawings.inputs(drawing) == sorted([first[1], second[1]])
    assert set(drawings.inputs(whole)) > set(first)


def test_what_was_made_with_other_settings_has_not_been_computed(plan):
    drawing = claims.drawing(plan, "shapes", "a")
    fill(drawing, VALUES)
    assert judge_all(claims.drawing(plan, "shapes", "a", so_far=True))[0].verdict == HOLDS
    folder = plan.home(Run("shapes", "a", "first"), 0, "cam")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("cam: {scales: [9.0]}\n")
    (better, _) = judge_all(claims.drawing(plan, "shapes", "a", so_far=True))
    assert len(better.comparisons[0].differences) == 2


def test_two_names_of_one_run_are_not_compared_and_one_comparison_counts_once(plan, tmp_path):
    spec = yaml.safe_load(SMALL)
    spec["runs"] |= {"same": copy.deepcopy(spec["runs"]["first"]), "twin": copy.deepcopy(spec["runs"]["second"])}
    spec["claims"]["alike"] = {**spec["claims"]["better"], "runs": ["first", "same"]}
    spec["claims"]["again"] = {**spec["claims"]["better"], "runs": ["same", {"run": "twin", "stage": "crf"}]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    drawing = claims.drawing(Plan(plan.config, tmp_path), "shapes", "a")
    fill({"rows": [row for row in drawing["rows"] if "missing" not in row]}, VALUES)
    found = {claim.name: claim for claim in judge_all(drawing)}
    assert found["a/alike"].weakest.missing == "both sides are one run on data set shapes"
    assert found["a/again"].weakest.missing == "on data set shapes the same runs as a/better"
    assert found["a/better"].verdict == HOLDS


# ---- what is written


def test_a_claim_that_fails_is_as_prominent_as_one_that_holds(plan, tmp_path):
    drawing = drawings.drawing(plan, "shapes", Target("a", "claims", "claims"))
    fill(drawing, VALUES)
    write_claims(drawing, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/table.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["row"], row["verdict"], row["claim_verdict"], row["decides"]) for row in rows] == [
        ("a/better: first - second crf", HOLDS, HOLDS, "yes"),
        ("a/order: second - first", FAILS, FAILS, "yes"),
        ("a/order: third - second", HOLDS, FAILS, ""),
    ]
    assert (rows[0]["reported"], rows[0]["ours"], rows[0]["differences"]) == (
        "2.0000",
        "5.3333",
        "5.0000; 5.0000; 6.0000",
    )
    markdown = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert "1 holds, 1 does not hold, 0 undecided, 0 not run." in markdown
    assert (
        "| ✓ holds | First is better. | first − second crf | +2.00 | +5.33 | +3.90 to +6.77 | 3 | A, Table 1 |"
        in markdown
    )
    assert f"Rule: {RULE}." in markdown.replace("\\", "")
    assert "3 seeds. Background thresholds and CRF exponents were selected on the ground truth" in markdown
    html = (tmp_path / "out/table.html").read_text(encoding="utf-8")
    boxes = re.findall(r"<b>(\d)</b> <span [^>]*>.</span> ([a-z ]+)</span>", html)
    assert boxes == [("1", "holds"), ("1", "does not hold"), ("0", "undecided"), ("0", "not run")]
    assert html.count("<table") == 1  # all verdicts alike
    assert "The interval, +3.90 to +6.77, is wholly inside what is claimed: above 0." in html
    latex = (tmp_path / "out/table.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 1
    assert all((tmp_path / "out" / name).stat().st_size > 4000 for name in ("figure.pdf", "figure.png"))


def test_a_forest_plot_says_verdicts_in_words_and_stays_on_its_axis():
    def claim(name: str, *differences: float, direction: str = "above") -> JudgedClaim:
        judged = compared(direction, *differences, reported=3.0)
        return JudgedClaim(f"{name}/c", name, f"Claim of {name}.", "Table 1", direction, (judged,))

    members = [claim("A", 4.0, 5.0, 6.0), claim("A", -4.0, -5.0, -6.0), claim("B", -60.0, 70.0), claim("B")]
    figure = forest([*members, claim("B", 0.0, 0.1, direction="equal")])
    axis = figure.axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert {"✓ holds", "✗ does not hold", "? undecided", "– not run", "A", "B"} <= set(texts)
    low, high = axis.get_xlim()
    assert -10 < low < high < 10  # differences are inside; an interval of 1000 points does not stretch the axis
    for line in axis.lines:
        assert all(low <= x <= high for x in line.get_xdata() if line.get_transform() is axis.transData)


def test_a_difference_of_hundreds_is_drawn_at_the_end_of_the_axis_and_written_beside_its_verdict():
    values = {"A": (4.0, 5.0, 6.0), "B": (79.0, 80.0, 81.0), "C": (-390.0, -300.0, -200.0), "D": (-900.0, 0.0, 900.0)}
    judged = [
        JudgedClaim(f"{name}/c", name, f"Claim of {name}.", "T", "above", (compared("above", *differences),))
        for name, differences in values.items()
    ]
    axis = forest(judged).axes[0]
    low, high = axis.get_xlim()
    assert -25 < low < high < 25
    texts = {text.get_text() for text in axis.texts}
    assert {"✓ holds", "✓ holds (+80.00)", "✗ does not hold (−296.67)", "? undecided"} <= texts
    at = {
        look: {line.get_xdata()[0] for line in axis.lines if line.get_marker() == look} for look in ("o", "s", "<", ">")
    }
    assert at == {"o": {5.0, high}, "s": {low}, "<": {low}, ">": {high}}


def test_a_row_of_the_plot_is_no_higher_than_a_page_can_bear():
    judged = (compared("above", 1.0, 2.0, 3.0),)
    many = [JudgedClaim(f"p{i % 6}/c{i}", f"P{i % 6}", f"Claim {i}.", "T", "above", judged) for i in range(60)]
    many.sort(key=lambda claim: claim.paper)
    assert forest(many).get_size_inches()[1] < 11
