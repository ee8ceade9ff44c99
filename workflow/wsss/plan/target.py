"""A target: a table, a figure or the claims of a paper, which a person asks for by a word."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """A table, a figure or claims that a person can ask for.

    Args:
        paper: the paper; empty for the claims of all papers.
        kind: tables, figures or claims.
        name: the table or figure; claims have the name ``claims``.
    """

    paper: str
    kind: str
    name: str

    @property
    def word(self) -> str:
        """The word that a person types: ``seam_table2``, ``claims``."""
        return f"{self.paper}_{self.name}" if self.paper else self.name

    @classmethod
    def of(cls, kind: str, word: str) -> Target:
        """Return the target of a kind that a word means."""
        split = word.rpartition if kind == "claims" else word.partition
        paper, _, name = split("_")
        return cls(paper, kind, name)
