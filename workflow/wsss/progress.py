"""Progress bars that also read well in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

LOG_SECONDS = 10  # a line of progress at most this often when nobody watches a terminal


class _Lines:
    """Turns a bar's carriage returns into lines."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


def bar(
    items: Iterable | None = None, *, out: str | Path, unit: str, total: int | None = None, initial: int = 0
) -> tqdm:
    """A tqdm bar named after the folder a job writes to, such as ``seam/baseline/seed0/train``."""
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
