"""The report: one HTML file with everything that has been made and what is missing. It needs no network."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from wsss.errors import WsssError
from wsss.files import sha256, write_text
from wsss.report.cells import RULE
from wsss.report.layout import MARKS
from wsss.report.tables import template

SHOWN = {"tables": "table.html", "figures": "figure.png"}
POINTS = 120  # of a loss curve


def write_page(plan: dict, out: Path) -> None:
    """Write the report that ``plan.state.page`` outlines to ``out``: the state of every table, then each of them.

    Args:
        plan: ``dataset``, ``papers`` (name -> title, citation, note) and ``entries``, see ``plan.state.entries``.
        out: the HTML file. Pictures are part of it, loss curves as SVG, figures as WebP.
    """
    entries = [_filled(entry) for entry in plan["entries"]]
    papers = {
        name: {**paper, "entries": [entry for entry in entries if entry["paper"] == name]}
        for name, paper in plan["papers"].items()
    }
    content = {"dataset": plan["dataset"], "papers": papers, "trainings": _trainings(entries), "rule": RULE}
    write_text(out, template("page.html.j2").render(content))


def _filled(entry: dict) -> dict:
    """The entry with what was made of it: the table's HTML and verdicts, or the figure as data."""
    folder = Path(entry["folder"])
    source = folder / SHOWN[entry["kind"]]
    made = source.is_file() and entry["state"].startswith(("made", "stale"))
    entry = {**entry, "made": made, "verdicts": "", "protocol": []}
    if not made:
        return entry
    entry["digest"] = sha256(folder / "record.json")[:12] if (folder / "record.json").is_file() else ""
    if entry["kind"] == "figures":
        return {**entry, "picture": _smaller(source)}
    found = re.search(r"<main>(.*)</main>", source.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise WsssError(f"{source}: not a table of this version; delete it and make it again")
    with (folder / "table.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    return {**entry, "table": found[1], "verdicts": verdicts(cells), "protocol": _protocol(cells)}


def verdicts(cells: list[dict]) -> str:
    """How the cells of a table that were run came out, as words: ``3 reproduced, 1 not``."""
    ran = [cell["verdict"].partition(":")[0] for cell in cells if cell["ours"]]
    counted = Counter(ran)
    order = [*MARKS, *(name for name in counted if name not in MARKS)]
    return ", ".join(f"{counted[name]} {name}" for name in order if counted[name]) or "nothing to compare"


def _protocol(cells: list[dict]) -> list[dict]:
    """How each cell was measured: run, stage, images, operating point."""
    keys = ("row", "column", "run", "stage", "metric", "split", "points")
    return [{key: cell[key] for key in keys} for cell in cells if cell["ours"]]


def _trainings(entries: list[dict]) -> list[dict]:
    """The trainings below what has been made, each with the runs that share it and its loss curves (first seed)."""
    found: dict[str, dict] = {}
    for run in (run for entry in entries if entry["made"] for run in entry["runs"]):
        training = found.setdefault(run["trainings"][0], {**run, "runs": []})
        if run["run"] not in training["runs"]:
            training["runs"].append(run["run"])
    return [{**training, "folder": folder, "losses": _losses(folder)} for folder, training in found.items()]


def _losses(folder: str) -> str:
    """Loss curves, one per term, as an inline SVG; empty if there is no log."""
    path = Path(folder) / "losses.csv"
    if not path.is_file():
        return ""
    terms: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            terms.setdefault(f"{row['phase']}: {row['term']}", []).append((float(row["step"]), float(row["value"])))
    if not terms:  # official weights
        return ""
    figure, axis = plt.subplots(figsize=(5, 1.8))
    for name, curve in terms.items():
        parts = np.array_split(np.array(curve), min(POINTS, len(curve)))  # each point the mean of its part
        axis.plot(*np.array([part.mean(0) for part in parts]).T, label=name, linewidth=1)
    axis.set_xlabel("step", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return _inline(buffer.getvalue(), "svg+xml")


def _smaller(source: Path) -> str:
    buffer = io.BytesIO()
    Image.open(source).convert("RGB").save(buffer, format="WEBP", quality=90)
    return _inline(buffer.getvalue(), "webp")


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
