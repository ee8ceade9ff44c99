"""Names of classes: which names are refused, and which class a text means."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from wsss.stores import IGNORE

BACKGROUND = {"background", "bg", "void", "unlabeled", "unlabelled", "ignore"}
NO_CLASS = {  # columns that tables of annotations have besides classes
    "crowd", "difficult", "fold", "group", "height", "index", "iscrowd", "is_crowd", "mask", "occluded", "split",
    "truncated", "val", "width",
}  # fmt: skip


def clean(name: str) -> str:
    """Strip a name and compose its letters: the same letter can be one character, or a base and an accent."""
    return unicodedata.normalize("NFC", name).strip()


def same(name: str) -> str:
    """Return a form of a name that is equal for names which differ only in capitals, spaces or composition."""
    return " ".join(clean(name).casefold().split())


def find(name: str, classes: Iterable[str]) -> str:
    """Return the class that ``name`` means beyond doubt, or ``name`` itself."""
    names = list(classes)
    if name in names:
        return name
    meant = [known for known in names if same(known) == same(name)]
    return meant[0] if len(meant) == 1 else name


def faults(classes: Sequence[str]) -> list[str]:
    """List what is wrong with the names of all classes, and with their number."""
    findings = [f"class '{name}' occurs {n} times" for name, n in Counter(classes).items() if n > 1]
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(classes):
        alike[same(name)].append(name)
        if same(name).strip("_") in BACKGROUND:
            findings.append(
                f"'{name}' is no class: what is no object has the value 0 in masks and no label; leave it out"
            )
        if not clean(name):
            findings.append("a class has no name; write it, or leave it out")
    for names in alike.values():
        if len(names) > 1:
            findings.append(f"classes {' and '.join(map(repr, names))} differ in capitals or spaces alone; write one")
    if not 0 < len(classes) < IGNORE:
        findings.append(f"{len(classes)} classes; there must be 1 to {IGNORE - 1}")
    return findings


def advice(name: str, classes: Sequence[str]) -> str:
    """Say what to write in place of a label that is no class."""
    for separator in ",|/":
        parts = [find(part, classes) for part in map(clean, name.split(separator))]
        if len(parts) > 1 and all(part in classes for part in parts):
            return f"write '{';'.join(parts)}'"
    bare = {_bare(known): known for known in classes}
    near = difflib.get_close_matches(_bare(name), bare, n=1)
    hint = f"did you mean '{bare[near[0]]}'? " if near else ""
    return f"{hint}correct it to one of {', '.join(classes)}"


def _bare(name: str) -> str:
    return "".join(letter for letter in same(name) if letter.isalnum())
