"""The report: one HTML file with everything that has been made and what is missing. It needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from wsss.files import write_text
from wsss.report.cells import RULE, Raw
from wsss.report.chains import add_chains
from wsss.report.claim_lines import headline, notes, plot_says
from wsss.report.embedding import inline
from wsss.report.filled import ELSEWHERE, FILES, STATES, filled
from wsss.report.forest import forest
from wsss.report.judging import NOT_RUN, VERDICTS, judge_all, tally
from wsss.report.rendering import template
from wsss.report.style import as_svg
from wsss.report.trainings import trainings

if TYPE_CHECKING:
    from wsss.report.drawing import ClaimsDrawing
    from wsss.report.judging import JudgedClaim
    from wsss.report.outline import Made, Page, Paper, Picture

READS = (
    "report/templates/page.html.j2",
    "report/templates/page.css.j2",
    "report/templates/page.js.j2",
    "report/templates/parts.html.j2",
    "report/templates/entry.html.j2",
    "report/templates/style.css.j2",
    "report/templates/claims.css.j2",
    "report/templates/claims_table.html.j2",
    "report/templates/chains.html.j2",
    "report/templates/chains.css.j2",
)
ALL = {"title": "Claims of all papers", "citation": None, "note": None}  # in the place of a paper


def write_page(outline: Raw, out: Path) -> None:
    """Write the report: the claims, what was made, then what could be made.

    Args:
        outline: what the page shows, a ``Page`` (see ``plan.state.page``).
        out: the HTML file. Pictures are part of it, loss curves as SVG, figures as WebP; files and logs are links
            relative to it.
    """
    page = cast("Page", outline)
    entries = [filled(entry, page["stage_words"], out) for entry in page["entries"]]
    add_chains(entries, out)
    papers = _papers(page["papers"], entries)
    content = {
        "dataset": page["dataset"],
        "claims": _claims(page["claims"]),
        "papers": papers,
        "choices": _choices(papers),
        "made": [entry for entry in entries if entry["made"]],
        "waiting": [entry for entry in entries if not entry["made"]],
        "trainings": trainings(entries, page["stage_words"], out),
        "rule": RULE,
        "stage_words": page["stage_words"],
    }
    write_text(out, template("page.html.j2").render(content))


def _papers(papers: dict[str, Paper], entries: list[Made]) -> dict[str, Any]:
    """Return the papers, each with a short name and what was made of it; claims of all papers come first."""
    found = {"": _paper(cast("Paper", ALL), "all papers", "", entries)}
    for name, paper in papers.items():
        short = paper["title"].partition(":")[0]
        found[name] = _paper(paper, short, name, entries)
    return found


def _paper(paper: Paper, short: str, name: str, entries: list[Made]) -> dict[str, Any]:
    """Return one paper.

    Args:
        paper: its texts.
        short: its short name.
        name: its name in the configuration; empty for all papers.
        entries: all entries of the page.
    """
    made = [entry for entry in entries if entry["made"] and entry["paper"] == name]
    return {**paper, "short": short, "entries": made}


def _choices(papers: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return what the filter offers: by paper, kind and state, each a value and its word."""
    states = {state: state for state in (*STATES, ELSEWHERE)}
    states["needs"] = "needs runs"
    return {
        "paper": [(name, paper["short"]) for name, paper in papers.items() if name],
        "kind": [(kind, kind) for kind in FILES],
        "state": list(states.items()),
    }


def _claims(drawing: ClaimsDrawing) -> dict[str, Any]:
    """Return the opening of the page: the number of claims by verdict, a forest plot, a line for each claim."""
    judged = judge_all(drawing)
    ordered = sorted(judged, key=lambda one: VERDICTS.index(one.verdict))
    lines = list(map(headline, ordered))
    return {
        "tally": tally([one.verdict for one in judged]),
        "judged": [line for line in lines if line.key != NOT_RUN],
        "not_run": [line for line in lines if line.key == NOT_RUN],
        "plot": _plot([one for one in judged if one.verdict != NOT_RUN]),
        "notes": notes(drawing, judged),
    }


def _plot(judged: list[JudgedClaim]) -> Picture | None:
    """Draw the claims that were judged; nothing where there are none."""
    if not judged:
        return None
    data = inline(as_svg(lambda: forest(judged)).data, "svg+xml")
    return {"data": data, "says": plot_says(judged), "whole": "", "drawn": True}
