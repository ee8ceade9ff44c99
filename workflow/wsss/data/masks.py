"""What a mask file means, and whether it fits its image's labels.

The values of a mask are the indices of a palette, or the grey levels of 8 bits. Tools that optimise files renumber a
palette and keep its colours. So if the colours in use are VOC's colours of admitted values, but stand at other indices,
the colours decide. Tools also give grey masks a palette. So if all colours of a palette are grey levels that are
admitted values, and one of them is that of a class, they decide, too. No one chooses such dark levels to look at. A
grey palette that uses black and has a lighter first colour is refused where the colours do not decide: nobody can tell
whether a tool or a person made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from wsss.errors import some
from wsss.stores import IGNORE, voc_palette

MODES = ("P", "L")
BLACK = (0, 0, 0)
NO_VALUE = IGNORE + 1  # of a colour that stands for none
CONTRADICTED = 0.5  # the share of images whose masks show none of their labels, above which a data set is refused


def values(mask: Image.Image, highest: int) -> np.ndarray:
    """Read the values of a mask, ``H×W`` uint8.

    Args:
        mask: of mode ``P`` or ``L``.
        highest: the highest value besides 255: the number of classes, or 254 in masks of objects.
    """
    indices = np.array(mask)
    table = _by_colour(mask, highest) if mask.mode == "P" else None
    return indices if table is None else table[indices]


def _by_colour(mask: Image.Image, highest: int) -> np.ndarray | None:
    """Return the table from a palette's indices to the values of its colours; None where the indices are the values."""
    colours = _colours(mask)
    used = np.flatnonzero(mask.histogram()).tolist()
    palettes = [_values_of_colours()]
    if all(map(_is_grey, colours)):
        levels = {level for level, _, _ in colours}
        if any(0 < level <= highest for level in levels) and all(_admitted(level, highest) for level in levels):
            palettes.append({(level, level, level): level for level in levels})
    for known in palettes:
        found = [known.get(colours[index], NO_VALUE) if index < len(colours) else NO_VALUE for index in used]
        if found == used:
            return None
        if len(set(found)) == len(used) and all(_admitted(value, highest) for value in found):
            table = np.arange(IGNORE + 1, dtype=np.uint8)
            table[used] = found
            return table
    return None


def _colours(mask: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours of a palette, in order."""
    flat = mask.getpalette("RGB") or []
    return [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]


def _is_grey(colour: tuple[int, ...]) -> bool:
    return len(set(colour)) == 1


def _admitted(value: int, highest: int) -> bool:
    return value <= highest or value == IGNORE


def _is_inverted(mask: Image.Image) -> bool:
    """Tell whether black stands for something in a grey palette whose first colour is lighter."""
    colours = _colours(mask)
    used = {colours[index] for index in np.flatnonzero(mask.histogram()) if index < len(colours)}
    return BLACK in used and colours[0] != BLACK and all(map(_is_grey, used | {colours[0]}))


@cache
def _values_of_colours() -> dict[tuple[int, ...], int]:
    flat = voc_palette()
    return {tuple(flat[3 * value : 3 * value + 3]): value for value in range(IGNORE + 1)}


def faults(mask: Image.Image, size: tuple[int, int], highest: int) -> list[str]:
    """List what is wrong with a mask: its mode, its size, its values.

    Args:
        mask: the picture.
        size: width and height of its image.
        highest: see :func:`values`.
    """
    if mask.mode not in MODES:
        return [f"mode {mask.mode}; a mask is a palette or grey PNG of 8 bits whose values are class indices"]
    if mask.mode == "P" and _by_colour(mask, highest) is None and _is_inverted(mask):
        return ["its palette is grey, and black is not its first colour; save it without a palette, in grey"]
    findings = []
    if mask.size != size:
        findings.append("is {}x{} but its image is {}x{} (width x height)".format(*mask.size, *size))
    present = np.unique(values(mask, highest))
    strange = present[(present > highest) & (present != IGNORE)]
    if len(strange):
        findings.append(f"values {', '.join(map(str, strange))} are neither 0 to {highest} nor {IGNORE}")
    return findings


class Pair(NamedTuple):
    """What an image's labels and its mask say: the id, the labels, and the mask's values."""

    id: str
    labels: Collection[str]
    values: Collection[int]


def compare(pairs: Iterable[Pair], classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Compare the classes that masks show with image-level labels.

    A mask contradicts its image's labels if it shows none of them, or if it shows a class and the image has no label.
    Small or difficult objects have labels and no pixel in every data set, so a difference alone is no fault.

    Returns:
        Findings: one, if more than half of the images are contradicted. And remarks: one, if there is no finding and
            any image differs.
    """
    images = list(pairs)
    differing, contradicted = [], []
    for pair in images:
        shown = {classes[value - 1] for value in pair.values if 0 < value <= len(classes)}
        if shown != set(pair.labels):
            differing.append(pair)
            if not shown & set(pair.labels):
                contradicted.append(pair)
    if not differing:
        return [], []
    if len(contradicted) <= CONTRADICTED * len(images):
        remark = f"the classes of mask and labels differ in {_share(differing, images)}"
        if contradicted:
            remark += f"; they have none in common in {_share(contradicted, images)}"
        return [], [remark]
    return [f"mask and labels contradict each other in {_share(contradicted, images)}: {_reason(contradicted)}"], []


def _share(pairs: list[Pair], images: list[Pair]) -> str:
    return f"{len(pairs)} of {len(images)} images with masks ({some([pair.id for pair in pairs])})"


def _reason(pairs: list[Pair]) -> str:
    seen = {value for pair in pairs for value in pair.values}
    if seen <= {0}:
        return "the masks are all background; set masks to the folder of those with classes, or to null"
    if seen <= {0, IGNORE}:
        return f"the masks hold {IGNORE} alone, which means ignored; write 1, 2, ..., the numbers of classes"
    first = pairs[0]
    return (
        f"'{first.id}' has the labels {', '.join(sorted(first.labels)) or 'none'} and the mask values "
        f"{', '.join(str(value) for value in sorted(first.values))}; put 'classes' into the order of the masks' values"
    )
