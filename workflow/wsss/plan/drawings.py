"""What a table or figure is drawn from: its spec with every run resolved to the files it reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsss.errors import choose
from wsss.plan import papers
from wsss.plan.plan import Plan


def table(plan: Plan, dataset: str, paper: str, name: str) -> dict:
    """The table's spec; each cell with a run carries ``metrics``, one file per seed, and what is special about it."""
    spec = plan.papers[paper]
    about = choose(spec["tables"], name, f"table of {paper}")
    rows = [
        {
            "label": row["label"],
            "attributes": row.get("attributes", {}),
            "note": row.get("note"),
            "cells": [_with_metrics(plan, dataset, paper, c) for c in cells],
        }
        for row, cells in papers.rows(spec, name)
    ]
    columns = [{"key": c["key"], "label": c["label"]} for c in about["columns"]]
    head = {k: about.get(k) for k in ("title", "caption", "note", "transpose")}
    attributes = about.get("attributes", [])
    common = _common(plan, dataset, paper)
    return {"name": name, **common, **head, "attributes": attributes, "columns": columns, "rows": rows}


def _common(plan: Plan, dataset: str, paper: str) -> dict:
    spec, data = plan.papers[paper], plan.dataset(dataset)
    about = {"dataset": dataset, "dataset_note": data.get("note"), "seeds": data["seeds"]}
    about |= {"ground_truth": spec.get("ground_truth")}
    return {"paper": paper, "paper_title": spec["title"], **about}


def _companion(plan: Plan, dataset: str, spec: dict) -> tuple[str, str | None]:
    """The data set that a cell or figure is about, ``dataset`` or the one beside it in the role it names; and what is
    in the way, if something is."""
    role = spec.get("companion")
    if role is None:
        return dataset, None
    beside = plan.dataset(dataset).get("companions", {}).get(role)
    if beside is None:
        return dataset, f"no {role} data set beside {dataset}"
    return beside, plan.absent(beside)


def _with_metrics(plan: Plan, dataset: str, paper: str, cell: dict) -> dict:
    if not cell.get("run"):
        return cell
    measured, absent = _companion(plan, dataset, cell)
    if absent:
        return {**cell, "missing": absent}
    if cell["split"] == "test":
        return {**cell, "missing": "test masks are not public: the VOC server measures what `wsss submission` packs"}
    owner, run = papers.owner_of(cell["run"], paper)
    if owner not in plan.papers:
        return {**cell, "missing": f"paper {owner} is not among those configured"}
    spec = plan.dataset(measured)
    files = [plan.metrics(measured, owner, run, seed, cell["stage"], cell["split"]) for seed in spec["seeds"]]
    resolved = {**cell, "run": f"{owner}/{run}", "dataset": measured, "metrics": files}
    return resolved | _not_comparable(plan, measured, owner, run, cell["stage"])


def _not_comparable(plan: Plan, dataset: str, paper: str, run: str, stage: str) -> dict:
    """What keeps a result from being compared with the reported one: other images, or other settings than released."""
    if not plan.dataset(dataset).get("published"):
        config = plan.resolve(dataset, paper, run)
        network = (config["segment"] if stage == "segment" else config)["backbone"]["name"]
        return {"not_comparable": f"data set {dataset}, backbone {network}"}
    if changed := plan.departures(dataset, paper, run):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        return {"not_comparable": f"other settings than the paper's: {', '.join(changed[:3])}{more}"}
    return {}


def figure(plan: Plan, dataset: str, paper: str, name: str) -> dict:
    """The figure's spec; each entry of ``series`` or ``columns`` carries the files it is drawn from.

    ``series`` entries (curves, bars) carry ``metrics`` like table cells. ``columns`` entries (picture grids) with a run
    carry ``files``: the shards of that stage over the images of ``split``, first seed; with a run and a ``kind``, the
    run's ``model`` and its ``config``. Figures of a table carry its ``rows``, with the cells they show.
    """
    spec = choose(plan.papers[paper].get("figures", {}), name, f"figure of {paper}")
    on, _ = _companion(plan, dataset, spec)
    drawn = {"name": name, **_common(plan, on, paper), **spec}
    if "table" in spec:
        of = table(plan, on, paper, spec["table"])
        shown = [spec[key] for key in ("column", "x", "y") if key in spec]
        at = [[column["key"] for column in of["columns"]].index(key) for key in shown]
        drawn["columns_shown"] = [of["columns"][i] for i in at]
        drawn["rows"] = [{**row, "cells": [row["cells"][i] for i in at]} for row in of["rows"]]
    if "series" in spec:
        full = [papers.cell({}, {"key": "", **entry}) | entry for entry in spec["series"]]
        drawn["series"] = [_with_metrics(plan, on, paper, entry) for entry in full]
    if "columns" in spec:
        split = spec.get("split", "seed")
        drawn["columns"] = [_with_files(plan, on, paper, entry, split) for entry in spec["columns"]]
        drawn["data"] = str(plan.data(on))
        drawn["images_of"] = plan.dataset(on)["splits"][split]
    return drawn


