"""Drawings. A table, a figure or claims are made from one: the entry in the paper file with every run resolved."""

from __future__ import annotations

import functools
from pathlib import Path

from wsss.errors import choose
from wsss.plan import claims, papers
from wsss.plan.cells import companion, with_metrics
from wsss.plan.code import digest_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan
from wsss.plan.runs import Run
from wsss.plan.target import Target

ENTRY_POINTS = {
    "tables": "wsss.report.tables:write_table",
    "figures": "wsss.report.figures:draw_figure",
    "claims": "wsss.report.claims:write_claims",
}
AXES = ("column", "x", "y")  # keys of a figure that name a column of its table
WITH_EXPONENTS = ("crf", "pamr")  # stages of which a picture shows one exponent; the metrics say which


@functools.cache
def drawing(plan: Plan, dataset: str, target: Target) -> Raw:
    """Return everything that decides what is drawn for a data set: contents, and the digest of the code that draws.

    It is found out once for all who ask: the cost, the states and the jobs.
    """
    found = _contents(plan, dataset, target)
    entry_point = ENTRY_POINTS[target.kind]
    code = digest_of([entry_point], found)
    return {**found, "code": code}


def _contents(plan: Plan, dataset: str, target: Target) -> Raw:
    """Return a target's entry in the paper file with every run resolved."""
    if target.kind == "claims":
        return claims.drawing(plan, dataset, target.paper)
    choose(plan.papers, target.paper, "paper")
    if target.kind == "tables":
        return table(plan, dataset, target.paper, target.name)
    return figure(plan, dataset, target.paper, target.name)


# ---- tables


def table(
    plan: Plan,
    dataset: str,
    paper: str,
    name: str,
) -> Raw:
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
        found = [with_metrics(plan, dataset, paper, cell) for cell in cells]
        rows.append(_row(row, found))
    return {
        "name": name,
        **_common(plan, dataset, paper),
        "title": about.get("title"),
        "caption": about.get("caption"),
        "note": about.get("note"),
        "transpose": about.get("transpose"),
        "attributes": about.get("attributes", []),
        "columns": list(map(_column, about["columns"])),
        "rows": rows,
    }


def _row(row: Raw, cells: list[Raw]) -> Raw:
    """Return a row with its cells, and without what has gone into them."""
    return {
        "label": row["label"],
        "attributes": row.get("attributes", {}),
        "note": row.get("note"),
        "cells": cells,
    }


def _column(column: Raw) -> Raw:
    """Return a column without what has gone into its cells."""
    return {"key": column["key"], "label": column["label"]}


def _common(plan: Plan, dataset: str, paper: str) -> Raw:
    """Collect the entries that all drawings of a paper on a data set have."""
    spec = plan.papers[paper]
    data = plan.dataset(dataset)
    return {
        "paper": paper,
        "paper_title": spec["title"],
        "dataset": dataset,
        "dataset_note": data.get("note"),
        "seeds": data["seeds"],
        "ground_truth": spec.get("ground_truth"),
    }


# ---- figures


def figure(
    plan: Plan,
    dataset: str,
    paper: str,
    name: str,
) -> Raw:
    """Resolve a figure. Each entry of ``series`` or ``columns`` carries the files it is drawn from.

    Curves and bars (``series``) carry ``metrics`` as table cells do. Columns of pictures with a run carry ``files``:
    the shards of a stage over the images, first seed. With a run and a ``kind`` they carry the run's ``model`` and its
    ``config``. Figures of a table carry its ``rows`` with the cells they show.

    Args:
        plan: the plan.
        dataset: the data set that the figure is drawn for; the figure may show its companion instead.
        paper: the paper.
        name: the figure.
    """
    known = plan.papers[paper].get("figures", {})
    spec = choose(known, name, f"figure of {paper}")
    on, _ = companion(plan, dataset, spec)
    drawn = {
        "name": name,
        **_common(plan, on, paper),
        **spec,
    }
    if "table" in spec:
        whole = table(plan, on, paper, spec["table"])
        drawn |= _cut(whole, spec)
    if "series" in spec:
        curves = map(papers.curve, spec["series"])
        drawn["series"] = [with_metrics(plan, on, paper, curve) for curve in curves]
    if "columns" in spec:
        drawn |= _pictures(plan, on, paper, spec)
    return drawn


