"""Figures as PDF (vector, fonts embedded) and PNG, one drawing function per kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from wsss.errors import choose
from wsss.files import atomic
from wsss.report.charts import class_bars, table_dots, table_scatter, threshold_curve
from wsss.report.pictures import draw_grid
from wsss.report.style import STYLE

KINDS: dict[str, Callable[[dict], Figure]] = {
    "grid": draw_grid,
    "threshold_curve": threshold_curve,
    "class_bars": class_bars,
    "table_dots": table_dots,
    "table_scatter": table_scatter,
}


def draw_figure(plan: dict, out_dir: Path) -> None:
    """Draw a resolved figure plan (``plan.drawings.figure``) and write ``figure.pdf`` and ``figure.png``."""
    draw = choose(KINDS, plan["kind"], "kind of figure")
    with plt.rc_context(STYLE):
        figure = draw(plan)
        for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
            with atomic(Path(out_dir) / f"figure.{suffix}") as temporary:
                figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
        plt.close(figure)
