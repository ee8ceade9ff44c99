"""Shards of a stage's results: how their files are named, and which of them are there."""

from __future__ import annotations

from pathlib import Path

from wsss.stages import SUFFIXES

ENDINGS = tuple(f".{suffix}" for suffix in SUFFIXES.values())


def shards_of(name: str) -> int:
    """Return the number of shards that ``part-i-of-n`` tells; 1 for a name that tells none."""
    _, told, number = name.rpartition("-of-")
    return int(number) if told else 1


def shards_there(home: Path, part: str) -> int:
    """Return the number of shards of a part if a folder holds all of them; 0 where it has no whole set."""
    for first in _first_ones(home, part):
        number = shards_of(first.stem)
        shards = [home / f"{part}-{i}-of-{number}{first.suffix}" for i in range(number)]
        if all(map(Path.is_file, shards)):
            return number
    return 0


def _first_ones(home: Path, part: str) -> list[Path]:
    """List every shard 0 of a part in a folder: one for each number of shards, the smallest number first."""
    beginning = home.glob(f"{part}-0-of-*")
    found = [path for path in beginning if path.suffix in ENDINGS]
    return sorted(found, key=lambda path: shards_of(path.stem))
