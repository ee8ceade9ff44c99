"""Figures as PDF (vector, fonts embedded), PNG and HTML, one drawing function per kind."""

from __future__ import annotations

from pathlib import Path

from wsss.registry import Registry, load
from wsss.report.alone import write_alone
from wsss.report.drawing import FigureDrawing
from wsss.report.style import write_figure

KINDS: Registry[str] = {
    "grid": "wsss.report.pictures:draw_grid",
    "threshold_curve": "wsss.report.charts:threshold_curve",
    "class_bars": "wsss.report.charts:class_bars",
    "table_dots": "wsss.report.charts:table_dots",
    "table_scatter": "wsss.report.scatter:table_scatter",
}


def draw_figure(drawing: FigureDrawing, out_dir: Path) -> None:
    """Draw a figure (``plan.drawings.figure``) and write ``figure.{pdf,png,html}`` into ``out_dir``."""
    draw = load(KINDS, drawing["kind"], "kind of figure")
    says = write_figure(lambda: draw(drawing), Path(out_dir))
    write_alone(drawing["title"], drawing["caption"], says, Path(out_dir))
