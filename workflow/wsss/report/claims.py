"""Claims, judged: as CSV, Markdown, LaTeX (longtable) and HTML, and as a forest plot."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from wsss.files import write_text
from wsss.report.alone import write_alone
from wsss.report.claim_lines import grouped, notes, plot_says
from wsss.report.drawing import CellSpec, ClaimsDrawing
from wsss.report.forest import forest
from wsss.report.judging import Judged, JudgedClaim, in_words, judge_all, printed, tally
from wsss.report.rendering import template
from wsss.report.style import write_figure

READS = (
    "report/templates/claims.md.j2",
    "report/templates/claims.tex.j2",
    "report/templates/claims.html.j2",
    "report/templates/claims_table.html.j2",
    "report/templates/parts.html.j2",
    "report/templates/claims.css.j2",
    "report/templates/style.css.j2",
)


def write_claims(drawing: ClaimsDrawing, out_dir: Path) -> None:
    """Judge the claims of a drawing (``plan.claims.drawing``) and write table and forest plot into ``out_dir``."""
    out_dir = Path(out_dir)
    judged = judge_all(drawing)
    write_text(out_dir / "table.csv", frame(drawing, judged).to_csv(index=False, lineterminator="\n"))
    content = _content(drawing, judged)
    for name in ("md", "tex", "html"):
        text = template(f"claims.{name}.j2").render(content)
        write_text(out_dir / f"table.{name}", text)
    says = write_figure(lambda: forest(judged), out_dir, plot_says(judged))
    write_alone(drawing["title"], drawing["caption"], says, out_dir)


def _content(drawing: ClaimsDrawing, judged: list[JudgedClaim]) -> dict[str, Any]:
    """Return what the templates print."""
    groups = grouped(judged)
    verdicts = [claim.verdict for claim in judged]
    return {
        "drawing": drawing,
        "groups": groups,
        "lines": list(chain.from_iterable(lines for _, lines in groups)),
        "tally": tally(verdicts),
        "words": in_words(verdicts),
        "notes": notes(drawing, judged),
    }


def frame(drawing: ClaimsDrawing, judged: list[JudgedClaim]) -> pd.DataFrame:
    """Return one line per comparison: the claim, the two sides, the numbers as they are printed, the files."""
    rows = iter(drawing["rows"])
    lines = []
    for claim in judged:
        for one in claim.comparisons:
            sides = next(rows)["cells"]
            lines.append(_record(claim, one, sides))
    return pd.DataFrame(lines)


def _record(claim: JudgedClaim, one: Judged, sides: list[CellSpec]) -> dict[str, str]:
    """Return the line of a comparison in the CSV file."""
    first, second = sides
    files = [*first.get("metrics", []), *second.get("metrics", [])]
    return {
        "claim": claim.name,
        "paper": claim.paper,
        "says": claim.says,
        "source": claim.source,
        "direction": claim.direction,
        **printed(claim, one),
        "first": f"{first['run']} {first['stage']}",
        "second": f"{second['run']} {second['stage']}",
        "metric": first.get("metric", ""),
        "class": first.get("class", ""),
        "images": first.get("images", ""),
        "at": f"{first['at']}; {second['at']}",
        "metrics": "; ".join(files),
    }
