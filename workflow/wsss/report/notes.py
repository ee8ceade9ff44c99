"""The sentences below a table: what a reader must know beside the numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase
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
        if reason not in self.letters:
            self.letters[reason] = nth_letter(len(self.letters))
        return self.letters[reason]


def nth_letter(index: int) -> str:
    """Count in letters: a, b, ..., z, aa, ab, ..."""
    before, at = divmod(index, len(ascii_lowercase))
    letter = ascii_lowercase[at]
    if not before:
        return letter
    return nth_letter(before - 1) + letter


def notes(
    drawing: TableDrawing,
    grid: Grid,
    reasons: Reasons,
    worded: bool,
) -> list[str]:
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
    made = "Ours: no cell of this table can be computed here."
    if seeds:
        made = _made(drawing, seeds)
    chosen = selection(_computed(drawing))
    return [made + chosen]


def _seeds(grid: Grid) -> list[int]:
    """List the numbers of seeds that cells were computed with."""
    numbers = {len(cell.values) for cell in grid.cells()}
    return sorted(numbers - {0})


def _made(drawing: TableDrawing, seeds: list[int]) -> str:
    """Say on which data, and with how many seeds, ours was made."""
    on = _datasets(drawing)
    counts = " or ".join(map(str, seeds))
    if seeds[-1] == 1:
        return f"Ours: {on}, {counts} seed."
    return f"Ours: {on}, {counts} seeds, mean ± standard deviation."


def _datasets(drawing: TableDrawing) -> str:
    """Name the data sets on which cells were computed: ``data set shapes``."""
    found: dict[str, None] = {}
    for spec in _computed(drawing):
        name = spec.get("dataset", drawing["dataset"])
        found[name] = None
    names = _listed(list(found))
    return f"data sets {names}" if len(found) > 1 else f"data set {names}"


def selection(computed: Iterable[CellSpec]) -> str:
    """Say which thresholds or exponents were chosen for computed cells, and on which masks."""
    stages = {spec["stage"] for spec in computed if spec["at"] in CHOSEN}
    chosen = [name for stage, name in SELECTED.items() if stage in stages]
    if not chosen:
        return ""
    names = _capital(_listed(chosen))
    return f" {names} were selected on the ground truth of the images they are measured on."


def _capital(text: str) -> str:
    """Begin a text with a capital letter."""
    first = text[0]
    return first.upper() + text[1:]


def _listed(names: list[str]) -> str:
    """List names as a sentence does: ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    *others, last = names
    return f"{', '.join(others)} and {last}"


def _chosen_epochs(drawing: TableDrawing) -> list[str]:
    """Say for which rows the classifier's epoch was chosen on masks, and out of which epochs."""
    rows: dict[str, dict[str, None]] = defaultdict(dict)
    for row, spec in _computed_by_row(drawing):
        epochs = spec.get("chosen")
        if epochs:
            name = row_name(row)
            rows[epochs][name] = None
    kept = "the classifier is that of the epoch with the highest mIoU of class maps on the masks of the measured images"
    found = []
    for epochs, names in rows.items():
        of_rows = ", ".join(names)
        found.append(f"{of_rows}: {kept}, out of {epochs}.")
    return found


def _data_set(drawing: TableDrawing, grid: Grid) -> list[str]:
    """Repeat the note of the data set, where anything was computed on it."""
    note = drawing.get("dataset_note")
    if note and _seeds(grid):
        return [note]
    return []


def _one_run(drawing: TableDrawing) -> list[str]:
    """Say which rows show the same results of ours, since one network stands in for several on the data set."""
    rows: dict[str, list[str]] = defaultdict(list)
    for row in drawing["rows"]:
        if _has_run(row):
            asked = _asked(row)
            rows[asked].append(row_name(row))
    why = f"one run of ours, since their settings are the same on data set {drawing['dataset']}"
    found = []
    for names in rows.values():
        if len(names) > 1:
            of_rows = ", ".join(names)
            found.append(f"{of_rows}: {why}.")
    return found


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
    for _, spec in _computed_by_row(drawing):
        yield spec


def _computed_by_row(drawing: TableDrawing) -> Iterator[tuple[Row, CellSpec]]:
    """Yield the cells that have a run, each with its row."""
    for row in drawing["rows"]:
        for spec in row["cells"]:
            if spec.get("metrics"):
                yield row, spec


# ---- verdicts


def _rule(grid: Grid, worded: bool) -> list[str]:
    """State the rule behind the verdicts, after the meaning of the marks."""
    if not any(cell.verdict in MARKS for cell in grid.cells()):
        return []
    if worded:
        return [f"Verdict: {RULE}."]
    meanings = [f"{mark} {name}" for name, mark in MARKS.items()]
    marks = ", ".join(meanings)
    rule = _capital(RULE)
    return [f"Verdict: {marks}. {rule}."]


def _missing_verdicts(reasons: Reasons) -> list[str]:
    """Say what each letter stands for."""
    letters = reasons.letters.items()
    return [f"{letter}: {reason}." for reason, letter in letters]


# ---- what is reported


def _quoted_columns(grid: Grid) -> list[str]:
    """Say why some columns show reported values alone, in one sentence for all with the same reasons."""
    columns: dict[str, list[str]] = defaultdict(list)
    for j, head in enumerate(grid.columns):
        if grid.kinds[j] != "quoted":
            continue
        why = _because(grid.column(j))
        columns[why].append(head.label)
    found = []
    for why, names in columns.items():
        of_columns = ", ".join(names)
        found.append(f"{of_columns}: {why}.")
    return found


def _because(column: list[Cell]) -> str:
    """Say why cells with a reported value have no verdict, then the other reasons, of cells without such a value."""
    reported = [cell for cell in column if cell.reported is not None]
    shown = _reasons(reported)
    further = [why for why in _reasons(column) if why not in shown]
    parts = []
    if shown:
        listed = "; ".join(shown)
        parts.append(f"reported values alone ({listed})")
    if further:
        listed = "; ".join(further)
        parts.append(f"– {listed}")
    return ", ".join(parts)


def _reasons(cells: list[Cell]) -> list[str]:
    """List the reasons why cells have no verdict, each once."""
    found = dict.fromkeys(cell.verdict for cell in cells)
    return list(found)


def _ground_truth(drawing: TableDrawing, grid: Grid) -> list[str]:
    """Name the ground truth of the reported numbers, where there are any."""
    truth = drawing.get("ground_truth")
    reported = any(cell.reported is not None for cell in grid.cells())
    if truth and reported:
        return [f"Ground truth of the reported numbers: {truth}"]
    return []


def _table(drawing: TableDrawing) -> list[str]:
    """Repeat the note of the table."""
    note = drawing.get("note")
    return [note] if note else []


def _rows(drawing: TableDrawing) -> list[str]:
    """Repeat the notes of rows, each after the label of its row."""
    found = []
    for row in drawing["rows"]:
        label = row["label"]
        note = row.get("note")
        if note:
            found.append(f"{label}: {note}" if label else note)
    return found
