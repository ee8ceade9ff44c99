"""The report: one HTML file with everything that has been made and what is missing. It needs no network."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from PIL import Image

from wsss.errors import WsssError
from wsss.files import write_text
from wsss.provenance.state import content_digest
from wsss.report import words
from wsss.report.cells import MARKS, RULE, Raw
from wsss.report.chains import add_chains
from wsss.report.claims import headline, notes
from wsss.report.embedding import inline, links
from wsss.report.forest import forest
from wsss.report.judging import NOT_RUN, VERDICTS, in_words, judge_all, tally
from wsss.report.reading import is_shown
from wsss.report.rendering import template
from wsss.report.style import as_svg
from wsss.report.trainings import trainings

if TYPE_CHECKING:
    from wsss.report.drawing import ClaimsDrawing
    from wsss.report.outline import Entry, Made, Page, Protocol

READS = (
    "report/templates/page.html.j2",
    "report/templates/style.css.j2",
    "report/templates/claims.css.j2",
    "report/templates/claims_table.html.j2",
    "report/templates/chains.html.j2",
    "report/templates/chains.css.j2",
)
OF_TABLES, OF_FIGURES = ("table.csv", "table.md", "table.tex"), ("figure.pdf", "figure.png")
FILES = {"tables": OF_TABLES, "figures": OF_FIGURES, "claims": OF_TABLES + OF_FIGURES}


def write_page(outline: Raw, out: Path) -> None:
    """Write the report: the claims, the state of every target, then each of them.

    Args:
        outline: what the page shows, a ``Page`` (see ``plan.state.page``).
        out: the HTML file. Pictures are part of it, loss curves as SVG, figures as WebP; files and logs are links
            relative to it.
    """
    page = cast("Page", outline)
    entries = [_filled(entry, page["stage_words"], out) for entry in page["entries"]]
    add_chains(entries, out)
    papers = {}
    own = {"title": "Claims of all papers", "citation": None, "note": None}
    for name, paper in {"": own, **page["papers"]}.items():
        papers[name] = {**paper, "entries": [entry for entry in entries if entry["paper"] == name]}
    content = {
        "dataset": page["dataset"],
        "claims": _claims(page["claims"]),
        "papers": papers,
        "trainings": trainings(entries, page["stage_words"], out),
        "rule": RULE,
        "stage_words": page["stage_words"],
        "made": sum(entry["made"] for entry in entries),
        "all": len(entries),
    }
    write_text(out, template("page.html.j2").render(content))


def _claims(drawing: ClaimsDrawing) -> dict[str, Any]:
    """Return the opening of the page: the number of claims by verdict, a forest plot, a line for each claim."""
    judged = judge_all(drawing)
    lines = [(verdict, [headline(one) for one in judged if one.verdict == verdict]) for verdict in VERDICTS]
    shown = [one for one in judged if one.verdict != NOT_RUN]
    return {
        "tally": tally([one.verdict for one in judged]),
        "groups": [(verdict, of) for verdict, of in lines if of],
        "plot": inline(as_svg(lambda: forest(shown)), "svg+xml") if shown else "",
        "notes": notes(drawing, judged),
    }


def _filled(entry: Entry, stage_words: dict[str, str], out: Path) -> Made:
    """Add what was made of an entry: the table's HTML and verdicts, or the figure as data.

    Args:
        entry: the entry.
        stage_words: words for the result of each stage.
        out: the page.
    """
    folder = Path(entry["folder"])
    made = is_shown(entry)
    found: Made = {**entry, "made": made, "verdicts": "", "protocol": []}
    if not made:
        return found
    files = [folder / name for name in (*FILES[entry["kind"]], "config.yaml", "record.json")]
    found["files"] = links([*files, Path(entry["log"])], out)
    found["digest"] = content_digest(folder / "record.json")
    if entry["kind"] != "tables":
        found["picture"] = _smaller(folder / "figure.png")
    if entry["kind"] == "figures":
        found["datasets"] = list(dict.fromkeys(run["dataset"] for run in entry["runs"]))
    elif entry["kind"] == "claims":
        _add_claims(found, folder)
    else:
        _add_table(found, folder, stage_words)
    return found


def _main_of(source: Path) -> str:
    """Return the part of a table's HTML that the page shows.

    Raises:
        WsssError: the HTML is not of this version.
    """
    found = re.search(r"<main>(.*)</main>", source.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise WsssError(f"{source}: not a table of this version; delete it and make it again")
    return found[1]


def _add_claims(entry: Made, folder: Path) -> None:
    """Add the HTML of claims, and how many have each verdict."""
    entry["table"] = _main_of(folder / "table.html")
    verdicts = pd.read_csv(folder / "table.csv").drop_duplicates("claim")["claim_verdict"]
    entry["verdicts"] = in_words(list(verdicts))


def _add_table(entry: Made, folder: Path, stage_words: dict[str, str]) -> None:
    """Add a table's HTML, and its verdicts and protocol from its CSV."""
    with (folder / "table.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    entry["table"] = _main_of(folder / "table.html")
    entry["verdicts"] = verdicts(cells)
    entry["protocol"] = [_measured(cell, stage_words) for cell in cells if cell["ours"]]
    entry["worded"] = any(cell["attributes"] for cell in entry["protocol"])


def verdicts(cells: list[dict[str, str]]) -> str:
    """Count how the cells of a table that were computed came out, in words: ``3 reproduced, 1 not``."""
    counted = Counter(cell["verdict"].partition(":")[0] for cell in cells if cell["ours"])
    if set(counted) == {"not reported"}:
        return f"{counted.total()} values, none reported to compare with"
    order = [*MARKS, *(name for name in counted if name not in MARKS)]
    return ", ".join(f"{counted[name]} {name}" for name in order if counted[name]) or "nothing could be computed"


def _measured(cell: dict[str, str], stage_words: dict[str, str]) -> Protocol:
    """Say how a cell was measured: run, stage, images, operating point."""
    return {
        "row": cell["row"],
        "attributes": cell["attributes"],
        "column": cell["column"],
        "run": cell["run"],
        "result": stage_words[cell["stage"]],
        "metric": words.metric(cell["metric"], cell["class"]),
        "images": words.IMAGES[cell["images"]],
        "points": words.points(cell["points"]),
    }


def _smaller(source: Path) -> str:
    """Turn a figure into inline WebP."""
    buffer = io.BytesIO()
    Image.open(source).convert("RGB").save(buffer, format="WEBP", quality=90)
    return inline(buffer.getvalue(), "webp")
