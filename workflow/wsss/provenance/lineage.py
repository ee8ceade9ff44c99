"""The chain of one number of a table: the jobs from its metrics file down to the images, by their records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.provenance.chain import Chain, Link
from wsss.provenance.content import key_in
from wsss.provenance.hashes import Hasher
from wsss.provenance.place import Place


@dataclass(frozen=True)
class Step:
    """One folder of results in the chain of a number.

    Args:
        command: the job's command.
        file: what it made, or the first of several files, by its name in records.
        number: the number of files, one per part of the images.
        paths: further files to look at: the result, its settings, its record.
        identity: the content digest of its record; of several that of the first.
    """

    command: str
    file: str
    number: int
    paths: tuple[Path, ...]
    identity: str


class Lineage:
    """The chains of the numbers of many tables. A record that several share is read once.

    Args:
        result: any file in the folder of results that holds these tables.
    """

    def __init__(self, result: Path):
        self.place = Place.of(result)
        self.chain = Chain(self.place, Hasher([self.place.root]))

    def of(self, record: Path, number: int, cell: Mapping[str, str]) -> tuple[list[Step], int]:
        """Return the steps below a cell, from its metrics to the images, for its first seed; and the number of seeds.

        Args:
            record: the record of the table.
            number: the place of the cell in its table.csv, counted from 0.
            cell: what table.csv says of it.
        """
        key = self.place.key(record)
        if key is None:
            return [], 0
        self.chain.follow(key)
        link = self.chain.links.get(key)
        files = [name for name in metrics_of(link, number, cell) if name in self.chain.makers] if link else []
        if not files:
            return [], 0
        folders = by_folder(self.chain.below_one(self.chain.makers[files[0]]))
        return [self._step(links) for links in folders.values()], len(files)

    def _step(self, links: list[Link]) -> Step:
        first = links[0]
        result = self.place.path(first.first)
        paths = (result, result.with_name("config.yaml"), self.place.path(first.key))
        return Step(first.command, first.first, len(links), paths, str(first.content["identity"]))


def metrics_of(link: Link, number: int, cell: Mapping[str, str]) -> list[str]:
    """Return the metrics files of a cell, by the drawing, which the table's own text must agree with.

    Args:
        link: the record of the table.
        number: the place of the cell in table.csv, counted from 0.
        cell: what table.csv says of it.
    """
    config = link.content["config"] or {}
    rows = config.get("rows", [])
    if any("claim" in row for row in rows):
        return _metrics_of_claim(link, rows[number], cell) if number < len(rows) else []
    cells = []
    for row in rows:
        cells += [(row, column, spec) for column, spec in zip(config.get("columns", []), row["cells"], strict=False)]
    if number >= len(cells):
        return []
    row, column, spec = cells[number]
    if (row["label"], column["label"]) != (cell.get("row"), cell.get("column")):
        return []
    return [key for text in spec.get("metrics", []) if (key := key_in(text, link.content["results"]))]


def _metrics_of_claim(link: Link, row: Mapping[str, Any], comparison: Mapping[str, str]) -> list[str]:
    """List the metrics files of both sides of a comparison of claims."""
    if f"{row['claim']}: {row['label']}" != comparison.get("row"):
        return []
    texts = [text for cell in row["cells"] for text in cell.get("metrics", [])]
    return [key for text in texts if (key := key_in(text, link.content["results"]))]


def name_of(cell: Mapping[str, str]) -> str:
    """Return the row of a cell, with the words that tell it from others of that label: ``CAM (ResNet38)``."""
    words = [part.partition(": ")[2] for part in (cell.get("attributes") or "").split("; ")]
    shown = ", ".join(word for word in words if word not in ("", "-", "✓"))
    return f"{cell.get('row')} ({shown})" if shown else str(cell.get("row"))


def by_folder(links: Iterable[Link]) -> dict[str, list[Link]]:
    """Return records by the folder they lie in, in the order in which the folders come up."""
    found: dict[str, list[Link]] = {}
    for link in links:
        found.setdefault(link.key.rpartition("/")[0], []).append(link)
    return found
