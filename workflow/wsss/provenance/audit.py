"""Follow a result down to the images, look at every file again, and name what does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.errors import WsssError
from wsss.provenance import checks, images, today, values
from wsss.provenance.anchor import root_digest
from wsss.provenance.chain import Chain
from wsss.provenance.findings import Finding
from wsss.provenance.hashes import Hasher
from wsss.provenance.place import Place, makers_of
from wsss.stages import STAGES


@dataclass
class Audit:
    """The outcome of an audit.

    Args:
        target: the file or record it started from, by its name in records.
        start: the record of the target.
        chain: all records below it.
        findings: what is wrong, causes first.
        files, images: numbers of files that were looked at.
        read: number of files that were really read; the others were known from an earlier audit.
        recomputed: the numbers that were calculated again.
        left_out: what could not be looked at here, and why.
        notes: what else there is to say.
    """

    target: str
    start: str
    chain: Chain
    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    images: int = 0
    read: int = 0
    recomputed: values.Recomputed = field(default_factory=values.Recomputed)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def content(self) -> str | None:
        """The identity of the target's record: of what defines it, whenever and wherever it was made."""
        link = self.chain.links.get(self.start)
        return str(link.content["identity"]) if link else None

    @property
    def root(self) -> str:
        """The root digest: every byte of every record of the chain."""
        keys = {*self.chain.links, *self.chain.broken}
        return root_digest({key: self.chain.digests.get(key, "") for key in keys})


def audit(
    target: str | Path,
    *,
    cold: bool = False,
    expect: str | None = None,
    images_folder: str | Path | None = None,
    code: bool = True,
    settings: Callable[[str], Any] | None = None,
) -> Audit:
    """Audit a result where it lies.

    Args:
        target: a file of any stage, a record, or the folder of a table or figure.
        cold: read every file, whatever an earlier audit has found.
        expect: the root digest, or the content digest, that the target must have.
        images_folder: the folder of the images, if it is not where the index says.
        code: compare the code that ran with the code that is here.
        settings: returns the settings of today, by the name of a config.yaml, to be compared as well.

    Raises:
        WsssError: there is no record for the target.
    """
    place, key, start = locate(target)
    hasher = Hasher([place.root], cold)
    chain = Chain.below(place, start, hasher)
    if start not in chain.links and start not in chain.broken:
        raise WsssError(f"{target}: no record says where this comes from; make it first")
    found = Audit(key, start, chain)
    if not (os.path.lexists(place.path(key)) or key in chain.makers or start in chain.broken):
        raise WsssError(f"{target}: there is no such file, and {start} does not list it; correct the path")
    expected = checks.sizes(chain)
    hasher.see_all(expected)
    found.files = len(expected)
    found.findings += _membership(found)
    found.findings += checks.all_of(chain)
    for name in (file for file in chain.makers if file.endswith("index.csv")):
        link = chain.links[chain.makers[name]]
        lists = images.beside(link.content, link.key)
        folder = Path(images_folder) if images_folder else None
        number, findings = images.check(place, name, hasher, folder, lists, link.content["roots"])
        found.images += number
        found.findings += [_with_consequences(chain, name, finding) for finding in findings]
    _recompute(found)
    if code:
        _compare_code(found)
    if settings:
        found.findings += today.settings(chain, settings)
    _set_apart_temporary(found)
    found.findings += _anchor(found, expect)
    found.findings = unique(found.findings)
    found.read = hasher.read
    hasher.close()
    return found


def locate(target: str | Path) -> tuple[Place, str, str]:
    """Return the place of a target, its name in records, and the name of its record.

    Raises:
        WsssError: nothing is there that could be audited.
    """
    path = Path(os.path.abspath(target))
    if path.is_dir():
        path = path / ("record.json" if not (path / "index.record.json").is_file() else "index.record.json")
    place = Place.of(path)
    key = path.relative_to(place.root).as_posix()
    candidates = [name for name in makers_of(key) if os.path.lexists(place.path(name))]
    if not candidates:
        raise WsssError(f"{target}: no record says where this comes from; make it first, or correct the path")
    hasher = Hasher([place.root], cold=True)
    chain = Chain(place, hasher)
    listing = [name for name in candidates if (link := chain.look(name)) and key in {name, *link.content["outputs"]}]
    right = next((name for name in listing if name.endswith("/record.json")), None) if len(listing) > 1 else None
    return place, key, right or (listing or candidates)[0]


def _membership(found: Audit) -> list[Finding]:
    """Check that the target is one of the files that its record lists, or the record itself."""
    link = found.chain.links.get(found.start)
    if link is None or found.target == found.start or found.target in link.content["outputs"]:
        return []
    return [Finding("untraced", found.target, f"{found.start} does not list it, and no other record does")]


def _with_consequences(chain: Chain, index: str, finding: Finding) -> Finding:
    maker = chain.makers[index]
    finding.rests = [chain.links[maker].first, *chain.resting_on([maker])]
    finding.records = (maker,)
    return finding


def _recompute(found: Audit) -> None:
    wrong = {finding.place for finding in found.findings if finding.kind in ("modified", "missing", "foreign")}
    found.recomputed = values.recompute(found.chain, wrong)
    found.findings += found.recomputed.findings
    if found.recomputed.left_out:
        found.left_out.append(found.recomputed.left_out)


def _compare_code(found: Audit) -> None:
    try:
        found.findings += today.code(found.chain)
    except ImportError as error:
        found.left_out.append(f"code was not compared: {error.name} is not installed")


def _set_apart_temporary(found: Audit) -> None:
    """Turn files that are gone, and were said to be temporary when they were made, from findings into one line."""
    gone = {finding.place for finding in found.findings if finding.kind == "missing" and _is_temporary(found, finding)}
    if gone:
        found.findings = [finding for finding in found.findings if finding.place not in gone]
        found.left_out.append(
            f"{len(gone)} temporary files are gone, as configured: their digests rest on records alone"
        )


def _is_temporary(found: Audit, finding: Finding) -> bool:
    maker = found.chain.links.get(found.chain.makers.get(finding.place, ""))
    if maker is None or maker.command not in STAGES:
        return False
    return STAGES[maker.command].makes in (maker.content["machine"].get("temporary") or ())


def _anchor(found: Audit, expect: str | None) -> Iterable[Finding]:
    """Check that the target has the digest that somebody has written down."""
    if expect is None or expect in (found.root, found.content):
        return []
    text = f"is not the expected one: its root digest is {found.root}, its content digest {found.content}"
    return [Finding("modified", found.target, text)]


def unique(findings: Iterable[Finding]) -> list[Finding]:
    """Return each finding once, by kind, file and text, with the consequences and the records of all repetitions."""
    first: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        known = first.setdefault((finding.kind, finding.place, finding.text), finding)
        if known is not finding:
            known.rests += [name for name in finding.rests if name not in known.rests]
            known.records = tuple(dict.fromkeys([*known.records, *finding.records]))
    return list(first.values())
