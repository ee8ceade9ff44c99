"""Lists of names in sentences."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 3  # names that are said before the rest is counted


def counted(names: Sequence[str]) -> str:
    """List the first of some names, and count the rest: ``a, b, c and 2 more``."""
    text = ", ".join(names[:NAMED])
    rest = len(names) - NAMED
    return f"{text} and {rest} more" if rest > 0 else text
