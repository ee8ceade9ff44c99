"""The report: one HTML file with everything that has been made and what is missing. It needs no network."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from wsss.errors import WsssError
from wsss.files import sha256, write_text
from wsss.report import words
from wsss.report.cells import RULE
from wsss.report.layout import MARKS
from wsss.report.style import STYLE
from wsss.report.tables import template

SHOWN = {"tables": "table.html", "figures": "figure.png"}
FILES = {"tables": ("table.csv", "table.md", "table.tex"), "figures": ("figure.pdf", "figure.png")}
NETWORKS = {"train": "classifier", "affinity": "AffinityNet", "irnet": "IRNet", "deeplab": "DeepLab"}
POINTS = 120  # of a loss curve
LAST = 12  # lines of a log that are part of the page


def write_page(plan: dict, out: Path) -> None:
    """Write the report that ``plan.state.page`` outlines to ``out``: the state of every table, then each of them.

    Args:
        plan: ``dataset``, ``papers`` (name -> title, citation, note) and ``entries``, see ``plan.state.entries``.
        out: the HTML file. Pictures are part of it, loss curves as SVG, figures as WebP; files and logs are links
            relative to it.
    """
    entries = [_filled(entry, out) for entry in plan["entries"]]
    papers = {
        name: {**paper, "entries": [entry for entry in entries if entry["paper"] == name]}
        for name, paper in plan["papers"].items()
    }
    content = {"dataset": plan["dataset"], "papers": papers, "trainings": _trainings(entries, out), "rule": RULE}
    content["made"], content["all"] = sum(entry["made"] for entry in entries), len(entries)
    write_text(out, template("page.html.j2").render(content))


def _filled(entry: dict, out: Path) -> dict:
    """The entry with what was made of it: the table's HTML and verdicts, or the figure as data."""
    folder = Path(entry["folder"])
    source = folder / SHOWN[entry["kind"]]
    made = source.is_file() and entry["state"].startswith(("made", "stale"))
    entry = {**entry, "made": made, "verdicts": "", "protocol": []}
    if not made:
        return entry
    files = [folder / name for name in (*FILES[entry["kind"]], "config.yaml", "record.json")]
    entry["files"] = _links([*files, Path(entry["log"])], out)
    entry["digest"] = sha256(folder / "record.json")[:12] if (folder / "record.json").is_file() else ""
    if entry["kind"] == "figures":
        datasets = list(dict.fromkeys(run["dataset"] for run in entry["runs"]))
        return {**entry, "picture": _smaller(source), "datasets": datasets}
    found = re.search(r"<main>(.*)</main>", source.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise WsssError(f"{source}: not a table of this version; delete it and make it again")
    with (folder / "table.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    protocol = _protocol(cells)
    worded = any(cell["attributes"] for cell in protocol)
    return {**entry, "table": found[1], "verdicts": verdicts(cells), "protocol": protocol, "worded": worded}


def verdicts(cells: list[dict]) -> str:
    """How the cells of a table that were computed came out, as words: ``3 reproduced, 1 not``."""
    counted = Counter(cell["verdict"].partition(":")[0] for cell in cells if cell["ours"])
    if set(counted) == {"not reported"}:
        return f"{counted.total()} values, none reported to compare with"
    order = [*MARKS, *(name for name in counted if name not in MARKS)]
    return ", ".join(f"{counted[name]} {name}" for name in order if counted[name]) or "nothing could be computed"


def _protocol(cells: list[dict]) -> list[dict]:
    """How each cell was measured: run, stage, images, operating point."""
    return [
        {
            **{key: cell[key] for key in ("row", "attributes", "column", "run")},
            "result": words.STAGES[cell["stage"]],
            "metric": words.metric(cell["metric"], cell["class"]),
            "images": words.IMAGES[cell["split"]],
            "points": words.points(cell["points"]),
        }
        for cell in cells
        if cell["ours"]
    ]


def _trainings(entries: list[dict], out: Path) -> list[dict]:
    """The networks below what has been made: the runs whose own each is, its loss curves (first seed), files, logs."""
    found: dict[str, dict] = {}
    for run in (run for entry in entries if entry["made"] for run in entry["runs"]):
        for folder, network in run["networks"].items():
            if not Path(folder, "losses.csv").is_file():
                continue
            about = {**network, "what": NETWORKS[network["stage"]], "dataset": run["dataset"], "seeds": run["seeds"]}
            training = found.setdefault(folder, {**about, "runs": {}})
            if network["own"]:
                training["runs"][run["run"]] = run["logs"]
    first = {}  # a run's name leads to the first network that is its own
    for folder, training in found.items():
        for run in training["runs"]:
            first.setdefault((training["dataset"], run), folder)
    for folder, training in found.items():
        training["anchors"] = [run for run in training["runs"] if first[training["dataset"], run] == folder]
    return [_training(Path(folder), training, out) for folder, training in found.items()]


def _training(folder: Path, training: dict, out: Path) -> dict:
    *place, dataset, paper, run, seed, stage = folder.parts
    log = Path(*place, "logs", dataset, paper, run, seed, f"{stage}.log")
    files = [folder / name for name in ("config.yaml", "losses.csv", "record.json")]
    return {
        **training,
        "folder": str(folder),
        "name": f"{paper}/{run}",
        "others": [name for name in training["runs"] if name != f"{paper}/{run}"],
        "files": _links([*files, log], out),
        "logs": {name: links for name in training["anchors"] if (links := _logs(training["runs"][name], out))},
        "losses": _losses(folder / "losses.csv"),
        "last": "\n".join(log.read_text(encoding="utf-8").splitlines()[-LAST:]) if log.is_file() else "",
    }


def _logs(places: list[str], out: Path) -> dict[str, str]:
    """Links to what the jobs of a run printed, but those that only wrote settings."""
    logs = [path for place in places for path in sorted(Path(place).glob("*.log"))]
    return _links([path for path in logs if not path.name.startswith("configure_")], out)


def _links(paths: list[Path], out: Path) -> dict[str, str]:
    """Links from the page to the files that are there: short name -> relative address."""
    there = [path for path in paths if path.is_file()]
    many = len({path.name for path in there}) < len(there)
    return {
        f"{path.parent.name}/{path.name}" if many else path.name: os.path.relpath(path, out.parent) for path in there
    }


def _losses(path: Path) -> str:
    """Loss curves, one per phase and term, as an inline SVG."""
    terms: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            terms.setdefault((row["phase"], row["term"]), []).append((float(row["step"]), float(row["value"])))
    if not terms:  # official weights
        return ""
    several = len({phase for phase, _ in terms}) > 1
    with plt.rc_context({**STYLE, "svg.fonttype": "none", "font.size": 8}):
        figure, axis = plt.subplots(figsize=(5.5, 2.2))
        for (phase, term), curve in terms.items():
            parts = np.array_split(np.array(curve), min(POINTS, len(curve)))  # each point the mean of its part
            label = f"{words.loss(term)} ({phase})" if several else words.loss(term)
            axis.plot(*np.array([part.mean(0) for part in parts]).T, label=label, linewidth=1)
        axis.set_xlabel("step")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel("loss")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
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
