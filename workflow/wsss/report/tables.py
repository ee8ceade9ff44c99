"""A table of a paper as CSV, Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import csv
import io
import re
from html import escape
from pathlib import Path

from jinja2 import Environment, PackageLoader

from wsss.files import write_text
from wsss.report.cells import Cell, read_cell
from wsss.report.layout import view

CSV_FIELDS = [
    *("row", "attributes", "column", "reported", "reported_spread", "ours", "spread", "seeds", "difference", "verdict"),
    *("run", "stage", "metric", "class", "at", "split", "points", "metrics"),
]

CODE = re.compile(r"`([^`]*)`")
LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%_#${}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{
            "±": r"$\pm$",
            "×": r"$\times$",
            "–": "--",
            "−": "$-$",
            "≈": r"$\approx$",
            "†": r"$\dagger$",
            "α": r"$\alpha$",
        },
        **{"✓": r"$\checkmark$", "✗": r"$\times$", "…": r"\ldots{}", "<": "$<$", ">": "$>$", "|": r"$\vert$"},
    }
)


def write_table(plan: dict, out_dir: Path) -> None:
    """Fill a resolved table plan (``plan.drawings.table``) and write ``table.{csv,md,tex,html}`` into ``out_dir``."""
    cells = [[read_cell(spec) for spec in row["cells"]] for row in plan["rows"]]
    content = {"plan": plan, "view": view(plan, cells)}
    write_text(Path(out_dir) / "table.csv", _csv(plan, cells))
    for name in ("table.md", "table.tex", "table.html"):
        write_text(Path(out_dir) / name, template(f"{name}.j2").render(content))


def template(name: str):
    """A template of this package; HTML escapes what it prints, LaTeX and Markdown have the filters for it."""
    environment = Environment(
        loader=PackageLoader("wsss.report", "templates"),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"latex": latex, "html": html, "markdown": markdown}
    return environment.get_template(name)


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command, spell what it does not have, and set words in backticks as code."""
    return CODE.sub(r"\\texttt{\1}", text.translate(LATEX))


def html(text: str) -> str:
    """Escape what HTML would read as a tag, and set words in backticks as code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def markdown(text: str) -> str:
    """Escape what would end a table cell or start emphasis."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")


def _csv(plan: dict, cells: list[list[Cell]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    heads = [(attribute["key"], attribute["label"]) for attribute in plan.get("attributes", [])]
    for row, row_cells in zip(plan["rows"], cells, strict=True):
        words = row.get("attributes", {})
        for column, spec, cell in zip(plan["columns"], row["cells"], row_cells, strict=True):
            writer.writerow(
                {
                    "row": row["label"],
                    "attributes": "; ".join(f"{head}: {words[key]}" for key, head in heads if key in words),
                    "column": column["label"],
                    "reported": _plain(cell.reported),
                    "reported_spread": _plain(cell.reported_spread),
                    "ours": _plain(cell.mean),
                    "spread": _plain(cell.spread),
                    "seeds": len(cell.values),
                    "difference": _plain(cell.difference),
                    "verdict": cell.verdict,
                    **{key: spec.get(key, "") for key in ("run", "stage", "metric", "class", "at", "split")},
                    "points": "; ".join(cell.points),
                    "metrics": "; ".join(cell.metrics),
                }
            )
    return buffer.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
