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
ALL = {  # in the place of a paper
    "title": "Claims of all papers",
    "citation": None,
    "note": None,
}


def write_page(outline: Raw, out: Path) -> None:
    """Write the report: the claims, what was made, then what could be made.

    Args:
        outline: what the page shows, a ``Page`` (see ``plan.state.page``).
        out: the HTML file. Pictures are part of it, loss curves as SVG, figures as WebP; files and logs are links
            relative to it.
    """
    page = cast("Page", outline)
    stage_words = page["stage_words"]
    entries = [filled(entry, stage_words, out) for entry in page["entries"]]
    add_chains(entries, out)
    papers = _papers(page["papers"], entries)
    content = {
        "dataset": page["dataset"],
        "claims": _claims(page["claims"]),
        "papers": papers,
        "choices": _choices(papers),
        "made": [entry for entry in entries if entry["made"]],
        "waiting": [entry for entry in entries if not entry["made"]],
        "trainings": trainings(entries, stage_words, out),
        "rule": RULE,
        "stage_words": stage_words,
    }
    text = template("page.html.j2").render(content)
    write_text(out, text)


def _papers(papers: dict[str, Paper], entries: list[Made]) -> dict[str, Any]:
    """Return the papers, each with a short name and what was made of it; claims of all papers come first."""
    of_all = cast("Paper", ALL)
    found = {"": _paper(of_all, "all papers", "", entries)}
    for name, paper in papers.items():
        short, _, _ = paper["title"].partition(":")
        found[name] = _paper(paper, short, name, entries)
    return found


def _paper(
    paper: Paper,
    short: str,
    name: str,
    entries: list[Made],
) -> dict[str, Any]:
    """Return one paper.

    Args:
        paper: its texts.
        short: its short name.
        name: its name in the configuration; empty for all papers.
        entries: all entries of the page.
    """
    own = [entry for entry in entries if entry["paper"] == name]
    made = [entry for entry in own if entry["made"]]
    return {**paper, "short": short, "entries": made}


def _choices(papers: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return what the filter offers: by paper, kind and state, each a value and its word."""
    shorts = [(name, paper["short"]) for name, paper in papers.items() if name]
    states = {state: state for state in (*STATES, ELSEWHERE)}
    states["needs"] = "needs runs"
    return {
        "paper": shorts,
        "kind": [(kind, kind) for kind in FILES],
        "state": list(states.items()),
    }


def _claims(drawing: ClaimsDrawing) -> dict[str, Any]:
    """Return the opening of the page: the number of claims by verdict, a forest plot, a line for each claim."""
    claims = judge_all(drawing)
    verdicts = [claim.verdict for claim in claims]
    run = [claim for claim in claims if claim.verdict != NOT_RUN]
    not_run = [claim for claim in claims if claim.verdict == NOT_RUN]
    run_in_order = sorted(run, key=lambda claim: VERDICTS.index(claim.verdict))
    return {
        "tally": tally(verdicts),
        "judged": list(map(headline, run_in_order)),
        "not_run": list(map(headline, not_run)),
        "plot": _plot(run),
        "notes": notes(drawing, claims),
    }


def _plot(judged: list[JudgedClaim]) -> Picture | None:
    """Draw the claims that were judged; nothing where there are none."""
    if not judged:
        return None
    drawn = as_svg(lambda: forest(judged))
    return {
        "data": inline(drawn.data, "svg+xml"),
        "says": plot_says(judged),
        "whole": "",
        "drawn": True,
    }
