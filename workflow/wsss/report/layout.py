"""What of a table goes where on the page: heads, texts, marks and the notes that explain them."""

from __future__ import annotations

from dataclasses import dataclass

from wsss.report.cells import RULE, Cell

MARKS = {"reproduced": "✓", "partly": "≈", "not": "✗"}
SHOWN = {  # kind of column -> what it shows
    "compared": ("reported", "ours", "difference", "verdict"),
    "ours": ("ours",),  # nobody reported a value of it
    "quoted": ("reported",),  # no cell of it can be computed
}
NONE = "–"
SELECTED = {"seed": "background thresholds", "crf": "CRF exponents"}  # stage -> what its point "best" is the best of


@dataclass(frozen=True)
class View:
    """A table as texts.

    ``attributes``: heads of the columns of words; ``heads``: (text, how many columns below it); ``subheads``: one per
    value column; ``lines``: label, attributes and values of each row; ``notes``: sentences below.
    """

    attributes: list[str]
    heads: list[tuple[str, int]]
    subheads: list[str]
    lines: list[dict]
    notes: list[str]


class Reasons:
    """Letters for the reasons why a cell has no verdict, in the order in which they come up."""

    def __init__(self):
        self.letters: dict[str, str] = {}

    def letter(self, reason: str) -> str:
        return self.letters.setdefault(reason, _letters(len(self.letters)))

    def notes(self) -> list[str]:
        return [f"{letter}: {reason}." for reason, letter in self.letters.items()]


def view(plan: dict, cells: list[list[Cell]]) -> View:
    """Lay out a resolved table plan (``plan.drawings.table``) whose cells, row by row, have been read.

    A value column that cannot be computed shows reported values alone, one without any reported value ours alone.
    ``transpose`` prints columns as rows.
    """
    rows = [(row["label"], row.get("attributes", {})) for row in plan["rows"]]
    columns = [(column["label"], {}) for column in plan["columns"]]
    runs = [[bool(spec.get("metrics")) for spec in row["cells"]] for row in plan["rows"]]
    grid = [list(zip(*parts, strict=True)) for parts in zip(cells, runs, _digits(plan, cells), strict=True)]
    attributes = plan.get("attributes", [])
    if plan.get("transpose"):
        rows, columns, attributes, grid = columns, rows, [], [list(line) for line in zip(*grid, strict=True)]

    kinds = [_kind([line[j] for line in grid]) for j in range(len(columns))]
    reasons, word = Reasons(), kinds.count("compared") == 1
    lines = [
        {
            "label": label,
            "attributes": [words.get(attribute["key"], "") for attribute in attributes],
            "values": [t for entry, kind in zip(line, kinds, strict=True) for t in _texts(entry, kind, reasons, word)],
        }
        for (label, words), line in zip(rows, grid, strict=True)
    ]
    own = set(kinds) == {"ours"}  # nothing to tell apart
    return View(
        attributes=[attribute["label"] for attribute in attributes],
        heads=[(label, len(SHOWN[kind])) for (label, _), kind in zip(columns, kinds, strict=True)],
        subheads=["" if own else text for kind in kinds for text in SHOWN[kind]],
        lines=lines,
        notes=_notes(plan, [label for label, _ in columns], grid, kinds, reasons, word),
    )


def _kind(column: list[tuple[Cell, bool, tuple[int, int]]]) -> str:
    """What a column can show: can any of its cells be computed, and has any a reported value?"""
    if not any(computed for _, computed, _ in column):
        return "quoted"
    return "compared" if any(cell.reported is not None for cell, _, _ in column) else "ours"


def _digits(plan: dict, cells: list[list[Cell]]) -> list[list[tuple[int, int]]]:
    """Decimals of each cell's reported value and of ours.

    The paper prints as many as the longest value of that column on those images has: a number does not know its
    last zeros.
    """
    alike = [[(j, spec["split"]) for j, spec in enumerate(row["cells"])] for row in plan["rows"]]
    printed: dict[tuple, int] = {}
    for keys, row in zip(alike, cells, strict=True):
        for key, cell in zip(keys, row, strict=True):
            if cell.reported is not None:
                printed[key] = max(printed.get(key, 0), len(repr(cell.reported).partition(".")[2]))
    ours = [[3 if cell.scale == 1 else 2 for cell in row] for row in cells]
    return [
        [(printed.get(key, own), own) for key, own in zip(*pair, strict=True)] for pair in zip(alike, ours, strict=True)
    ]


def _texts(entry: tuple[Cell, bool, tuple[int, int]], kind: str, reasons: Reasons, word: bool) -> list[str]:
    cell, _, (decimals, own_decimals) = entry
    reported = _number(cell.reported, cell.reported_spread, decimals)
    ours = _number(cell.mean, cell.spread, own_decimals)
    verdict = cell.verdict
    if kind == "quoted":
        return [reported]
    if kind == "ours":
        return [ours if cell.values else f"{NONE} {reasons.letter(verdict)}"]
    difference = NONE if cell.difference is None else f"{cell.difference:+.{own_decimals}f}".replace("-", "−")
    mark = (verdict if word else MARKS[verdict]) if verdict in MARKS else reasons.letter(verdict)
    return [reported, ours, difference, mark]


