"""Write a figure as an HTML page with its caption beside it: Snakemake's report shows pictures without text."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from wsss.files import write_text
from wsss.report.embedding import webp
from wsss.report.rendering import template

READS = ("report/templates/figure.html.j2", "report/templates/style.css.j2")


def write_alone(
    title: str,
    caption: str,
    says: str,
    out_dir: Path,
) -> None:
    """Write ``figure.html`` beside ``figure.png``.

    Args:
        title: the figure's title.
        caption: its caption.
        says: what it shows, in words.
        out_dir: the folder of the figure.
    """
    with Image.open(out_dir / "figure.png") as image:
        picture = webp(image)
    page = template("figure.html.j2")
    text = page.render(
        title=title,
        caption=caption,
        says=says,
        picture=picture,
    )
    write_text(out_dir / "figure.html", text)
