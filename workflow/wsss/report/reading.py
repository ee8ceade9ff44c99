"""The files that the report page reads: its record lists all that the page holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from wsss.provenance.state import changed_output, content_digest
from wsss.report.cells import Raw

if TYPE_CHECKING:
    from wsss.report.outline import Entry, Page, Run

OF_TABLES = ("record.json", "table.csv", "table.html")
READ = {"tables": OF_TABLES, "figures": ("record.json", "figure.png"), "claims": (*OF_TABLES, "figure.png")}
MADE = ("made", "stale")  # states of what is there


def is_shown(entry: Entry) -> bool:
    """Tell whether the page shows an entry: it is there, and as its record says."""
    record = Path(entry["folder"], "record.json")
    return entry["state"].startswith(MADE) and content_digest(record) != "" and changed_output(record) is None


def files_read(outline: Raw) -> list[str]:
    """Return the files whose contents are part of the page.

    They are tables, pictures, their records, loss logs, ends of logs, and the metrics that the claims are judged by.

    Args:
        outline: what the page shows, a ``Page`` (see ``plan.state.page``).
    """
    found: dict[str, None] = {}
    page = cast("Page", outline)
    for entry in page["entries"]:
        if not is_shown(entry):
            continue
        found |= dict.fromkeys(str(Path(entry["folder"], name)) for name in READ[entry["kind"]])
        for run in entry["runs"]:
            found |= dict.fromkeys(_of_trainings(run))
    for row in page["claims"]["rows"]:
        for cell in row["cells"]:
            found |= dict.fromkeys(cell.get("metrics", []))
    return list(found)


def _of_trainings(run: Run) -> list[str]:
    """Return the loss logs of a run's trained networks, and their logs where there are any."""
    found: list[str] = []
    for folder in run["networks"]:
        losses = Path(folder, "losses.csv")
        if losses.is_file():
            found += [str(path) for path in (losses, log_of(folder)) if path.is_file()]
    return found


def log_of(folder: str) -> Path:
    """Return the log of a training by its folder, ``.../<dataset>/<paper>/<run>/<seed>/<stage>``."""
    *place, dataset, paper, run, seed, stage = Path(folder).parts
    return Path(*place, "logs", dataset, paper, run, seed, f"{stage}.log")