def _number(value: float | None, spread: float | None, decimals: int) -> str:
    if value is None:
        return NONE
    return f"{value:.{decimals}f}" + ("" if spread is None else f" ± {spread:.{decimals}f}")


def _notes(plan: dict, heads: list[str], grid: list, kinds: list[str], reasons: Reasons, word: bool) -> list[str]:
    """What a reader must know beside the numbers: data set, seeds, how thresholds were chosen, what the marks mean."""
    cells = [cell for line in grid for cell, _, _ in line]
    seeds = sorted({len(cell.values) for cell in cells} - {0})
    if seeds:
        spread = ", mean ± standard deviation" if seeds[-1] > 1 else ""
        specs = (spec for row in plan["rows"] for spec in row["cells"] if spec.get("metrics"))
        datasets = list(dict.fromkeys(spec.get("dataset", plan["dataset"]) for spec in specs))
        on = f"data set{'s' if len(datasets) > 1 else ''} {' and '.join(datasets)}"
        found = [f"Ours: {on}, {' or '.join(map(str, seeds))} seed{'s' if seeds[-1] > 1 else ''}{spread}."]
    else:
        found = ["Ours: no cell of this table can be computed here."]
    selected = _selected(plan)
    if selected:
        found[0] += f" {selected} were selected on the ground truth of the images they are measured on."
    if seeds and plan.get("dataset_note"):
        found.append(plan["dataset_note"])
    found += _shared(plan)
    if any(cell.verdict in MARKS for cell in cells):
        marks = "" if word else "".join(f"{mark} {name}, " for name, mark in MARKS.items()).rstrip(", ") + ". "
        found.append(f"Verdict: {marks}{RULE[0].upper()}{RULE[1:]}." if marks else f"Verdict: {RULE}.")
    found += reasons.notes()
    found += _alone(heads, grid, kinds)
    if plan.get("ground_truth") and any(cell.reported is not None for cell in cells):
        found.append(f"Ground truth of the reported numbers: {plan['ground_truth']}")
    found += [plan["note"]] if plan.get("note") else []
    labelled = [(row["label"], row["note"]) for row in plan["rows"] if row.get("note")]
    return found + [f"{label}: {note}" if label else note for label, note in labelled]


def _selected(plan: dict) -> str:
    """What was chosen for the best result: ``Background thresholds and CRF exponents``."""
    shown = (spec for row in plan["rows"] for spec in row["cells"] if spec.get("metrics"))
    selected = {spec["stage"] for spec in shown if spec["at"] in ("best", "highest")}
    names = " and ".join(name for stage, name in SELECTED.items() if stage in selected)
    return names[:1].upper() + names[1:]


def _shared(plan: dict) -> list[str]:
    """Which rows show the same results of ours, since a data set has one stand-in for several networks."""
    rows: dict[str, list[str]] = {}
    for row in plan["rows"]:
        if any(spec.get("metrics") for spec in row["cells"]):
            asked = [[spec.get(key) for key in ("metrics", "metric", "class", "at")] for spec in row["cells"]]
            rows.setdefault(repr(asked), []).append(row_name(row))
    return [
        f"{', '.join(names)}: one run of ours, their settings are the same on data set {plan['dataset']}."
        for names in rows.values()
        if len(names) > 1
    ]


def row_name(row: dict) -> str:
    """A row's label with the words that tell it from others of that label: ``CAM (ACR)``."""
    words = ", ".join(word for word in row.get("attributes", {}).values() if word not in ("✓", "-"))
    return f"{row['label']} ({words})".strip() if words and row["label"] else row["label"] or words


def _alone(heads: list[str], grid: list, kinds: list[str]) -> list[str]:
    """Why some columns show reported values alone, one sentence for all with the same reasons."""
    columns: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for j, head in enumerate(heads):
        if kinds[j] == "quoted":
            column = [line[j][0] for line in grid]
            shown = tuple(dict.fromkeys(cell.verdict for cell in column if cell.reported is not None))
            empty = dict.fromkeys(cell.verdict for cell in column if cell.reported is None)
            columns.setdefault((shown, tuple(why for why in empty if why not in shown)), []).append(head)
    notes = []
    for (shown, empty), names in columns.items():
        values = [f"reported values alone ({'; '.join(shown)})"] if shown else []
        nothing = [f"{NONE} {'; '.join(empty)}"] if empty else []
        notes.append(f"{', '.join(names)}: {', '.join(values + nothing)}.")
    return notes


def _letters(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"{_letters(index // 26 - 1)}{_letters(index % 26)}"
