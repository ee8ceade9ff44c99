"""How all figures look, and what fits on a page of a paper. Nothing is drawn on a screen."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

WIDTH, HEIGHT = 6.9, 8.6  # inches: the text of a page of a two-column paper, with room for a caption
# Okabe and Ito's colours, told apart by readers with any colour vision
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#F0E442"]
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "pdf.fonttype": 42,  # TrueType: text stays text
    "figure.dpi": 200,
    "legend.frameon": False,
}
