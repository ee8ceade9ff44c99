"""The place of a file: which results it belongs to, and the name by which records call it.

Records name files relative to the root of the results, with slashes. So results can be moved and copied, and an audit
is of the place it is pointed at. The root is found from the layout alone:

    {root}/{dataset}/{paper}/{run}/seed{n}/{stage}/{file}
    {root}/{dataset}/{tables|figures|claims}/{name}/{file}
    {root}/{dataset}/report/{file}
    {root}/{dataset}/data/...
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.stages import STAGES

SEED = re.compile(r"seed\d+")
DRAWINGS = ("tables", "figures", "claims")
IN_DATA = ("index.csv", "dataset.json", "config.yaml", "record.json", "attempts.jsonl", "test", "VOC", "masks")
UNCLEAN = re.compile(r"[\\\x00-\x1f\x7f]")


def root_of(path: str | Path) -> Path:
    """Return the root of the results that a file, or a folder of a job, belongs to.

    Outside the layout, the root of a file is its folder, and the root of a folder is the folder itself.
    """
    path = Path(path)
    least = 1 if path.is_absolute() else 0
    for at in reversed(range(len(path.parts))):
        start = _start(path.parts, at)
        if start is not None and start >= least:
            return Path(*path.parts[:start])
    return path if path.is_dir() or not path.suffix else path.parent


def _start(parts: Sequence[str], at: int) -> int | None:
    """Return the number of parts that make up the root, if the part ``at`` is one that the layout knows."""
    name, below = parts[at], parts[at + 1 :]
    if SEED.fullmatch(name) and below and below[0] in STAGES:
        return at - 3
    if name in DRAWINGS and len(below) in (1, 2) and parts[at - 1 : at] != (name,):  # claims/claims: of all papers
        return at - 1
    if name == "report" and len(below) <= 1:
        return at - 1
    if name == "data" and (not below or below[0] in IN_DATA):
        return at - 1
    return None


def is_key(text: str) -> bool:
    """Tell whether a text names a file below a root: relative, without ``..`` and without control characters."""
    parts = text.split("/")
    return not UNCLEAN.search(text) and all(part not in ("", ".", "..") for part in parts)


@dataclass(frozen=True)
class Place:
    """A root of results, and the names of files below it.

    Args:
        root: an absolute folder. Links in its own path are left as they are.
    """

    root: Path

    @classmethod
    def of(cls, path: str | Path) -> Place:
        """Return the place of a file wherever it lies."""
        return cls(Path(os.path.abspath(root_of(os.path.abspath(path)))))

    def key(self, path: str | Path) -> str | None:
        """Return the name of a file in records; None for a file outside the root."""
        for found, root in ((os.path.abspath(path), str(self.root)), (os.path.realpath(path), self.real)):
            if found.startswith(root.rstrip("/") + "/"):
                return Path(found).relative_to(root).as_posix()
        return None

    def path(self, key: str) -> Path:
        """Return the file that a name stands for."""
        return self.root / key

    @property
    def real(self) -> str:
        """The root with all links followed."""
        return os.path.realpath(self.root)


@dataclass(frozen=True)
class Home:
    """The folder of a stage of a run, as the layout names it."""

    dataset: str
    paper: str
    run: str
    seed: int
    stage: str

    @classmethod
    def of(cls, key: str) -> Home | None:
        """Return the home of a file by its name in records; None for what no run makes."""
        parts = key.split("/")
        if len(parts) != 6 or not SEED.fullmatch(parts[3]) or parts[4] not in STAGES:
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3].removeprefix("seed")), parts[4])


def record_path(output: str | Path) -> Path:
    """Return the record of the job that makes ``output``: in the folder, or beside the file under its stem."""
    output = Path(output)
    return output / "record.json" if output.is_dir() or not output.suffix else output.with_suffix(".record.json")


def is_record(path: str | Path) -> bool:
    """Tell whether a file is a record by its name."""
    name = Path(path).name
    return name == "record.json" or name.endswith(".record.json")


def makers_of(key: str) -> list[str]:
    """Return the names of the records that may list a file among their outputs."""
    if is_record(key):
        return [key]
    folder, _, name = key.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    stem = name.rpartition(".")[0] or name
    return [f"{prefix}{stem}.record.json", f"{prefix}record.json"]
