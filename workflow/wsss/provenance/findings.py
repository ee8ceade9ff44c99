"""Findings of an audit: one line each, the cause first and its consequences folded under it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

KINDS = {
    "modified": "a file is not what its record says",
    "missing": "a file or a record is not there",
    "stale": "a result was made from something that has been made again since, and differently",
    "untraced": "no record says where something comes from",
    "foreign": "something belongs elsewhere",
    "code": "the code of today is not the code that made a result",
    "settings": "the settings beside a result, or those of today, are not those that made it",
    "reported value": "a number does not follow from what it is calculated from",
    "attempt mixed": "a training went on from a checkpoint of other inputs or other code",
}
LONGEST = 400  # characters of what a file says that are printed
NAMED = 3  # consequences named before they are counted


@dataclass
class Finding:
    """One finding.

    Args:
        kind: one of ``KINDS``.
        place: the file, by its name in records or its absolute path.
        text: what is wrong with it.
        rests: the results that rest on it, nearest first.
        records: the records of the jobs that have to run again to mend it.
        culprits: files to set aside with them.
        also: other files of which the same is true.
        today: it is of today's code or settings: the files are as they were made, and Snakemake makes them again.
    """

    kind: str
    place: str
    text: str
    rests: list[str] = field(default_factory=list)
    records: tuple[str, ...] = ()
    culprits: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    today: bool = False

    def line(self, full: bool = False) -> str:
        """Write the finding as a line."""
        line = f"{self.kind}: {clean(self.place)}: {clean(self.text)}"
        if self.also:
            line += f", and so {listed(self.also, len(self.also) if full else NAMED)}"
        if not self.rests:
            return line
        number = "1 result rests" if len(self.rests) == 1 else f"{len(self.rests)} results rest"
        return f"{line}; {number} on it: {listed(self.rests, len(self.rests) if full else NAMED)}"


def listed(names: Iterable[str], most: int = NAMED) -> str:
    """List a few names, and the number of the others."""
    found = [clean(name) for name in names]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def clean(text: object) -> str:
    """Make a text of unknown origin fit for a terminal: no control characters, one line, not too long."""
    found = str(text)[: LONGEST + 1]
    shown = "".join("\N{REPLACEMENT CHARACTER}" if _controls(char) else char for char in found)
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"


def _controls(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
