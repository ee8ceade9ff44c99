"""Tables and figures: the papers' values beside ours."""

from wsss.report.figures import draw_figure
from wsss.report.tables import write_table

__all__ = ["draw_figure", "write_table"]
