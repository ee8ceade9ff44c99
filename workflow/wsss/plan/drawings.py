"""Drawings: what a table, a figure or claims are made from, the entry in the paper file with every run resolved."""

from __future__ import annotations

from pathlib import Path

from wsss.errors import choose
from wsss.plan import claims, papers
from wsss.plan.cells import companion, with_metrics
from wsss.plan.code import digest_of
from wsss.plan.layers import Raw
from wsss.plan.plan import Plan

ENTRY_POINTS = {
    "tables": "wsss.report.tables:write_table",
    "figures": "wsss.report.figures:draw_figure",
    "claims": "wsss.report.claims:write_claims",
}


def drawing(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> Raw:
    """Everything that decides what is made of a ``kind`` (tables, figures, claims): contents and digest of its code."""
    if kind == "claims":
        found = claims.drawing(plan, dataset, paper)
    else:
        choose(plan.papers, paper, "paper")
        found = {"tables": table, "figures": figure}[kind](plan, dataset, paper, name)
    return {**found, "code": digest_of([ENTRY_POINTS[kind]], found)}


# ---- tables


def table(plan: Plan, dataset: str, paper: str, name: str) -> Raw:
    """Resolve a table. Each cell with a run carries ``metrics``, one file per seed."""
    spec = plan.papers[paper]
    about = choose(spec["tables"], name, f"table of {paper}")
    rows = []
    for row, cells in papers.rows(spec, name):
        found = {"label": row["label"], "attributes": row.get("attributes", {}), "note": row.get("note")}
        rows.append({**found, "cells": [with_metrics(plan, dataset, paper, cell) for cell in cells]})
    head = {key: about.get(key) for key in ("title", "caption", "note", "transpose")}
    return {
        "name": name,
        **_common(plan, dataset, paper),
        **head,
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
    """
    spec = choose(plan.papers[paper].get("figures", {}), name, f"figure of {paper}")
    on, _ = companion(plan, dataset, spec)
    drawn = {"name": name, **_common(plan, on, paper), **spec}
    if "table" in spec:
        drawn |= _rows_of_table(plan, on, paper, spec)
    if "series" in spec:
        entries = [papers.cell({}, {"key": "", **entry}) | entry for entry in spec["series"]]
        drawn["series"] = [with_metrics(plan, on, paper, entry) for entry in entries]
    if "columns" in spec:
        images = spec.get("images", "measured")
        drawn["columns"] = [_with_files(plan, on, paper, entry, images) for entry in spec["columns"]]
        drawn["data"] = str(plan.data(on))
        drawn["images_of"] = plan.dataset(on)["splits"][images]
    return drawn


def _rows_of_table(plan: Plan, dataset: str, paper: str, spec: Raw) -> Raw:
    """Return the columns of a table that a figure shows, and its rows with their cells in these columns."""
    of = table(plan, dataset, paper, spec["table"])
    keys = [column["key"] for column in of["columns"]]
    at = [keys.index(spec[key]) for key in ("column", "x", "y") if key in spec]
    rows = [{**row, "cells": [row["cells"][i] for i in at]} for row in of["rows"]]
    return {"columns_shown": [of["columns"][i] for i in at], "rows": rows}


def _with_files(plan: Plan, dataset: str, paper: str, entry: Raw, images: str) -> Raw:
    """Give a column of pictures the files it is drawn from."""
    if "run" not in entry:
        return entry
    owner, run = papers.owner_of(entry["run"], paper)
    which = (dataset, owner, run, plan.dataset(dataset)["seeds"][0])
    if "kind" in entry:
        model = str(plan.home(*which, "train") / "model.pt")
        return {**entry, "model": model, "config": plan.stage_config(*which, "cam")}
    stage = entry.get("stage", "cam")
    drawn = {**entry, "stage": stage, "files": plan.shards(plan.home(*which, stage), stage, dataset, images)}
    if stage in ("crf", "pamr"):  # which exponent to show
        drawn["metrics"] = [plan.metrics(*which, stage, images)]
    return drawn


# ---- what a drawing reads


def entries(drawn: Raw) -> list[Raw]:
    """Return the cells of a table or of a figure's rows, the sides of claims, the curves, the columns of pictures."""
    cells = [cell for row in drawn.get("rows", []) for cell in row["cells"]]
    return [*cells, *drawn.get("series", []), *drawn.get("columns", [])]


def files(entry: Raw) -> list[str]:
    """Return the files that one entry of a drawing is read from."""
    model = [entry["model"]] if "model" in entry else []
    return [*entry.get("metrics", []), *entry.get("files", []), *model]


def inputs(drawn: Raw) -> list[str]:
    """Return every file a drawing reads, sorted."""
    found = {str(Path(drawn["data"]) / "index.csv")} if "data" in drawn else set()
    for entry in entries(drawn):
        found |= set(files(entry))
    return sorted(found)


def about(plan: Plan, kind: str, paper: str, name: str) -> Raw:
    """Return a drawing's entry in its paper file; of claims their title and caption."""
    if kind == "claims":
        return claims.about(plan, paper)
    return dict(choose(choose(plan.papers, paper, "paper")[kind], name, f"one of the {kind} of {paper}"))


def obstacle(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> str | None:
    """Say why a drawing cannot be made for a data set. (Tables can: their cells say what is missing.)"""
    spec = about(plan, kind, paper, name)
    if why := companion(plan, dataset, spec)[1]:
        return why
    for entry in spec.get("series", []) + spec.get("columns", []) if kind == "figures" else []:
        owner = papers.owner_of(entry["run"], paper)[0] if "run" in entry else paper
        if owner not in plan.papers:
            return f"paper {owner} is not among those configured"
    return None
