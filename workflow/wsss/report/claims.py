"""Claims, judged: as CSV, Markdown, LaTeX (longtable) and HTML, and as a forest plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wsss.files import write_text
from wsss.report.drawing import ClaimsDrawing
from wsss.report.forest import forest
from wsss.report.judging import MARKS, NOT_RUN, RULE, VERDICTS, Judged, JudgedClaim, in_words, judge_all, printed, tally
from wsss.report.notes import selection
from wsss.report.rendering import template
from wsss.report.style import write_figure

READS = (
    "report/templates/claims.md.j2",
    "report/templates/claims.tex.j2",
    "report/templates/claims.html.j2",
    "report/templates/claims_table.html.j2",
    "report/templates/claims.css.j2",
    "report/templates/style.css.j2",
)
NONE = "–"
RATIOS = ("under", "over")  # metrics that are no percentage


@dataclass(frozen=True)
class Line:
    """A line of the table of claims: a claim (``says``), or one of its several comparisons.

    Args:
        says: the sentence of the claim; empty for a comparison of it.
        compared: what is compared.
        verdict: mark and word.
        reported, ours, interval, seeds: numbers as texts.
        source: where the claim stands.
        key: the verdict, by which it is coloured.
    """

    says: str
    compared: str
    verdict: str
    reported: str = ""
    ours: str = ""
    interval: str = ""
    seeds: str = ""
    source: str = ""
    key: str = ""


def write_claims(drawing: ClaimsDrawing, out_dir: Path) -> None:
    """Judge the claims of a drawing (``plan.claims.drawing``) and write table and forest plot into ``out_dir``."""
    judged = judge_all(drawing)
    content = {
        "drawing": drawing,
        "groups": grouped(judged),
        "tally": tally([claim.verdict for claim in judged]),
        "words": in_words([claim.verdict for claim in judged]),
        "notes": notes(drawing, judged),
    }
    write_text(Path(out_dir) / "table.csv", frame(drawing, judged).to_csv(index=False, lineterminator="\n"))
    for name in ("md", "tex", "html"):
        write_text(Path(out_dir) / f"table.{name}", template(f"claims.{name}.j2").render(content))
    write_figure(lambda: forest(judged), Path(out_dir))


def frame(drawing: ClaimsDrawing, judged: list[JudgedClaim]) -> pd.DataFrame:
    """Return one line per comparison: the claim, the two sides, the numbers as they are printed, the files."""
    lines = []
    rows = iter(drawing["rows"])
    for claim in judged:
        for one in claim.comparisons:
            cells = next(rows)["cells"]
            first = cells[0]
            lines.append(
                {
                    "claim": claim.name,
                    "paper": claim.paper,
                    "says": claim.says,
                    "source": claim.source,
                    "direction": claim.direction,
                    **printed(claim, one),
                    "first": f"{cells[0]['run']} {cells[0]['stage']}",
                    "second": f"{cells[1]['run']} {cells[1]['stage']}",
                    **{key: first.get(key, "") for key in ("metric", "class", "images")},
                    "at": "; ".join(cell["at"] for cell in cells),
                    "metrics": "; ".join(path for cell in cells for path in cell.get("metrics", [])),
                }
            )
    return pd.DataFrame(lines)


# ---- texts


def grouped(judged: list[JudgedClaim]) -> list[tuple[str, list[Line]]]:
    """(verdict, lines) of every verdict that claims have, in one order; each is laid out alike."""
    found = []
    for verdict in VERDICTS:
        lines = [line for claim in judged if claim.verdict == verdict for line in lines_of(claim)]
        if lines:
            found.append((verdict, lines))
    return found


def lines_of(claim: JudgedClaim) -> list[Line]:
    """Return the lines of a claim: one, or where it has several comparisons one for it and one for each."""
    source = f"{claim.paper}, {claim.source}"
    mark = f"{MARKS[claim.verdict]} {claim.verdict}"
    if len(claim.comparisons) == 1:
        one = claim.comparisons[0]
        return [Line(claim.says, _compared(one), mark, *_numbers(one), source, claim.verdict)]
    found = [Line(claim.says, "", mark, source=source, key=claim.verdict)]
    for one in claim.comparisons:
        found.append(Line("", _compared(one), f"{MARKS[one.verdict]} {one.verdict}", *_numbers(one), key=one.verdict))
    return found


def headline(claim: JudgedClaim) -> Line:
    """Return a claim in one line: of several comparisons the one that decides."""
    one, number = claim.weakest, len(claim.comparisons)
    which = f"{_compared(one)}, weakest of {number}" if number > 1 and not one.missing else _compared(one)
    mark = f"{MARKS[claim.verdict]} {claim.verdict}"
    return Line(claim.says, which, mark, *_numbers(one), f"{claim.paper}, {claim.source}", claim.verdict)


def _compared(one: Judged) -> str:
    text = one.label.replace(" - ", " − ")
    return f"{text} ({one.missing})" if one.missing else text


def _numbers(one: Judged) -> tuple[str, str, str, str]:
    interval = NONE if one.interval is None else f"{signed(one.interval[0])} to {signed(one.interval[1])}"
    seeds = str(len(one.differences)) if one.differences else NONE
    return signed(one.reported), signed(one.mean), interval, seeds


def signed(value: float | None) -> str:
    """Write a difference in points: ``+2.47``."""
    return NONE if value is None else f"{value:+.2f}".replace("-", "−")


def notes(drawing: ClaimsDrawing, judged: list[JudgedClaim]) -> list[str]:
    """List the sentences that a reader needs beside the numbers."""
    seeds = sorted({len(one.differences) for claim in judged for one in claim.comparisons} - {0})
    made = (
        f"Ours: data set {drawing['dataset']}, {' or '.join(map(str, seeds))} seed{'s' if seeds[-1:] != [1] else ''}."
    )
    computed = [cell for row in drawing["rows"] for cell in row["cells"] if cell.get("metrics")]
    found = [made + selection(computed) if seeds else "Ours: no claim can be judged here."]
    if any(cell["metric"] in RATIOS for cell in computed):
        found.append("Under- and over-activation: missed, or wrongly found, pixels per hundred rightly found ones.")
    if seeds and drawing.get("dataset_note"):
        found.append(str(drawing["dataset_note"]))
    found.append(f"Rule: {RULE}.")
    if any(claim.verdict == NOT_RUN for claim in judged):
        found.append("Not run: at least one comparison could not be made; the reason stands beside it.")
    return found
