"""The networks below what the report page shows: which runs use them, their losses, files and logs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wsss.report import words
from wsss.report.embedding import inline, links
from wsss.report.outline import Links, Made, Network, Picture, Run
from wsss.report.reading import log_of, read_csv
from wsss.report.style import Svg, as_svg

POINTS = 120  # of a loss curve
LAST = 12  # lines of a log that are part of the page
SKIPPED = "skipped"  # term of an update that was left out: no loss
NOT_SHOWN = "configure_"  # start of the names of logs of jobs that only wrote settings
Curves = dict[tuple[str, str], list[tuple[float, float]]]  # (phase, term) -> (step, value)


@dataclass
class Training:
    """A trained network as the page prints it.

    Args:
        folder: its folder, ``.../<dataset>/<paper>/<run>/<seed>/<stage>``.
        network: its stage, method and backbone.
        what: words for it.
        dataset: its data set.
        seeds: the random seeds with which it was trained.
        runs: the runs whose own it is, with the folders of their logs.
        anchors: those of them whose names lead to it.
        name: ``paper/run`` of the folder.
        others: the other runs whose own it is.
        files: links to its files.
        logs: links to the logs of each run in ``anchors``.
        losses: its loss curves; None where there are none.
        last: the last lines of its log.
    """

    folder: str
    network: Network
    what: str
    dataset: str
    seeds: list[int]
    runs: dict[str, list[str]] = field(default_factory=dict)
    anchors: list[str] = field(default_factory=list)
    name: str = ""
    others: list[str] = field(default_factory=list)
    files: Links = field(default_factory=dict)
    logs: dict[str, Links] = field(default_factory=dict)
    losses: Picture | None = None
    last: str = ""


def trainings(entries: list[Made], stage_words: dict[str, str], out: Path) -> list[Training]:
    """List the networks below what has been made, of the first seed.

    Args:
        entries: all entries of the page.
        stage_words: words for the result of each stage.
        out: the page.
    """
    found: dict[str, Training] = {}
    for entry in entries:
        if entry["made"]:
            for run in entry["runs"]:
                _add_networks(found, run, stage_words)
    _add_anchors(found)
    for training in found.values():
        _complete(training, out)
    return list(found.values())


def _add_networks(found: dict[str, Training], run: Run, stage_words: dict[str, str]) -> None:
    """Add the networks of a run that have been trained, by their folders."""
    for folder, network in run["networks"].items():
        if not Path(folder, "losses.csv").is_file():
            continue
        if folder not in found:
            what = stage_words[network["stage"]]
            found[folder] = Training(folder, network, what, run["dataset"], run["seeds"])
        if network["own"]:
            found[folder].runs[run["run"]] = run["logs"]


def _add_anchors(found: dict[str, Training]) -> None:
    """Give each network the names of runs that lead to it: a name leads to the first network that is the run's own."""
    taken: set[tuple[str, str]] = set()
    for training in found.values():
        for run in training.runs:
            name = (training.dataset, run)
            if name not in taken:
                taken.add(name)
                training.anchors.append(run)


def _complete(training: Training, out: Path) -> None:
    """Add the name, files, logs and losses of a network."""
    folder = Path(training.folder)
    log = log_of(training.folder)
    files = [folder / name for name in ("config.yaml", "losses.csv", "record.json")]
    training.name = "/".join(folder.parts[-4:-2])
    training.others = [name for name in training.runs if name != training.name]
    training.files = links([*files, log], out)
    for name in training.anchors:
        if of_run := _logs(training.runs[name], out):
            training.logs[name] = of_run
    if drawn := _losses(folder / "losses.csv"):
        says = f"Losses of {training.name}, {training.what}. {drawn.says}"
        training.losses = {"data": inline(drawn.data, "svg+xml"), "says": says, "whole": "", "drawn": True}
    if log.is_file():
        lines = log.read_text(encoding="utf-8").splitlines()
        training.last = "\n".join(lines[-LAST:])


def _logs(places: list[str], out: Path) -> Links:
    """Link to what the jobs of a run printed, but those that only wrote settings."""
    found: list[Path] = []
    for place in places:
        logs = sorted(Path(place).glob("*.log"))
        found += [path for path in logs if not path.name.startswith(NOT_SHOWN)]
    return links(found, out)


# ---- losses


def _losses(path: Path) -> Svg | None:
    """Draw loss curves, one per phase and term; nothing where official weights were read."""
    curves = _curves(path)
    if not curves:
        return None

    def figure() -> Figure:
        drawn, axis = plt.subplots(figsize=(5.5, 2.2))
        _draw(axis, curves)
        return drawn

    return as_svg(figure, font_size=8)


def _draw(axis: Axes, curves: Curves) -> None:
    """Draw all curves. Their phases are named where there are several."""
    several = len({phase for phase, _ in curves}) > 1
    for (phase, term), curve in curves.items():
        label = words.loss(term)
        if several:
            label = f"{label} ({phase})"
        steps, values = _thinned(curve)
        axis.plot(steps, values, label=label, linewidth=1)
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_ylabel("loss")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _thinned(curve: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and values of at most ``POINTS`` points, each the mean of its part of a curve."""
    parts = np.array_split(curve, min(POINTS, len(curve)))
    steps, values = np.array([part.mean(0) for part in parts]).T
    return steps, values


def _curves(path: Path) -> Curves:
    """Read the loss log."""
    curves: Curves = defaultdict(list)
    for row in read_csv(path):
        if row["term"] != SKIPPED:
            point = (float(row["step"]), float(row["value"]))
            curves[row["phase"], row["term"]].append(point)
    return curves
