"""The sentences below a table: what a reader must know beside the numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wsss.report.cells import MARKS, RULE, Cell
from wsss.report.drawing import CellSpec, Row, TableDrawing, row_name
from wsss.report.grid import Grid

# stage -> what its point "best" is the best of
SELECTED = {"cam": "background thresholds", "crf": "CRF exponents", "pamr": "PAMR exponents"}
CHOSEN = ("best", "highest")  # operating points that are chosen by what they measure
ONE_RUN = ("metrics", "metric", "class", "at")  # keys of a cell that say which result it shows


@dataclass
class Reasons:
    """Letters for the reasons why a cell has no verdict, in the order in which they come up."""

    letters: dict[str, str] = field(default_factory=dict)

    def letter(self, reason: str) -> str:
        """Return the letter of a reason, a new one for a new reason."""
        following = nth_letter(len(self.letters))
        return self.letters.setdefault(reason, following)


def nth_letter(index: int) -> str:
    """Count in letters: a, b, ..., z, aa, ab, ..."""
    letter = chr(ord("a") + index % 26)
    return letter if index < 26 else nth_letter(index // 26 - 1) + letter


def notes(drawing: TableDrawing, grid: Grid, reasons: Reasons, worded: bool) -> list[str]:
    """Write all notes of a table, in order.

    Args:
        drawing: the drawing of the table.
        grid: its cells as they are printed.
        reasons: letters for missing verdicts.
        worded: verdicts are words, not marks.
    """
    return [
        *_ours(drawing, grid),
        *_chosen_epochs(drawing),
        *_data_set(drawing, grid),
        *_one_run(drawing),
        *_rule(grid, worded),
        *_missing_verdicts(reasons),
        *_quoted_columns(grid),
        *_ground_truth(drawing, grid),
        *_table(drawing),
        *_rows(drawing),
    ]


# ---- ours


def _ours(drawing: TableDrawing, grid: Grid) -> list[str]:
    """Say on which data and with how many seeds ours was made, and what was selected for it."""
    seeds = _seeds(grid)
    made = _made(drawing, seeds) if seeds else "Ours: no cell of this table can be computed here."
    return [made + selection(_computed(drawing))]


def _seeds(grid: Grid) -> list[int]:
    """List the numbers of seeds that cells were computed with."""
    numbers = {len(cell.values) for cell in grid.cells()}
    return sorted(numbers - {0})


def _made(drawing: TableDrawing, seeds: list[int]) -> str:
    """Say on which data, and with how many seeds, ours was made."""
    datasets: dict[str, None] = {}
    for spec in _computed(drawing):
        name = spec.get("dataset", drawing["dataset"])
        datasets[name] = None
    plural = "s" if len(datasets) > 1 else ""
    on = f"data set{plural} {_listed(list(datasets))}"
    counts = " or ".join(map(str, seeds))
    if seeds[-1] == 1:
        return f"Ours: {on}, {counts} seed."
    return f"Ours: {on}, {counts} seeds, mean ± standard deviation."


def selection(computed: Iterable[CellSpec]) -> str:
    """Say what was chosen for the best of what was computed, and on what."""
    stages = {spec["stage"] for spec in computed if spec["at"] in CHOSEN}
    chosen = [name for stage, name in SELECTED.items() if stage in stages]
    if not chosen:
        return ""
    return f" {_capital(_listed(chosen))} were selected on the ground truth of the images they are measured on."


def _capital(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[0].upper() + text[1:]


def _listed(names: list[str]) -> str:
    """List names as a sentence does: ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _chosen_epochs(drawing: TableDrawing) -> list[str]:
    """Say of which rows the classifier's epoch was chosen on masks, and out of which epochs."""
    rows: dict[str, dict[str, None]] = defaultdict(dict)
    for row in drawing["rows"]:
        for spec in row["cells"]:
            if spec.get("metrics") and spec.get("chosen"):
                rows[spec["chosen"]][row_name(row)] = None
    kept = "the classifier is that of the epoch with the highest mIoU of class maps on the masks of the measured images"
    return [f"{', '.join(names)}: {kept}, out of {epochs}." for epochs, names in rows.items()]


