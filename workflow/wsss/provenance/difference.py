"""Two results that differ, and why: the first jobs along the chain, from the images up, that are not alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wsss.provenance.audit import Audit
from wsss.provenance.chain import Link
from wsss.provenance.content import hashes, is_settings, portable
from wsss.provenance.findings import clean, listed
from wsss.provenance.machine import kind_of
from wsss.provenance.place import Home
from wsss.provenance.today import changes

SHOWN = 6  # differences of a kind that are named

Reason = tuple[str, str]  # its kind, and what differs


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
        above: jobs that made something else for these reasons alone.
        same: jobs that made the same.
    """

    reasons: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    same: int = 0

    @property
    def none(self) -> bool:
        """Tell whether nothing differs."""
        return not self.reasons and not self.above

    def __str__(self) -> str:
        same = f"{_jobs(self.same)} made the same"
        if self.none:
            return f"Both are the same: {same} from the same, in the same way."
        lines = [*self.reasons]
        if self.above:
            differ = "differs for no reason of its own" if len(self.above) == 1 else "differ for no reason of their own"
            lines.append(f"{_jobs(len(self.above))} above {differ}: {listed(self.above)}")
        return "\n".join([*lines, f"{same}."])


def _jobs(number: int) -> str:
    return {0: "No job", 1: "1 job"}.get(number, f"{number} jobs")


def compare(one: Audit, other: Audit) -> Difference:
    """Say why two audited results differ, from the images up. Each reason is given only at the job where it arises."""
    found = Difference()
    pairs = _pairs(one, other)
    said: dict[str, set[Reason]] = {}
    groups: dict[tuple[str, tuple[Reason, ...], bool], list[str]] = {}
    for pair in pairs:
        below = [said.get(maker, set()) for maker in _makers(one, pair.one)]
        from_below: set[Reason] = set().union(*below)
        reasons, alike = list(_reasons(pair, one, other)), _outputs(pair.one) == _outputs(pair.other)
        own = [reason for reason in reasons if reason not in from_below]
        said[pair.one.key] = from_below | set(reasons)
        if not alike and not reasons and _inputs(pair.one) == _inputs(pair.other):
            own = [("", "made other files from the same, in the same way: it is not deterministic, or one was changed")]
        if own:
            groups.setdefault((pair.one.command, tuple(own), alike), []).append(pair.name)
        elif not alike:
            found.above.append(pair.name)
        else:
            found.same += 1
    found.reasons = [_line(command, names, reasons, alike) for (command, reasons, alike), names in groups.items()]
    for words, audit, paired in (
        ("first", one, {pair.one.key for pair in pairs}),
        ("second", other, {pair.other.key for pair in pairs}),
    ):
        alone = [link for link in audit.chain.from_below() if link.key not in paired]
        if alone:
            names = [f"{link.command} {link.first}" for link in alone]
            found.reasons.append(f"The {words} alone rests on {_jobs(len(alone))}: {listed(names, SHOWN)}")
    return found


def _line(command: str, names: list[str], reasons: Iterable[Reason], alike: bool) -> str:
    """Write what differs in jobs of one kind."""
    kinds: dict[str, list[str]] = {}
    for kind, text in reasons:
        kinds.setdefault(kind, []).append(text)
    texts = [f"{kind}: {listed(of_kind, SHOWN)}" if kind else "; ".join(of_kind) for kind, of_kind in kinds.items()]
    head = f"{clean(command)} {listed(names)}: {'; '.join(texts)}"
    if "" in kinds and len(kinds) == 1 and not alike and not any(text.startswith("seed") for text in kinds[""]):
        return head
    return f"{head}; {'which made no difference to what it made' if alike else 'and so what it made differs'}"


def _pairs(one: Audit, other: Audit) -> list[Pair]:
    """Return the jobs of both chains that correspond, each once, those that others rest on first.

    They are the targets, jobs with the same place in the results, and jobs whose results were read in the same role.
    """
    common = [(key, key) for key in one.chain.links if key in other.chain.links]
    waiting = [(one.start, other.start), *common]
    found: dict[str, Pair] = {}
    taken: set[str] = set()
    while waiting:
        names = waiting.pop(0)
        first, second = one.chain.links.get(names[0]), other.chain.links.get(names[1])
        if first is None or second is None or first.key in found or second.key in taken:
            continue
        found[first.key] = Pair(first, second)
        taken.add(second.key)
        waiting += _matched(one, first, other, second)[0]
    return [found[link.key] for link in one.chain.from_below() if link.key in found]


def _matched(one: Audit, first: Link, other: Audit, second: Link) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Match the records below two jobs by name, or else by what they are, and return also those without a match."""
    mine, theirs = _makers(one, first), _makers(other, second)
    found = [(key, key) for key in mine if key in theirs]
    rest = [key for key in mine if key not in theirs]
    others = [key for key in theirs if key not in mine]
    for key in list(rest):
        match = next((name for name in others if _role(name) == _role(key)), None)
        if match:
            rest.remove(key)
            others.remove(match)
            found.append((key, match))
    return found, rest, others


def _makers(audit: Audit, link: Link) -> list[str]:
    found = (audit.chain.makers.get(key) for key in link.content["inputs"])
    return list(dict.fromkeys(key for key in found if key))


def _role(key: str) -> tuple[str, str]:
    """Return the stage and file of a record, whatever its run and seed."""
    home = Home.of(key)
    return (home.stage if home else key.rpartition("/")[0]), key.rpartition("/")[2]


def _reasons(pair: Pair, one: Audit, other: Audit) -> Iterator[Reason]:
    """Yield all that two jobs do not have in common, apart from what other jobs made."""
    first, second = pair.one.content, pair.other.content
    if first["seed"] != second["seed"]:
        yield "", f"seed {first['seed']} and {second['seed']}"
    settings = list(changes(_settings(pair.one), _settings(pair.other)))
    settings.sort(key=lambda text: " nothing and " in text or text.endswith(" and nothing"))  # what both have first
    code = [file for file, _ in _changes(first["code"]["files"], second["code"]["files"])]
    data = [*_data(pair, one, other)]
    for kind, texts in (("settings", settings), ("code", code), ("data", data)):
        yield from ((kind, text) for text in texts)
    _, mine, theirs = _matched(one, pair.one, other, pair.other)
    if mine or theirs:
        names = [
            listed([audit.chain.links[key].first for key in keys]) for audit, keys in ((one, mine), (other, theirs))
        ]
        yield "inputs", " and ".join(name or "nothing" for name in names)
    if not (settings or code or data) and _outputs(pair.one) != _outputs(pair.other):
        yield from _environment(pair)


def _environment(pair: Pair) -> Iterator[Reason]:
    first, second = pair.one.content, pair.other.content
    for name, (a, b) in _changes(first["packages"], second["packages"]):
        yield "packages", f"{name} {a or '-'} and {b or '-'}"
    kinds = kind_of(first["machine"]), kind_of(second["machine"])
    if kinds[0] != kinds[1]:
        yield "machines", f"{kinds[0]} and {kinds[1]}"


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
