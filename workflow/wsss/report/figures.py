"""Figures as PDF (vector, fonts embedded) and PNG, one drawing function per kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from wsss.errors import choose
from wsss.files import atomic, read_json
from wsss.report.cells import operating_point
from wsss.report.pictures import draw_grid

# Okabe and Ito's colours, told apart by readers with any colour vision
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "pdf.fonttype": 42,
    "figure.dpi": 200,
    "legend.frameon": False,
}
WIDTH = 6.9  # inches: the text width of a two-column paper


def draw_figure(plan: dict, out_dir: Path) -> None:
    """Draw a resolved figure plan (``plan.drawings.figure``) and write ``figure.pdf`` and ``figure.png``."""
    draw = choose(KINDS, plan["kind"], "kind of figure")
    with plt.rc_context(STYLE):
        figure = draw(plan)
        for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            with atomic(Path(out_dir) / f"figure.{suffix}") as temporary:
                figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
        plt.close(figure)


def threshold_curve(plan: dict) -> Figure:
    """A metric against the background threshold, one line per series; the band is the range over seeds."""
    names = plan.get("metrics_shown", ["miou"])
    figure, axes = plt.subplots(1, len(names), figsize=(WIDTH if len(names) > 1 else WIDTH / 2, 2.4), squeeze=False)
    for name, axis in zip(names, axes[0], strict=True):
        for series in plan["series"]:
            sweeps = [read_json(path)["sweep"] for path in series["metrics"]]
            thresholds = sweeps[0]["thresholds"]
            values = np.array([sweep[name] for sweep in sweeps]) * (100 if name in PERCENT else 1)
            (line,) = axis.plot(thresholds, values.mean(0), label=series["label"])
            axis.fill_between(thresholds, values.min(0), values.max(0), alpha=0.2, color=line.get_color(), linewidth=0)
            if name == "miou":
                best = int(values.mean(0).argmax())
                axis.plot(thresholds[best], values.mean(0)[best], "o", color=line.get_color(), markersize=4)
        axis.set_xlabel("background threshold")
        axis.set_ylabel(AXIS[name])
        axis.margins(x=0)
    axes[0][-1].legend()
    figure.tight_layout()
    return figure


def class_bars(plan: dict) -> Figure:
    """Per-class IoU, one group of bars per class."""
    series = plan["series"]
    points = [[operating_point(read_json(p), s["at"], p)["iou"] for p in s["metrics"]] for s in series]
    classes = read_json(series[0]["metrics"][0])["classes"]
    figure, axis = plt.subplots(figsize=(WIDTH, 2.4))
    width = 0.8 / len(series)
    for i, (entry, values) in enumerate(zip(series, points, strict=True)):
        at = np.arange(len(classes)) + (i - (len(series) - 1) / 2) * width
        axis.bar(at, 100 * np.mean(values, axis=0), width, label=entry["label"])
    axis.set_xticks(
        range(len(classes)),
        classes,
        rotation=45 if len(classes) > 8 else 0,
        ha="right" if len(classes) > 8 else "center",
    )
    axis.set_ylabel(AXIS["iou"])
    axis.legend(ncols=len(series), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


PERCENT = {"miou", "precision", "recall", "iou"}
AXIS = {
    "miou": "mIoU (%)",
    "precision": "precision (%)",
    "recall": "recall (%)",
    "iou": "IoU (%)",
    "under": "under-activation",
    "over": "over-activation",
}

KINDS: dict[str, Callable[[dict], Figure]] = {
    "grid": draw_grid,
    "threshold_curve": threshold_curve,
    "class_bars": class_bars,
}