def _data_set(drawing: TableDrawing, grid: Grid) -> list[str]:
    """Repeat the note of the data set, where anything was computed on it."""
    note = drawing.get("dataset_note")
    return [note] if note and _seeds(grid) else []


def _one_run(drawing: TableDrawing) -> list[str]:
    """Say which rows show the same results of ours, since a data set has one stand-in for several networks."""
    rows: dict[str, list[str]] = defaultdict(list)
    for row in drawing["rows"]:
        if _has_run(row):
            rows[_asked(row)].append(row_name(row))
    why = f"one run of ours, since their settings are the same on data set {drawing['dataset']}"
    return [f"{', '.join(names)}: {why}." for names in rows.values() if len(names) > 1]


def _has_run(row: Row) -> bool:
    """Tell whether any cell of a row was computed."""
    return any(spec.get("metrics") for spec in row["cells"])


def _asked(row: Row) -> str:
    """Spell the results that a row shows; equal rows are equal texts."""
    results = map(_result, row["cells"])
    return repr(list(results))


def _result(spec: CellSpec) -> list[Any]:
    """Return what says which result a cell shows."""
    return [spec.get(key) for key in ONE_RUN]


def _computed(drawing: TableDrawing) -> Iterator[CellSpec]:
    """Yield the cells that have a run."""
    for row in drawing["rows"]:
        for spec in row["cells"]:
            if spec.get("metrics"):
                yield spec


# ---- verdicts


def _rule(grid: Grid, worded: bool) -> list[str]:
    """State the rule behind the verdicts, after the meaning of the marks."""
    if not any(cell.verdict in MARKS for cell in grid.cells()):
        return []
    if worded:
        return [f"Verdict: {RULE}."]
    meaning = ", ".join(f"{mark} {name}" for name, mark in MARKS.items())
    return [f"Verdict: {meaning}. {_capital(RULE)}."]


def _missing_verdicts(reasons: Reasons) -> list[str]:
    """Say what each letter stands for."""
    return [f"{letter}: {reason}." for reason, letter in reasons.letters.items()]


# ---- what is reported


def _quoted_columns(grid: Grid) -> list[str]:
    """Say why some columns show reported values alone, in one sentence for all with the same reasons."""
    columns: dict[str, list[str]] = defaultdict(list)
    for j, head in enumerate(grid.columns):
        if grid.kinds[j] == "quoted":
            why = _because(grid.column(j))
            columns[why].append(head.label)
    return [f"{', '.join(names)}: {why}." for why, names in columns.items()]


def _because(column: list[Cell]) -> str:
    """Give the reasons of the cells with a reported value, and the further ones of the cells without."""
    shown = dict.fromkeys(cell.verdict for cell in column if cell.reported is not None)
    every = dict.fromkeys(cell.verdict for cell in column)
    further = [why for why in every if why not in shown]
    parts = []
    if shown:
        parts.append(f"reported values alone ({'; '.join(shown)})")
    if further:
        parts.append(f"– {'; '.join(further)}")
    return ", ".join(parts)


def _ground_truth(drawing: TableDrawing, grid: Grid) -> list[str]:
    """Name the ground truth of the reported numbers, where there are any."""
    truth = drawing.get("ground_truth")
    reported = any(cell.reported is not None for cell in grid.cells())
    return [f"Ground truth of the reported numbers: {truth}"] if truth and reported else []


def _table(drawing: TableDrawing) -> list[str]:
    """Repeat the note of the table."""
    note = drawing.get("note")
    return [note] if note else []


def _rows(drawing: TableDrawing) -> list[str]:
    """Repeat the notes of rows, each after the label of its row."""
    found = []
    for row in drawing["rows"]:
        note = row.get("note")
        if note:
            found.append(f"{row['label']}: {note}" if row["label"] else note)
    return found
