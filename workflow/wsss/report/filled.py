"""What was made of the entries of the report page: a table's HTML and verdicts, a figure as data and in words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from wsss.errors import WsssError
from wsss.files import read_json
from wsss.provenance.state import content_digest
from wsss.report import words
from wsss.report.badges import WORDS
from wsss.report.cells import MARKS
from wsss.report.embedding import links, webp
from wsss.report.judging import in_words
from wsss.report.reading import is_shown, read_csv

if TYPE_CHECKING:
    from wsss.report.outline import Entry, Made, Picture, Protocol

OF_TABLES = ("table.csv", "table.md", "table.tex")
OF_FIGURES = ("figure.pdf", "figure.png")
FILES = {
    "tables": OF_TABLES,
    "figures": OF_FIGURES,
    "claims": OF_TABLES + OF_FIGURES,
}
STATES = ("made", "stale", "ready to be drawn", "needs")  # how the text of a state begins
ELSEWHERE = "not on this data set"  # the word for all other states


def filled(entry: Entry, stage_words: dict[str, str], out: Path) -> Made:
    """Add what was made of an entry: the table's HTML and verdicts, or the figure as data.

    Args:
        entry: the entry.
        stage_words: words for the result of each stage.
        out: the page.
    """
    found: Made = {
        **entry,
        "made": is_shown(entry),
        "kept": kept(entry["state"]),
        "verdicts": "",
        "protocol": [],
    }
    if not found["made"]:
        return found
    kind = entry["kind"]
    folder = Path(entry["folder"])
    found["files"] = links(_files(entry), out)
    found["digest"] = content_digest(folder / "record.json")
    if kind != "tables":
        found["picture"] = _picture(entry, out)
    if kind == "figures":
        found["datasets"] = _datasets(entry)
    elif kind == "claims":
        _add_claims(found, folder)
    else:
        _add_table(found, folder, stage_words)
    return found


def _datasets(entry: Entry) -> list[str]:
    """List the data sets of the runs that an entry rests on, each once."""
    names = [run["dataset"] for run in entry["runs"]]
    return list(dict.fromkeys(names))


def _files(entry: Entry) -> list[Path]:
    """List the files that the page links to."""
    folder = Path(entry["folder"])
    names = (*FILES[entry["kind"]], "config.yaml", "record.json")
    found = [folder / name for name in names]
    log = Path(entry["log"])
    return [*found, log]


def kept(state: str) -> str:
    """Return the state in a word: one of ``STATES``, or ``ELSEWHERE``."""
    for word in STATES:
        if state.startswith(word):
            return word
    return ELSEWHERE


# ---- tables


def _main_of(source: Path) -> str:
    """Return the part of a table's HTML that the page shows.

    Raises:
        WsssError: the HTML is not of this version.
    """
    text = source.read_text(encoding="utf-8")
    found = re.search(r"<main>(.*)</main>", text, re.DOTALL)
    if found is None:
        raise WsssError(f"{source}: not a table of this version; delete it and make it again")
    return found[1]


def _add_claims(entry: Made, folder: Path) -> None:
    """Add the HTML of claims, and how many have each verdict."""
    entry["table"] = _main_of(folder / "table.html")
    found: dict[str, str] = {}
    for line in read_csv(folder / "table.csv"):
        claim = line["claim"]
        found[claim] = line["claim_verdict"]
    verdicts = list(found.values())
    entry["verdicts"] = in_words(verdicts)


def _add_table(entry: Made, folder: Path, stage_words: dict[str, str]) -> None:
    """Add a table's HTML, and its verdicts and protocol from its CSV."""
    cells = read_csv(folder / "table.csv")
    computed = [cell for cell in cells if cell["ours"]]
    entry["table"] = _main_of(folder / "table.html")
    entry["verdicts"] = verdicts(cells)
    entry["protocol"] = [_measured(cell, stage_words) for cell in computed]
    entry["worded"] = any(cell["attributes"] for cell in computed)


def verdicts(cells: list[dict[str, str]]) -> str:
    """Count how the cells of a table that were computed came out, in words: ``3 reproduced, 1 not reproduced``."""
    computed = [cell["verdict"] for cell in cells if cell["ours"]]
    counted = Counter(map(_kind, computed))
    if set(counted) == {"not reported"}:
        return f"{counted.total()} values, none reported to compare with"
    texts = []
    for name in dict.fromkeys([*MARKS, *counted]):
        number = counted[name]
        if number:
            word = WORDS.get(name, name)
            texts.append(f"{number} {word}")
    return ", ".join(texts) or "nothing could be computed"


def _kind(verdict: str) -> str:
    """Return a verdict without the reason behind it."""
    kind, _, _ = verdict.partition(":")
    return kind


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


# ---- figures


def _picture(entry: Entry, out: Path) -> Picture:
    """Read a figure: its picture, what it says of itself, and where its whole is."""
    folder = Path(entry["folder"])
    with Image.open(folder / "figure.png") as image:
        says = str(image.info.get("Description", ""))
        data = webp(image)
    record = read_json(folder / "record.json")
    drawing = record.get("config") or {}
    whole = links([folder / "figure.pdf"], out)
    text = says or entry["caption"]
    return {
        "data": data,
        "says": f"{entry['title']}. {text}",
        "whole": whole.get("figure.pdf", ""),
        "drawn": drawing.get("kind") != "grid",
    }
