"""Take over results that were copied here: verify them, and give them times in the order in which they were made.

Without its own folder ``.snakemake``, Snakemake goes by the times of files, which a copy has lost or kept by chance.
After adoption every result is younger than what it was made from. Settings that are not those of the present plan are
written anew. They are so young that Snakemake makes again what rests on them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from wsss.files import write_text
from wsss.provenance.audit import Audit
from wsss.provenance.chain import Chain, Link
from wsss.provenance.content import Content, is_settings
from wsss.provenance.findings import listed

Expected = Callable[[str], Content | None]  # the settings of today, by the name of a config.yaml


@dataclass
class Adopted:
    """The result of an adoption.

    Args:
        results: files that are now as old as their records say.
        stale: config.yaml files that were written anew, since the settings or the code of today differ.
    """

    results: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        taken = f"{len(self.results)} files taken over"
        if not self.stale:
            return f"{taken}: snakemake makes none of them again."
        stale = f"Stale: {len(self.stale)} settings are not those of today: {listed(self.stale, 5)}"
        return f"{taken}.\n{stale}; snakemake makes again what rests on them."


def adopt(found: Audit | Sequence[Audit], expected: Expected | None = None) -> Adopted:
    """Give the files of audited chains the times of their records.

    Args:
        found: audits whose only findings, if any, are about today's code. Chains share settings, so all get their
            times before the first settings are written anew.
        expected: the settings of today. Without it nothing is said to be stale.
    """
    done = Adopted()
    chains = [audit.chain for audit in ([found] if isinstance(found, Audit) else found)]
    for chain in chains:
        done.results += [key for key in _aged(chain) if key not in set(done.results)]
    for chain in chains:
        for key in _all_settings(chain):
            today: Any = expected(key) if expected else None
            if today is not None and today != yaml.safe_load(chain.place.path(key).read_text(encoding="utf-8")):
                write_text(chain.place.path(key), yaml.safe_dump(today))
                done.stale.append(key)
    return done


def _aged(chain: Chain) -> list[str]:
    """Give every file of a chain its time, and return what jobs made."""
    done: list[str] = []
    ages: dict[str, float] = {}
    first_use: dict[str, float] = {}
    for link in chain.links.values():
        for key in _unmade(chain, link):
            first_use[key] = min(first_use.get(key, math.inf), _moment(link, "started"))
    for link in chain.from_below():
        below = [ages[maker] for key in link.content["inputs"] if (maker := chain.makers.get(key)) in ages]
        start = max([_moment(link, "started"), *below])
        ages[link.key] = age = max(start, _moment(link, "ended"))
        for key in _unmade(chain, link):
            _touch(chain, key, first_use[key])
        for key in [*link.content["outputs"], link.key]:
            _touch(chain, key, age)
            done.append(key)
    return done


def _unmade(chain: Chain, link: Link) -> list[str]:
    """List the files that a job read, but that no recorded job made: settings, and logs that a page shows."""
    return [key for key in link.content["inputs"] if key not in chain.makers and key not in chain.links]


def _all_settings(chain: Chain) -> list[str]:
    found = (key for link in chain.links.values() for key in link.content["inputs"] if is_settings(key))
    return sorted({key for key in found if chain.place.path(key).is_file()})


def _moment(link: Link, name: str) -> float:
    return datetime.fromisoformat(link.content[name]).timestamp()


def _touch(chain: Chain, key: str, moment: float) -> None:
    path = chain.place.path(key)
    if path.is_file():
        os.utime(path, (moment, moment))
