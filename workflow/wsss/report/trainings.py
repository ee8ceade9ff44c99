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
SIZE = (5.5, 2.2)  # inches of a plot of losses
LAST = 12  # lines of a log that are part of the page
FILES = ("config.yaml", "losses.csv", "record.json")  # of a network, that the page links to
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
        runs: the runs that it belongs to, with the folders of their logs.
        anchors: those runs whose names on the page lead to it.
        name: ``paper/run`` of the folder.
        others: the other runs that it belongs to.
        files: links to its files.
        logs: links to the logs of each run in ``anchors``.
        losses: its loss curves; None where there are none.
        last: the last lines of its log.
    """

    folder: str
    network: Network
    what: str
    dataset: str
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
    made = [entry for entry in entries if entry["made"]]
    for entry in made:
        for run in entry["runs"]:
            _add_networks(found, run, stage_words)
    _add_anchors(found)
    for training in found.values():
        _complete(training, out)
    return list(found.values())


def _add_networks(
    found: dict[str, Training],
    run: Run,
    stage_words: dict[str, str],
) -> None:
    """Add the networks of a run that have been trained, by their folders."""
    name = run["run"]
    for folder, network in run["networks"].items():
        losses = Path(folder, "losses.csv")
        if not losses.is_file():
            continue
        if folder not in found:
            found[folder] = Training(
                folder=folder,
                network=network,
                what=stage_words[network["stage"]],
                dataset=run["dataset"],
            )
        if network["own"]:
            training = found[folder]
            training.runs[name] = run["logs"]


def _add_anchors(found: dict[str, Training]) -> None:
    """Give each network the names of runs that lead to it: a name leads to the first network that is the run's own."""
    taken: set[tuple[str, str]] = set()
    for training in found.values():
        for run in training.runs:
            name = (training.dataset, run)
            if name in taken:
                continue
            taken.add(name)
            training.anchors.append(run)


def _complete(training: Training, out: Path) -> None:
    """Add the name, files, logs and losses of a network."""
    folder = Path(training.folder)
    paper, run = folder.parts[-4:-2]
    training.name = f"{paper}/{run}"
    training.others = [name for name in training.runs if name != training.name]
    log = log_of(training.folder)
    files = [folder / name for name in FILES]
    training.files = links([*files, log], out)
    for name in training.anchors:
        of_run = _logs(training.runs[name], out)
        if of_run:
            training.logs[name] = of_run
    training.losses = _picture(training, folder / "losses.csv")
    if log.is_file():
        training.last = _end_of(log)


def _picture(training: Training, losses: Path) -> Picture | None:
    """Draw the losses of a network; nothing where there are none."""
    drawn = _losses(losses)
    if drawn is None:
        return None
    return {
        "data": inline(drawn.data, "svg+xml"),
        "says": f"Losses of {training.name}, {training.what}. {drawn.says}",
        "whole": "",
        "drawn": True,
    }


def _end_of(log: Path) -> str:
    """Return the last lines of a log."""
    text = log.read_text(encoding="utf-8")
    lines = text.splitlines()
    return "\n".join(lines[-LAST:])


def _logs(places: list[str], out: Path) -> Links:
    """Link to what the jobs of a run printed, except those that only wrote settings."""
    found: list[Path] = []
    for place in places:
        logs = Path(place).glob("*.log")
        for path in sorted(logs):
            if not path.name.startswith(NOT_SHOWN):
                found.append(path)
    return links(found, out)


# ---- losses


def _losses(path: Path) -> Svg | None:
    """Draw loss curves, one per phase and term; nothing where official weights were read."""
    curves = _curves(path)
    if not curves:
        return None

    def figure() -> Figure:
        drawn, axis = plt.subplots(figsize=SIZE)
        _draw(axis, curves)
        return drawn

    return as_svg(figure, font_size=8)


def _draw(axis: Axes, curves: Curves) -> None:
    """Draw all curves. Their phases are named where there are several."""
    phases = {phase for phase, _ in curves}
    several = len(phases) > 1
    for (phase, term), curve in curves.items():
        label = words.loss(term)
        if several:
            label = f"{label} ({phase})"
        steps, values = _thinned(curve)
        axis.plot(steps, values, label=label, linewidth=1)
    axis.set_xlabel("step")
    whole_steps = MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True)
    axis.xaxis.set_major_locator(whole_steps)
    axis.set_ylabel("loss")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _thinned(curve: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and values of at most ``POINTS`` points, each the mean of its part of a curve."""
    number = min(POINTS, len(curve))
    parts = np.array_split(curve, number)
    means = np.array([part.mean(0) for part in parts])
    steps, values = means.T
    return steps, values


def _curves(path: Path) -> Curves:
    """Read the loss log."""
    curves: Curves = defaultdict(list)
    for row in read_csv(path):
        if row["term"] == SKIPPED:
            continue
        step = float(row["step"])
        value = float(row["value"])
        name = (row["phase"], row["term"])
        curves[name].append((step, value))
    return curves
