"""Verdicts as a page shows them: a mark, a word, a colour, and the reason behind them."""

from __future__ import annotations

from typing import NamedTuple

from wsss.report.cells import MARKS

MISSING = "–"  # the mark where there is no verdict
WORDS = {"not": "not reproduced"}  # for a verdict outside of a table's cells, where its own name says too little
GROUNDS = {  # start of the reason for a missing verdict -> its word
    "not comparable": "not comparable",
    "not reported": "not reported",
    "quoted": "quoted",
    "no value": "no value",
}


class Badge(NamedTuple):
    """A verdict on a page.

    Args:
        mark: its mark, which tells it from others without colour.
        word: its word.
        look: the class of its colour.
        reason: why there is no verdict; empty where there is one.
    """

    mark: str
    word: str
    look: str
    reason: str = ""


def badge(verdict: str) -> Badge:
    """Return the badge of a cell's verdict, or of the reason why there is none."""
    if verdict in MARKS:
        return Badge(MARKS[verdict], WORDS.get(verdict, verdict), verdict)
    if "has no value" in verdict:  # computed, but not a number
        return Badge(MISSING, "no value", "none", verdict)
    for start, word in GROUNDS.items():
        if verdict.startswith(start):
            return Badge(MISSING, word, "none", verdict)
    return Badge(MISSING, "not computed", "none", verdict)
