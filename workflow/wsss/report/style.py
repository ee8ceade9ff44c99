"""The look of all figures, and what fits on a page of a paper. Nothing is drawn on a screen."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsss.files import atomic
from wsss.report.alternatives import describe
from wsss.report.drawing import CellSpec
from wsss.report.fonts import families

# inches: the text of a page of a two-column paper, with room for a caption
WIDTH = 6.9
HEIGHT = 8.6
COLOURS = [  # Okabe and Ito's, told apart by readers with any colour vision
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
]
STYLE: dict[Any, Any] = {
    "font.family": families(),
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "svg.hashsalt": "wsss",  # names inside of an SVG, so that equal figures are equal bytes
    "pdf.fonttype": 42,  # TrueType: text stays text
    "figure.dpi": 200,
    "legend.frameon": False,
}
# The marks of a reported value and of ours, wherever the two are in one chart.
MARK: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 5}
REPORTED: dict[str, Any] = {**MARK, "color": "#777777", "mfc": "white", "label": "reported"}
OURS: dict[str, Any] = {**MARK, "color": COLOURS[0], "label": "ours"}


def legend(axis: Axes) -> None:
    """Put a legend above the axis that names each kind of mark once."""
    handles, labels = axis.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    if not named:
        return
    axis.legend(
        list(named.values()),
        list(named),
        ncols=len(named),
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
    )


def with_unit(label: str, cell: CellSpec) -> str:
    """Add to the label of an axis the unit of a cell's numbers, if it does not name one."""
    percent = cell.get("scale", 100) == 100
    if percent and "%" not in label:
        return f"{label} (%)"
    return label


class Svg(NamedTuple):
    """A figure as SVG, and what it shows in words."""

    data: bytes
    says: str


def as_svg(draw: Callable[[], Figure], font_size: float = STYLE["font.size"]) -> Svg:
    """Draw in the common style, as an SVG whose text is text."""
    style = {
        **STYLE,
        "svg.fonttype": "none",
        "font.size": font_size,
    }
    buffer = io.BytesIO()
    metadata = {"Date": None}
    with plt.rc_context(style):
        figure = draw()
        says = describe(figure)
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata=metadata)
        plt.close(figure)
    return Svg(buffer.getvalue(), says)


def write_figure(draw: Callable[[], Figure], out_dir: Path, says: str = "") -> str:
    """Draw in the common style, write ``figure.pdf`` and ``figure.png``, and return in words what they show.

    Both files hold these words, too.

    Args:
        draw: makes the figure.
        out_dir: the folder.
        says: what it shows; by default what its axes and series say.
    """
    with plt.rc_context(STYLE):
        figure = draw()
        says = says or describe(figure)
        kinds: dict[str, dict[str, Any]] = {
            "pdf": {"CreationDate": None, "Subject": says},
            "png": {"Software": None, "Description": says},
        }
        for suffix, metadata in kinds.items():
            path = out_dir / f"figure.{suffix}"
            with atomic(path) as temporary:
                figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
        plt.close(figure)
    return says
