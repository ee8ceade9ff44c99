"""Tables, figures and the report page: the papers' values beside ours."""

from wsss.report.figures import draw_figure
from wsss.report.page import write_page
from wsss.report.tables import write_table

__all__ = ["draw_figure", "write_page", "write_table"]
