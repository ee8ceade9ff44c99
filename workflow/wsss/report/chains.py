"""The chains of the numbers on the report page: each is a link to the jobs that it comes from, down to the images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wsss.provenance.lineage import Lineage, Step, name_of
from wsss.report.embedding import links
from wsss.report.outline import Links, Made
from wsss.report.reading import read_csv

NUMBER = re.compile(r'(<td[^>]*) data-cell="(\d+)">([^<]*)</td>')  # as table.html has the numbers of ours


@dataclass(frozen=True)
class Shown:
    """A step of a chain as the page prints it: the step, and links to its files."""

    step: Step
    files: Links


@dataclass(frozen=True)
class NumberChain:
    """The chain of one number.

    Args:
        anchor: its name in the page.
        cell: what table.csv says of the number.
        row: the name of its row.
        steps: from the metrics down to the images.
        seeds: the number of seeds it is the mean of; the steps are those of the first.
    """

    anchor: str
    cell: Mapping[str, str]
    row: str
    steps: list[Shown]
    seeds: int


def add_chains(entries: list[Made], out: Path) -> None:
    """Make each number of ours in the tables of the page ``out`` a link to the jobs that it comes from."""
    lineage = Lineage(out)
    for entry in entries:
        if not entry["made"] or entry["kind"] != "tables":
            continue
        chains = list(_chains(lineage, entry, out))
        entry["chains"] = chains
        entry["table"] = linked(entry["table"], entry["name"], chains)


def _chains(lineage: Lineage, entry: Made, out: Path) -> Iterator[NumberChain]:
    """Follow the numbers of a table that were computed."""
    folder = Path(entry["folder"])
    record = folder / "record.json"
    cells = read_csv(folder / "table.csv")
    for number, cell in enumerate(cells):
        if not cell["ours"]:
            continue
        steps, seeds = lineage.of(record, number, cell)
        if steps:
            yield NumberChain(
                anchor=f"{entry['name']}-{number}",
                cell=cell,
                row=name_of(cell),
                steps=[_shown(step, out) for step in steps],
                seeds=seeds,
            )


def _shown(step: Step, out: Path) -> Shown:
    """Return a step with links to its files from the page ``out``."""
    paths = list(step.paths)
    return Shown(step, links(paths, out))


def linked(html: str, name: str, of: list[NumberChain]) -> str:
    """Make the numbers of a table links to their chains."""
    anchors = {chain.anchor for chain in of}

    def link(found: re.Match[str]) -> str:
        start, number, text = found.groups()
        anchor = f"{name}-{number}"
        if anchor in anchors:
            text = f'<a href="#{anchor}" title="Where this number comes from">{text}</a>'
        return f"{start}>{text}</td>"

    return NUMBER.sub(link, html)