def _cut(drawn: Raw, spec: Raw) -> Raw:
    """Cut a table to the columns that a figure shows."""
    at = _places_of_columns(drawn, spec)
    columns = [drawn["columns"][i] for i in at]
    rows = []
    for row in drawn["rows"]:
        cells = [row["cells"][i] for i in at]
        rows.append({**row, "cells": cells})
    return {"columns_shown": columns, "rows": rows}


def _places_of_columns(drawn: Raw, spec: Raw) -> list[int]:
    """Return the places, in a table, of the columns that a figure shows."""
    keys = [column["key"] for column in drawn["columns"]]
    found = []
    for axis in AXES:
        if axis in spec:
            place = keys.index(spec[axis])
            found.append(place)
    return found


def _pictures(
    plan: Plan,
    dataset: str,
    paper: str,
    spec: Raw,
) -> Raw:
    """Resolve a grid of pictures: its columns, and the images that it shows.

    Args:
        plan: the plan.
        dataset: the data set.
        paper: the paper.
        spec: the figure's entry in the paper file.
    """
    images = spec.get("images", "measured")
    splits = plan.dataset(dataset)["splits"]
    columns = []
    for entry in spec["columns"]:
        column = dict(entry)
        if "run" in entry:
            owner, name = papers.owner_of(entry["run"], paper)
            run = Run(dataset, owner, name)
            column |= _files_of_column(plan, run, entry, images)
        columns.append(column)
    return {
        "columns": columns,
        "data": str(plan.data(dataset)),
        "images_of": splits[images],
    }


def _files_of_column(
    plan: Plan,
    run: Run,
    entry: Raw,
    images: str,
) -> Raw:
    """Return what a column of pictures is drawn from.

    Args:
        plan: the plan.
        run: its run.
        entry: the column's entry in the paper file.
        images: the role of the images.
    """
    seed = plan.dataset(run.dataset)["seeds"][0]
    if "kind" in entry:
        return {
            "model": str(plan.model(run, seed)),
            "config": plan.stage_config(run, seed, "cam"),
        }
    stage = entry.get("stage", "cam")
    home = plan.home(run, seed, stage)
    found = {
        "stage": stage,
        "files": plan.shards(home, stage, run.dataset, images),
    }
    if stage in WITH_EXPONENTS:
        metrics = plan.metrics(run, seed, stage, images)
        found["metrics"] = [metrics]
    return found


# ---- what a drawing reads


def entries(drawn: Raw) -> list[Raw]:
    """Return the cells of rows, the sides of claims, the curves, and the columns; a table's columns have no files."""
    found: list[Raw] = []
    for row in drawn.get("rows", []):
        found += row["cells"]
    return found + shown(drawn)


def shown(figure: Raw) -> list[Raw]:
    """Return the curves and the columns of a figure; those of pictures have files."""
    curves = figure.get("series", [])
    pictures = figure.get("columns", [])
    return [*curves, *pictures]


def files(entry: Raw) -> list[str]:
    """Return the files that one entry of a drawing is read from."""
    metrics = entry.get("metrics", [])
    shards = entry.get("files", [])
    found = [*metrics, *shards]
    if "model" in entry:
        found.append(entry["model"])
    return found


def inputs(drawn: Raw) -> list[str]:
    """Return every file a drawing reads, sorted."""
    found: set[str] = set()
    if "data" in drawn:
        index = Path(drawn["data"]) / "index.csv"
        found.add(str(index))
    for entry in entries(drawn):
        read = files(entry)
        found.update(read)
    return sorted(found)


# ---- before it is drawn


def about(plan: Plan, target: Target) -> Raw:
    """Return a target's entry in its paper file; for claims, their title and caption."""
    if target.kind == "claims":
        return claims.about(plan, target.paper)
    paper = choose(plan.papers, target.paper, "paper")
    kind = f"one of the {target.kind} of {target.paper}"
    entry = choose(paper[target.kind], target.name, kind)
    return dict(entry)


def obstacle(plan: Plan, dataset: str, target: Target) -> str | None:
    """Say why a target cannot be made for a data set. (Tables can: their cells say what is missing.)"""
    spec = about(plan, target)
    _, missing = companion(plan, dataset, spec)
    if missing or target.kind != "figures":
        return missing
    for entry in shown(spec):
        run = entry.get("run", "")
        owner, _ = papers.owner_of(run, target.paper)
        if owner not in plan.papers:
            return f"paper {owner} is not among those configured"
    return None
