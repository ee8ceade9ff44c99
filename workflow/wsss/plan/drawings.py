"""Drawings: what a table, a figure or claims are made from, the entry in the paper file with every run resolved."""

from __future__ import annotations

from pathlib import Path

from wsss.errors import choose
from wsss.plan import claims, papers
from wsss.plan.cells import companion, with_metrics
from wsss.plan.code import digest_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.runs import Run

ENTRY_POINTS = {
    "tables": "wsss.report.tables:write_table",
    "figures": "wsss.report.figures:draw_figure",
    "claims": "wsss.report.claims:write_claims",
}
WITH_EXPONENTS = ("crf", "pamr")  # stages of which a picture shows one exponent; the metrics say which


def drawing(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> Raw:
    """Return everything that decides what is drawn: contents, and the digest of the code that draws them.

    Args:
        plan: the plan.
        dataset: the data set that it is drawn for.
        kind: tables, figures or claims.
        paper: the paper.
        name: the table or figure; claims have the name ``claims``.
    """
    if kind == "claims":
        found = claims.drawing(plan, dataset, paper)
    else:
        choose(plan.papers, paper, "paper")
        resolve = {"tables": table, "figures": figure}[kind]
        found = resolve(plan, dataset, paper, name)
    return {**found, "code": digest_of([ENTRY_POINTS[kind]], found)}


# ---- tables


def table(plan: Plan, dataset: str, paper: str, name: str) -> Raw:
    """Resolve a table. Each cell with a run carries ``metrics``, one file per seed.

    Args:
        plan: the plan.
        dataset: the data set.
        paper: the paper.
        name: the table.
    """
    spec = plan.papers[paper]
    about = choose(spec["tables"], name, f"table of {paper}")
    rows = []
    for row, cells in papers.rows(spec, name):
        head = {"label": row["label"], "attributes": row.get("attributes", {}), "note": row.get("note")}
        rows.append({**head, "cells": [with_metrics(plan, dataset, paper, cell) for cell in cells]})
    return {
        "name": name,
        **_common(plan, dataset, paper),
        "title": about.get("title"),
        "caption": about.get("caption"),
        "note": about.get("note"),
        "transpose": about.get("transpose"),
        "attributes": about.get("attributes", []),
        "columns": [{"key": column["key"], "label": column["label"]} for column in about["columns"]],
        "rows": rows,
    }


def _common(plan: Plan, dataset: str, paper: str) -> Raw:
    """Collect the entries that all drawings of a paper on a data set have."""
    spec, data = plan.papers[paper], plan.dataset(dataset)
    return {
        "paper": paper,
        "paper_title": spec["title"],
        "dataset": dataset,
        "dataset_note": data.get("note"),
        "seeds": data["seeds"],
        "ground_truth": spec.get("ground_truth"),
    }


# ---- figures


def figure(plan: Plan, dataset: str, paper: str, name: str) -> Raw:
    """Resolve a figure. Each entry of ``series`` or ``columns`` carries the files it is drawn from.

    Curves and bars (``series``) carry ``metrics`` as table cells do. Columns of pictures with a run carry ``files``:
    the shards of a stage over the images, first seed. With a run and a ``kind`` they carry the run's ``model`` and its
    ``config``. Figures of a table carry its ``rows`` with the cells they show.

    Args:
        plan: the plan.
        dataset: the data set that the figure is drawn for; it may show the one beside it.
        paper: the paper.
        name: the figure.
    """
    spec = choose(plan.papers[paper].get("figures", {}), name, f"figure of {paper}")
    on, _ = companion(plan, dataset, spec)
    drawn = {"name": name, **_common(plan, on, paper), **spec}
    if "table" in spec:
        drawn |= _cut(table(plan, on, paper, spec["table"]), spec)
    if "series" in spec:
        drawn["series"] = [with_metrics(plan, on, paper, _curve(entry)) for entry in spec["series"]]
    if "columns" in spec:
        drawn |= _pictures(plan, on, paper, spec)
    return drawn


def _curve(entry: Raw) -> Raw:
    """Complete a curve with the settings of a cell that it does not say."""
    return papers.cell({}, {"key": "", **entry}) | entry


def _cut(drawn: Raw, spec: Raw) -> Raw:
    """Cut a table to the columns that a figure shows."""
    keys = [column["key"] for column in drawn["columns"]]
    at = [keys.index(spec[key]) for key in ("column", "x", "y") if key in spec]
    rows = []
    for row in drawn["rows"]:
        rows.append({**row, "cells": [row["cells"][i] for i in at]})
    return {"columns_shown": [drawn["columns"][i] for i in at], "rows": rows}


def _pictures(plan: Plan, dataset: str, paper: str, spec: Raw) -> Raw:
    """Resolve a grid of pictures: its columns, and the images that it shows.

    Args:
        plan: the plan.
        dataset: the data set.
        paper: the paper.
        spec: the figure's entry in the paper file.
    """
    images = spec.get("images", "measured")
    columns = []
    for entry in spec["columns"]:
        if "run" in entry:
            run = Run(dataset, *papers.owner_of(entry["run"], paper))
            columns.append({**entry, **_files_of_column(plan, run, entry, images)})
        else:
            columns.append(entry)
    return {
        "columns": columns,
        "data": str(plan.data(dataset)),
        "images_of": plan.dataset(dataset)["splits"][images],
    }


def _files_of_column(plan: Plan, run: Run, entry: Raw, images: str) -> Raw:
    """Return what a column of pictures is drawn from.

    Args:
        plan: the plan.
        run: its run.
        entry: the column's entry in the paper file.
        images: the role of the images.
    """
    seed = plan.dataset(run.dataset)["seeds"][0]
    if "kind" in entry:
        model = plan.home(*run, seed, "train") / "model.pt"
        return {"model": str(model), "config": plan.stage_config(*run, seed, "cam")}
    stage = entry.get("stage", "cam")
    home = plan.home(*run, seed, stage)
    found: Raw = {"stage": stage, "files": plan.shards(home, stage, run.dataset, images)}
    if stage in WITH_EXPONENTS:
        found["metrics"] = [plan.metrics(*run, seed, stage, images)]
    return found


# ---- what a drawing reads


def entries(drawn: Raw) -> list[Raw]:
    """Return the cells of a table or of a figure's rows, the sides of claims, the curves, the columns of pictures."""
    found: list[Raw] = []
    for row in drawn.get("rows", []):
        found += row["cells"]
    return [*found, *drawn.get("series", []), *drawn.get("columns", [])]


def files(entry: Raw) -> list[str]:
    """Return the files that one entry of a drawing is read from."""
    model = [entry["model"]] if "model" in entry else []
    return [*entry.get("metrics", []), *entry.get("files", []), *model]


def inputs(drawn: Raw) -> list[str]:
    """Return every file a drawing reads, sorted."""
    found: set[str] = set()
    if "data" in drawn:
        found.add(str(Path(drawn["data"]) / "index.csv"))
    for entry in entries(drawn):
        found.update(files(entry))
    return sorted(found)


# ---- before it is drawn


def about(plan: Plan, kind: str, paper: str, name: str) -> Raw:
    """Return a drawing's entry in its paper file; of claims their title and caption.

    Args:
        plan: the plan.
        kind: tables, figures or claims.
        paper: the paper.
        name: the table or figure.
    """
    if kind == "claims":
        return claims.about(plan, paper)
    spec = choose(plan.papers, paper, "paper")
    return dict(choose(spec[kind], name, f"one of the {kind} of {paper}"))


def obstacle(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> str | None:
    """Say why a drawing cannot be made for a data set. (Tables can: their cells say what is missing.)

    Args:
        plan: the plan.
        dataset: the data set.
        kind: tables, figures or claims.
        paper: the paper.
        name: the table or figure.
    """
    spec = about(plan, kind, paper, name)
    if why := companion(plan, dataset, spec)[1]:
        return why
    if kind != "figures":
        return None
    for entry in (*spec.get("series", []), *spec.get("columns", [])):
        owner, _ = papers.owner_of(entry.get("run", ""), paper)
        if owner not in plan.papers:
            return f"paper {owner} is not among those configured"
    return None