def _with_files(plan: Plan, dataset: str, paper: str, entry: dict, split: str) -> dict:
    if "run" not in entry:
        return entry
    owner, run = papers.owner_of(entry["run"], paper)
    seed = plan.dataset(dataset)["seeds"][0]
    if "kind" in entry:
        model = str(plan.home(dataset, owner, run, seed, "train") / "model.pt")
        return {**entry, "model": model, "config": plan.stage_config(dataset, owner, run, seed, "seed")}
    stage = entry.get("stage", "seed")
    home = plan.home(dataset, owner, run, seed, stage)
    drawn = {**entry, "stage": stage, "files": plan.shards(home, stage, dataset, split)}
    if stage == "crf":  # which exponent to show
        drawn["metrics"] = [plan.metrics(dataset, owner, run, seed, stage, split)]
    return drawn


def entries(drawing: dict) -> list[dict]:
    """The cells of a table or of a figure's rows, the curves, the columns of pictures."""
    cells = [cell for row in drawing.get("rows", []) for cell in row["cells"]]
    return [*cells, *drawing.get("series", []), *drawing.get("columns", [])]


def files(entry: dict) -> list[str]:
    """The files that one entry of a drawing is read from."""
    return [*entry.get("metrics", []), *entry.get("files", []), *([entry["model"]] if "model" in entry else [])]


def inputs(drawing: dict) -> list[str]:
    """Every file a drawing reads."""
    index = [str(Path(drawing["data"]) / "index.csv")] if "data" in drawing else []
    return sorted({*index, *(path for entry in entries(drawing) for path in files(entry))})


def spec(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> dict:
    """The resolved spec of a table (``kind`` tables) or figure (figures)."""
    choose(plan.papers, paper, "paper")
    return {"tables": table, "figures": figure}[kind](plan, dataset, paper, name)


def about(plan: Plan, kind: str, paper: str, name: str) -> dict:
    """A drawing's entry in its paper file."""
    return choose(choose(plan.papers, paper, "paper")[kind], name, f"one of the {kind} of {paper}")


def everything(plan: Plan) -> list[tuple[str, str, str]]:
    """(paper, tables or figures, name) of all that the configured papers show."""
    return [
        (paper, kind, name)
        for paper, content in plan.papers.items()
        for kind in ("tables", "figures")
        for name in content.get(kind, {})
    ]


def obstacle(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> str | None:
    """Why a drawing cannot be made for a data set. (Tables can: their cells say what is missing.)"""
    drawing = about(plan, kind, paper, name)
    shown = drawing.get("series", []) + drawing.get("columns", []) if kind == "figures" else []
    owners = [papers.owner_of(entry["run"], paper)[0] for entry in shown if "run" in entry]
    foreign = [f"paper {owner} is not among those configured" for owner in owners if owner not in plan.papers]
    return _companion(plan, dataset, drawing)[1] or next(iter(foreign), None)


def folder(plan: Plan, dataset: str, kind: str, paper: str, name: str) -> str:
    """Where a drawing is written."""
    return str(plan.results / dataset / kind / f"{paper}_{name}")


def targets(plan: Plan, dataset: str) -> list[tuple[str, str, str]]:
    """Everything a person can ask for by name: (``<paper>_<name>``, tables or figures, its folder)."""
    return [
        (f"{paper}_{name}", kind, folder(plan, dataset, kind, paper, name))
        for paper, kind, name in everything(plan)
        if obstacle(plan, dataset, kind, paper, name) is None
    ]


def paper_of(name: str) -> str:
    """The paper of a table or figure called ``<paper>_<name>``; a paper's own name is itself."""
    return name.split("_", 1)[0]


def words(plan: Plan, dataset: str) -> dict[str, list[str]]:
    """What a person may type, with the tables and figures it means: a name, a paper for all of its, ``everything``."""
    known = [name for name, _, _ in targets(plan, dataset)]
    of_papers = {paper: [name for name in known if paper_of(name) == paper] for paper in plan.papers}
    return {name: [name] for name in known} | of_papers | {"everything": known}


def meaning_of(plan: Plan, word: str) -> str:
    """What a person gets for one of ``words``."""
    known = {f"{paper}_{name}": about(plan, kind, paper, name)["title"] for paper, kind, name in everything(plan)}
    of = "all papers" if word == "everything" else word
    return known.get(word, f"All tables and figures of {of}")


def chosen(plan: Plan, dataset: str, asked: Iterable[str]) -> list[str]:
    """The tables and figures that all these words mean, each once.

    Raises:
        WsssError: a word means none.
    """
    meaning = words(plan, dataset)
    return list(dict.fromkeys(name for word in asked for name in choose(meaning, word, "table, figure or paper")))


def default(plan: Plan, dataset: str) -> list[str]:
    """What is made when no target is named: the configured ``targets``, else those of the data set's whose papers are
    configured."""
    if asked := plan.config.get("targets"):
        return chosen(plan, dataset, [asked] if isinstance(asked, str) else asked)
    own = plan.dataset(dataset).get("targets", "everything")
    names = [own] if isinstance(own, str) else own
    return chosen(plan, dataset, [name for name in names if name == "everything" or paper_of(name) in plan.papers])
