"""Judged claims as lines of a table, and the sentences beside them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from wsss.report.drawing import CellSpec, ClaimsDrawing
from wsss.report.judging import MARKS, NOT_RUN, RULE, VERDICTS, Judged, JudgedClaim, in_words
from wsss.report.notes import selection

NONE = "–"
RATIOS = ("under", "over")  # metrics that are no percentage


@dataclass(frozen=True)
class Line:
    """A line of the table of claims: a claim (``says``), or one of its several comparisons.

    Args:
        says: the sentence of the claim; empty for a comparison of it.
        compared: what is compared.
        verdict: mark and word.
        reported, ours, interval, seeds: numbers as texts.
        source: where the claim stands.
        key: the verdict alone, by which it is coloured.
        reason: why the verdict is what it is.
        paper: the paper's name in the configuration.
    """

    says: str
    compared: str
    verdict: str
    reported: str = ""
    ours: str = ""
    interval: str = ""
    seeds: str = ""
    source: str = ""
    key: str = ""
    reason: str = ""
    paper: str = ""


def plot_says(judged: list[JudgedClaim]) -> str:
    """Say what a forest plot of claims shows."""
    counts = in_words([claim.verdict for claim in judged])
    return f"Forest plot of {len(judged)} claims, the reported difference and ours with its interval: {counts}."


def grouped(judged: list[JudgedClaim]) -> list[tuple[str, list[Line]]]:
    """List (verdict, lines) for every verdict that occurs, in the order of ``VERDICTS``."""
    found = []
    for verdict in VERDICTS:
        lines = []
        for claim in judged:
            if claim.verdict == verdict:
                lines += lines_of(claim)
        if lines:
            found.append((verdict, lines))
    return found


def lines_of(claim: JudgedClaim) -> list[Line]:
    """Return the lines of a claim: one, or where it has several comparisons one for it and one for each."""
    if len(claim.comparisons) == 1:
        return [headline(claim)]
    return [_whole(claim), *map(_part, claim.comparisons)]


def headline(claim: JudgedClaim) -> Line:
    """Return a claim in one line: of several comparisons the one that decides."""
    one = claim.weakest
    number = len(claim.comparisons)
    paper, _, _ = claim.name.partition("/")
    more = ""
    if number > 1 and not one.missing:
        more = f", weakest of {number}"
    return Line(
        says=claim.says,
        compared=_compared(one, more),
        verdict=_marked(claim.verdict),
        **_numbers(one),
        source=_source(claim),
        key=claim.verdict,
        reason=one.reason,
        paper=paper,
    )


def _whole(claim: JudgedClaim) -> Line:
    """Return the line of a claim above those of its comparisons."""
    weakest = claim.weakest
    return Line(
        says=claim.says,
        compared="",
        verdict=_marked(claim.verdict),
        source=_source(claim),
        key=claim.verdict,
        reason=f"{_compared(weakest)}: {weakest.reason}",
    )


def _part(one: Judged) -> Line:
    """Return the line of one of several comparisons."""
    return Line(
        says="",
        compared=_compared(one),
        verdict=_marked(one.verdict),
        **_numbers(one),
        key=one.verdict,
        reason=one.reason,
    )


def _marked(verdict: str) -> str:
    """Write a verdict with its mark before it."""
    return f"{MARKS[verdict]} {verdict}"


def _source(claim: JudgedClaim) -> str:
    """Say where a claim stands."""
    return f"{claim.paper}, {claim.source}"


def _compared(one: Judged, more: str = "") -> str:
    """Name the two sides, then ``more``, then why they were not compared."""
    text = one.label.replace(" - ", " − ") + more
    if one.missing:
        return f"{text} ({one.missing})"
    return text


def _numbers(one: Judged) -> dict[str, str]:
    """Write the numbers of a comparison."""
    seeds = len(one.differences)
    return {
        "reported": signed(one.reported),
        "ours": signed(one.mean),
        "interval": _interval(one),
        "seeds": str(seeds) if seeds else NONE,
    }


def _interval(one: Judged) -> str:
    """Write the interval of a comparison."""
    if one.interval is None:
        return NONE
    low, high = one.interval
    return f"{signed(low)} to {signed(high)}"


def signed(value: float | None) -> str:
    """Write a difference in points: ``+2.47``."""
    if value is None:
        return NONE
    text = f"{value:+.2f}"
    return text.replace("-", "−")


def notes(drawing: ClaimsDrawing, judged: list[JudgedClaim]) -> list[str]:
    """List the sentences that a reader needs beside the numbers."""
    computed = _computed(drawing)
    return [
        _made(drawing, judged, computed),
        *_ratios(computed),
        *_data_set(drawing, computed),
        f"Rule: {RULE}.",
        *_not_run(judged),
    ]


def _computed(drawing: ClaimsDrawing) -> list[CellSpec]:
    """List the sides of comparisons that have a run."""
    sides = chain.from_iterable(row["cells"] for row in drawing["rows"])
    return [side for side in sides if side.get("metrics")]


def _made(drawing: ClaimsDrawing, judged: list[JudgedClaim], computed: list[CellSpec]) -> str:
    """Say on which data and with how many seeds ours was made, and what was selected for it."""
    comparisons = chain.from_iterable(claim.comparisons for claim in judged)
    seeds = {len(one.differences) for one in comparisons} - {0}
    if not seeds:
        return "Ours: no claim can be judged here."
    counts = " or ".join(map(str, sorted(seeds)))
    plural = "" if seeds == {1} else "s"
    return f"Ours: data set {drawing['dataset']}, {counts} seed{plural}.{selection(computed)}"


def _ratios(computed: list[CellSpec]) -> list[str]:
    """Explain metrics that are no percentage."""
    if not any(cell["metric"] in RATIOS for cell in computed):
        return []
    return [
        "Under-activation counts missed pixels, over-activation wrongly found ones, per hundred rightly found pixels."
    ]


def _data_set(drawing: ClaimsDrawing, computed: list[CellSpec]) -> list[str]:
    """Repeat the note of the data set, where anything was computed on it."""
    note = drawing.get("dataset_note")
    if note and computed:
        return [note]
    return []


def _not_run(judged: list[JudgedClaim]) -> list[str]:
    """Say what it means that claims were not run."""
    if not any(claim.verdict == NOT_RUN for claim in judged):
        return []
    return ["Not run: at least one comparison could not be made; the reason stands beside it."]
