"""What of a table goes where on the page: heads, texts, marks and the notes that explain them."""

from __future__ import annotations

from dataclasses import dataclass

from wsss.report.cells import RULE, Cell

MARKS = {"reproduced": "✓", "partly": "≈", "not": "✗"}
FULL = ("reported", "ours", "difference", "verdict")  # what a column with runs shows
NONE = "–"


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

    A value column without any run shows reported values alone. ``transpose`` prints columns as rows.
    """
    rows = [(row["label"], row.get("attributes", {})) for row in plan["rows"]]
    columns = [(column["label"], {}) for column in plan["columns"]]
    runs = [[bool(spec.get("run")) for spec in row["cells"]] for row in plan["rows"]]
    digits = [_digits([row[j] for row in cells]) for j in range(len(columns))]
    grid = [list(zip(row, has, digits, strict=True)) for row, has in zip(cells, runs, strict=True)]
    attributes = plan.get("attributes", [])
    if plan.get("transpose"):
        rows, columns, attributes, grid = columns, rows, [], [list(line) for line in zip(*grid, strict=True)]

    full = [any(line[j][1] for line in grid) for j in range(len(columns))]
    reasons, word = Reasons(), sum(full) == 1
    lines = [
        {
            "label": label,
            "attributes": [words.get(attribute["key"], "") for attribute in attributes],
            "values": [t for entry, f in zip(line, full, strict=True) for t in _texts(entry, f, reasons, word)],
        }
        for (label, words), line in zip(rows, grid, strict=True)
    ]
    return View(
        attributes=[attribute["label"] for attribute in attributes],
        heads=[(label, len(FULL) if f else 1) for (label, _), f in zip(columns, full, strict=True)],
        subheads=[text for f in full for text in (FULL if f else FULL[:1])],
        lines=lines,
        notes=_notes(plan, grid, full, reasons, word),
    )


def _digits(cells: list[Cell]) -> tuple[int, int]:
    """Decimals of a column's reported values, as many as the paper prints, and of ours."""
    reported = [cell.reported for cell in cells if cell.reported is not None]
    ours = 3 if any(cell.scale == 1 for cell in cells) else 2
    return max((len(repr(value).partition(".")[2]) for value in reported), default=ours), ours


def _texts(entry: tuple[Cell, bool, tuple[int, int]], full: bool, reasons: Reasons, word: bool) -> list[str]:
    cell, _, (decimals, own_decimals) = entry
    reported = _number(cell.reported, cell.reported_spread, decimals)
    if not full:
        return [reported]
    verdict = cell.verdict
    difference = NONE if cell.difference is None else f"{cell.difference:+.{own_decimals}f}".replace("-", "−")
    mark = (verdict if word else MARKS[verdict]) if verdict in MARKS else reasons.letter(verdict)
    return [reported, _number(cell.mean, cell.spread, own_decimals), difference, mark]


def _number(value: float | None, spread: float | None, decimals: int) -> str:
    if value is None:
        return NONE
    return f"{value:.{decimals}f}" + ("" if spread is None else f" ± {spread:.{decimals}f}")


def _notes(plan: dict, grid: list, full: list[bool], reasons: Reasons, word: bool) -> list[str]:
    """What a reader must know beside the numbers: data set, seeds, how thresholds were chosen, what the marks mean."""
    cells = [cell for line in grid for cell, _, _ in line]
    seeds = max((len(cell.values) for cell in cells), default=0)
    if seeds:
        spread = ", mean ± standard deviation" if seeds > 1 else ""
        specs = (spec for row in plan["rows"] for spec in row["cells"] if spec.get("metrics"))
        datasets = list(dict.fromkeys(spec.get("dataset", plan["dataset"]) for spec in specs))
        on = f"data set{'s' if len(datasets) > 1 else ''} {' and '.join(datasets)}"
        found = [f"Ours: {on}, {seeds} seed{'s' if seeds != 1 else ''}{spread}."]
    else:
        found = ["Ours: no cell of this table can be computed here."]
    if any(spec.get("at") == "best" and spec.get("metrics") for row in plan["rows"] for spec in row["cells"]):
        found.append(
            "Operating points marked best were selected on the ground truth of the images they are measured on."
        )
    if any(cell.verdict in MARKS for cell in cells):
        marks = "" if word else "".join(f"{mark} {name}, " for name, mark in MARKS.items()).rstrip(", ") + ". "
        found.append(f"Verdict: {marks}{RULE[0].upper()}{RULE[1:]}." if marks else f"Verdict: {RULE}.")
    found += reasons.notes()
    quoted = dict.fromkeys(line[j][0].verdict for line in grid for j, f in enumerate(full) if not f)
    found += [f"Columns of reported values alone are {'; '.join(quoted)}."] if quoted else []
    found += [plan["note"]] if plan.get("note") else []
    labelled = [(row["label"], row["note"]) for row in plan["rows"] if row.get("note")]
    return found + [f"{label}: {note}" if label else note for label, note in labelled]


def _letters(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"{_letters(index // 26 - 1)}{_letters(index % 26)}"
