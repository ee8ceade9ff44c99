"""Progress bars that are readable in a log file, too."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 10  # between two lines of progress where there is no terminal


class _Lines:
    """A stream that turns the carriage returns of a bar into lines."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def bar(
    items: Iterable[Any] | None = None, *, out: str | Path, unit: str, total: int | None = None, initial: int = 0
) -> tqdm[Any]:
    """Make a tqdm bar that is named after the folder of a result, such as ``seam/baseline/seed0/train``.

    Args:
        items: the items to go through; None if the caller counts.
        out: the file or folder that the job writes.
        unit: the word for one item.
        total: number of items, where ``items`` does not know it.
        initial: number of items that were done before.
    """
    out = Path(out)
    folder = out.parent if out.suffix else out
    name = str(Path(*folder.parts[-4:]))
    if sys.stderr.isatty():
        return tqdm(items, total=total, initial=initial, unit=unit, desc=name)
    layout = "{desc}: {n_fmt}/{total_fmt} {unit}s ({percentage:.0f}%), {elapsed} gone, {remaining} left{postfix}"
    return tqdm(
        items,
        total=total,
        initial=initial,
        unit=unit,
        desc=name,
        file=_Lines(),
        bar_format=layout,
        mininterval=LOG_SECONDS,
        maxinterval=LOG_SECONDS,
    )
