"""Types of the drawings that tables and figures are made from; ``plan.drawings`` resolves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from wsss.job import Settings

_Class = TypedDict("_Class", {"class": str}, total=False)  # a class statement cannot name a key ``class``


class CellSpec(_Class, total=False):
    """A cell: what was measured, what the paper reports of it, and the metrics files of its run, one per seed.

    ``chosen``: the epochs of the classifier out of which one was chosen on masks.
    """

    run: str
    dataset: str
    stage: str
    metric: str
    at: str
    images: str
    scale: int
    reported: float | None
    spread: float | None
    literature: str
    missing: str
    not_comparable: str
    chosen: str
    metrics: list[str]


class Series(CellSpec, total=False):
    """A curve or a group of bars: a cell with a label, in one of the figure's rows of panels."""

    label: str
    group: str


class Row(TypedDict, total=False):
    """A row of a table: its label, the words beside it by key, a note, and its cells."""

    label: str
    attributes: dict[str, str]
    note: str | None
    cells: list[CellSpec]


class Head(TypedDict):
    """A column of a table."""

    key: str
    label: str


class TableDrawing(TypedDict, total=False):
    """The drawing of a table."""

    paper: str
    paper_title: str
    name: str
    title: str
    caption: str
    note: str | None
    dataset: str
    dataset_note: str | None
    ground_truth: str | None
    transpose: bool | None
    attributes: list[Head]
    columns: list[Head]
    rows: list[Row]


class ClaimSpec(TypedDict):
    """A claim: its name as ``paper/claim``, its paper's name, its sentence, where that stands, and its direction."""

    claim: str
    paper: str
    says: str
    source: str
    direction: str


class Comparison(TypedDict, total=False):
    """A comparison of a claim: its two sides, the first minus the second, and the reported difference."""

    claim: str
    label: str
    reported: float | None
    missing: str
    cells: list[CellSpec]


class ClaimsDrawing(TypedDict, total=False):
    """The drawing of claims: of one paper, or of all (``paper`` is empty)."""

    paper: str
    paper_title: str
    name: str
    title: str
    caption: str
    dataset: str
    dataset_note: str | None
    seeds: list[int]
    claims: list[ClaimSpec]
    columns: list[Head]
    rows: list[Comparison]


class PictureColumn(TypedDict, total=False):
    """A column of pictures: of a ``kind``, or of the files of a stage; those of a model have ``model`` and ``config``.

    ``metrics`` are those of a stage with several exponents.
    """

    label: str
    kind: str
    stage: str
    files: list[str]
    metrics: list[str]
    model: str
    config: Settings


class FigureDrawing(TypedDict, total=False):
    """The drawing of a figure. Each kind of figure has some of these keys.

    Args:
        kind: the kind of figure.
        title: its title.
        caption: its caption.
        series: curves or groups of bars.
        metrics_shown: metrics of curves, one column of panels each.
        log: make ordinates of what is no percentage logarithmic.
        columns_shown: columns of the table that a figure shows.
        rows: rows of this table, with the cells of these columns.
        columns: columns of pictures.
        data: the folder of the data set whose images are shown.
        images_of: the split they are taken from.
        count: the number of images.
    """

    kind: str
    title: str
    caption: str
    series: list[Series]
    metrics_shown: list[str]
    log: bool
    columns_shown: list[Head]
    rows: list[Row]
    columns: list[PictureColumn]
    data: str
    images_of: str
    count: int


def row_name(row: Row) -> str:
    """Name a row by its label and the words that tell it from others of that label: ``CAM (ACR)``."""
    label = row["label"]
    attributes = row.get("attributes", {}).values()
    words = ", ".join(word for word in attributes if word not in ("✓", "-"))
    if not label:
        return words
    return f"{label} ({words})" if words else label
