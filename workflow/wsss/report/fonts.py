"""Fonts for names in many scripts: some that systems have hold the letters that the usual one lacks."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from wsss.errors import some

USUAL = "DejaVu Sans"  # which matplotlib brings
WIDE = (  # fonts of systems: for Chinese, Japanese and Korean, and last one for nearly all scripts
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans", "IPAexGothic",
    "IPAGothic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Arial Unicode MS", "Unifont",
)  # fmt: skip


def families() -> list[str]:
    """List the fonts to write with: the usual one, then those of ``WIDE`` that are installed."""
    there = set(font_manager.fontManager.get_font_names())
    wide = [name for name in WIDE if name in there]
    return [USUAL, *wide]


def unwritable(names: Iterable[str]) -> list[str]:
    """List the names with a letter that none of ``families`` has."""
    letters: set[str] = set()
    for family in families():
        path = font_manager.findfont(family)
        font = FT2Font(path)
        codes = font.get_charmap()
        letters.update(map(chr, codes))
    return [name for name in names if not letters.issuperset(name)]


def say_unwritable(names: Iterable[str]) -> None:
    """Say on stderr, in one line, which names figures cannot write."""
    found = unwritable(names)
    if found:
        line = (
            f"figures show boxes in place of letters of {some(found)}: install the font {WIDE[0]}, "
            f"or for scripts that it lacks {WIDE[-1]}"
        )
        print(line, file=sys.stderr)
