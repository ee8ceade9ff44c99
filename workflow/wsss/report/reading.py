"""The files that the report page reads and its record lists.

The chain of a number is read from records below it. The page's record does not list these: each listed record holds the
digests of those that it rests on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wsss.provenance.state import changed_output, content_digest
from wsss.report.cells import Raw

if TYPE_CHECKING:
    from wsss.report.outline import Entry, Page

READ = {  # kind of entry -> its files that the page holds
    "tables": ("record.json", "table.csv", "table.html"),
    "figures": ("record.json", "figure.png"),
    "claims": ("record.json", "table.csv", "table.html", "figure.png"),
}
MADE = ("made", "stale")  # states of what is there


def is_shown(entry: Entry) -> bool:
    """Tell whether the page shows an entry: its files exist and match its record."""
    if not entry["state"].startswith(MADE):
        return False
    record = Path(entry["folder"], "record.json")
    return content_digest(record) != "" and changed_output(record) is None


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a line of heads."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def files_read(outline: Raw) -> list[str]:
    """Return the files whose contents are part of the page, without the records behind the chains of numbers.

    They are tables, pictures, their records, loss logs, ends of logs, and the metrics that the claims are judged by.

    Args:
        outline: what the page shows, a ``Page`` (see ``plan.state.page``).
    """
    page = cast("Page", outline)
    files: list[str] = []
    for entry in page["entries"]:
        if is_shown(entry):
            files += _of_entry(entry)
    for row in page["claims"]["rows"]:
        for cell in row["cells"]:
            files += cell.get("metrics", [])
    return list(dict.fromkeys(files))


def _of_entry(entry: Entry) -> Iterator[str]:
    """Yield the files of what was made of an entry, and of the trainings below it."""
    made = Path(entry["folder"])
    for name in READ[entry["kind"]]:
        yield str(made / name)
    for run in entry["runs"]:
        for folder in run["networks"]:
            yield from _of_training(folder)


def _of_training(folder: str) -> Iterator[str]:
    """Yield the loss log of a trained network, and its log if there is one; nothing where there are no losses."""
    losses = Path(folder, "losses.csv")
    if not losses.is_file():
        return
    yield str(losses)
    log = log_of(folder)
    if log.is_file():
        yield str(log)


def log_of(folder: str) -> Path:
    """Return the log of a training by its folder, ``.../<dataset>/<paper>/<run>/<seed>/<stage>``."""
    *place, dataset, paper, run, seed, stage = Path(folder).parts
    logs = Path(*place, "logs")
    return logs / dataset / paper / run / seed / f"{stage}.log"
