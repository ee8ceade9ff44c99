"""A table of a paper as CSV, Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from wsss.files import write_text
from wsss.report.cells import Cell, read_cell
from wsss.report.drawing import CellSpec, Row, TableDrawing
from wsss.report.layout import view
from wsss.report.rendering import template

READS = (
    "report/templates/table.md.j2",
    "report/templates/table.tex.j2",
    "report/templates/table.html.j2",
    "report/templates/parts.html.j2",
    "report/templates/style.css.j2",
)
MEASURED = ("run", "stage", "metric", "class", "at", "images")  # keys of a cell that say what was measured
CSV_FIELDS = [
    "row",
    "attributes",
    "column",
    "reported",
    "reported_spread",
    "ours",
    "spread",
    "seeds",
    "difference",
    "verdict",
    *MEASURED,
    "points",
    "metrics",
]


def write_table(drawing: TableDrawing, out_dir: Path) -> None:
    """Fill the drawing of a table (``plan.drawings.table``) and write ``table.{csv,md,tex,html}`` into ``out_dir``."""
    cells = []
    for row in drawing["rows"]:
        line = [read_cell(spec) for spec in row["cells"]]
        cells.append(line)
    for name, text in texts(drawing, cells).items():
        path = Path(out_dir) / name
        write_text(path, text)


def texts(drawing: TableDrawing, cells: list[list[Cell]]) -> dict[str, str]:
    """Return the files of a table whose cells have been read, row by row: name -> text."""
    content = {
        "drawing": drawing,
        "view": view(drawing, cells),
    }
    found = {"table.csv": _csv(drawing, cells)}
    for name in ("table.md", "table.tex", "table.html"):
        form = template(f"{name}.j2")
        found[name] = form.render(content)
    return found


def _csv(drawing: TableDrawing, cells: list[list[Cell]]) -> str:
    """Write one line per cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    heads = [column["label"] for column in drawing["columns"]]
    for row, line in zip(drawing["rows"], cells, strict=True):
        place = {
            "row": row["label"],
            "attributes": _attributes(drawing, row),
        }
        for head, spec, cell in zip(heads, row["cells"], line, strict=True):
            fields = _fields(spec, cell)
            writer.writerow({**place, "column": head, **fields})
    return buffer.getvalue()


def _attributes(drawing: TableDrawing, row: Row) -> str:
    """Name the words beside a row's label: ``backbone: ResNet38; supervision: I``."""
    words = row.get("attributes", {})
    found = []
    for head in drawing.get("attributes", []):
        word = words.get(head["key"])
        if word is not None:
            found.append(f"{head['label']}: {word}")
    return "; ".join(found)


def _fields(spec: CellSpec, cell: Cell) -> dict[str, Any]:
    """List what the CSV says of one cell."""
    measured = {key: spec.get(key, "") for key in MEASURED}
    return {
        "reported": _plain(cell.reported),
        "reported_spread": _plain(cell.reported_spread),
        "ours": _plain(cell.mean),
        "spread": _plain(cell.spread),
        "seeds": len(cell.values),
        "difference": _plain(cell.difference),
        "verdict": cell.verdict,
        **measured,
        "points": "; ".join(cell.points),
        "metrics": "; ".join(cell.metrics),
    }


def _plain(value: float | None) -> str:
    """Write a number as CSV files have it; nothing for none."""
    return "" if value is None else f"{value:.4f}"
