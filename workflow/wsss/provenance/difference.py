"""Two results that differ, and why: the first jobs along the chain, from the images up, that are not alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsss.provenance.audit import Audit
from wsss.provenance.chain import Link
from wsss.provenance.checks import changes
from wsss.provenance.content import hashes, is_settings, portable
from wsss.provenance.findings import clean, listed
from wsss.provenance.machine import kind_of
from wsss.provenance.place import Home

SHOWN = 6  # differences of a kind that are named


@dataclass
class Pair:
    """Two jobs that have the same place in two chains."""

    one: Link
    other: Link

    @property
    def name(self) -> str:
        """The place, as people know it."""
        return self.one.first if self.one.first == self.other.first else f"{self.one.first} and {self.other.first}"


@dataclass
class Difference:
    """Why two results differ.

    Args:
        reasons: one line each, the first along the chain first.
        above: jobs that differ for these reasons alone.
        same: jobs that made the same.
    """

    reasons: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    same: int = 0

    def __str__(self) -> str:
        if not self.reasons:
            return f"Both are the same: {self.same} jobs made the same from the same, in the same way."
        lines = [*self.reasons]
        if self.above:
            lines.append(f"{len(self.above)} jobs above differ for no reason of their own: {listed(self.above)}")
        return "\n".join([*lines, f"{self.same} jobs made the same."])


def compare(one: Audit, other: Audit) -> Difference:
    """Say why two audited results differ."""
    found = Difference()
    for pair in reversed(list(_pairs(one, other))):
        reasons = list(_reasons(pair, one, other))
        alike = _outputs(pair.one) == _outputs(pair.other)
        if reasons:
            result = "which made no difference to what it made" if alike else "and so differs what it made"
            found.reasons.append(f"{clean(pair.one.command)} {clean(pair.name)}: {'; '.join(reasons)}; {result}")
        elif not alike:
            same_inputs = _inputs(pair.one) == _inputs(pair.other)
            if same_inputs:
                text = "made other files from the same, in the same way: it is not deterministic, or one was changed"
                found.reasons.append(f"{clean(pair.one.command)} {clean(pair.name)}: {text}")
            else:
                found.above.append(pair.name)
        else:
            found.same += 1
    return found


def _pairs(one: Audit, other: Audit) -> Iterator[Pair]:
    """Yield the jobs of both chains that correspond, from the targets down, each once."""
    waiting, seen = [(one.start, other.start)], {(one.start, other.start)}
    while waiting:
        names = waiting.pop(0)
        first, second = one.chain.links.get(names[0]), other.chain.links.get(names[1])
        if first is None or second is None:
            continue
        yield Pair(first, second)
        for pair in _below(one, first, other, second):
            if pair not in seen:
                seen.add(pair)
                waiting.append(pair)


def _below(one: Audit, first: Link, other: Audit, second: Link) -> list[tuple[str, str]]:
    """Return the records below two jobs, matched by name or else by what they are."""
    mine, theirs = _makers(one, first), _makers(other, second)
    found = [(key, key) for key in mine if key in theirs]
    rest = [key for key in mine if key not in theirs]
    others = [key for key in theirs if key not in mine]
    for key in rest:
        match = next((name for name in others if _role(name) == _role(key)), None)
        if match:
            others.remove(match)
            found.append((key, match))
    return found


def _makers(audit: Audit, link: Link) -> list[str]:
    found = (audit.chain.makers.get(key) for key in link.content["inputs"])
    return list(dict.fromkeys(key for key in found if key))


def _role(key: str) -> tuple[str, str]:
    """Return the stage and file of a record, whatever its run and seed."""
    home = Home.of(key)
    return (home.stage if home else key.rpartition("/")[0]), key.rpartition("/")[2]


def _reasons(pair: Pair, one: Audit, other: Audit) -> Iterator[str]:
    """Yield all that two jobs do not have in common, apart from what other jobs made."""
    first, second = pair.one.content, pair.other.content
    if first["seed"] != second["seed"]:
        yield f"seed {first['seed']} and {second['seed']}"
    settings = list(changes(_settings(pair.one), _settings(pair.other)))
    if settings:
        yield f"settings: {listed(settings, SHOWN)}"
    code = [file for file, _ in _changes(first["code"]["files"], second["code"]["files"])]
    if code:
        yield f"code: {listed(code, SHOWN)}"
    data = [*_data(pair, one, other)]
    if data:
        yield f"data: {listed(data, SHOWN)}"
    if not (settings or code or data) and _outputs(pair.one) != _outputs(pair.other):
        yield from _environment(pair)


def _environment(pair: Pair) -> Iterator[str]:
    first, second = pair.one.content, pair.other.content
    packages = [f"{name} {a or '-'} and {b or '-'}" for name, (a, b) in _changes(first["packages"], second["packages"])]
    if packages:
        yield f"packages: {listed(packages, SHOWN)}"
    kinds = kind_of(first["machine"]), kind_of(second["machine"])
    if kinds[0] != kinds[1]:
        yield f"machines: {clean(kinds[0])} and {clean(kinds[1])}"


def _settings(link: Link) -> Any:
    config = portable(link.content["config"] or {}, link.content["results"])
    return {key: value for key, value in config.items() if key not in ("code", "seed")}


def _changes(one: dict[str, str], other: dict[str, str]) -> list[tuple[str, tuple[str | None, str | None]]]:
    both = {name: (one.get(name), other.get(name)) for name in {**one, **other}}
    return [(name, values) for name, values in sorted(both.items()) if values[0] != values[1]]


def _data(pair: Pair, one: Audit, other: Audit) -> list[str]:
    """Return files outside the results, and files that no job made, that differ."""
    found = [path for path, _ in _changes(hashes(pair.one.content["external"]), hashes(pair.other.content["external"]))]
    mine = {key: sha for key, sha in _inputs(pair.one).items() if key not in one.chain.makers}
    theirs = {key: sha for key, sha in _inputs(pair.other).items() if key not in other.chain.makers}
    return found + [key for key, _ in _changes(mine, theirs)]


def _inputs(link: Link) -> dict[str, str]:
    return {key: sha for key, sha in hashes(link.content["inputs"]).items() if not is_settings(key)}


def _outputs(link: Link) -> list[str]:
    return list(hashes(link.content["outputs"]).values())
