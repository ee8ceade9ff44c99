"""Set aside what does not match its record, so that the next ``snakemake TARGET`` makes exactly that again.

Snakemake does not make a missing file again while what was made from it is there and up to date. So everything that
rests on a wrong file is set aside with it, up to the target. Settings are written again as the record has them, if that
gives the very bytes that the job read.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from wsss.files import digest, write_text
from wsss.provenance.audit import Audit
from wsss.provenance.chain import Chain
from wsss.provenance.content import is_settings
from wsss.provenance.findings import Finding, listed
from wsss.provenance.ledger import ledger_path
from wsss.provenance.place import is_key

ASIDE = "aside"


@dataclass
class Mended:
    """The result of mending.

    Args:
        folder: where things were set aside.
        moved: files that were set aside, by their names in records.
        restored: settings that were written again as the record has them.
        left: what only a person can mend.
    """

    folder: Path
    moved: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = []
        if self.moved:
            lines.append(f"{len(self.moved)} files set aside in {self.folder}: {listed(self.moved, 5)}")
        if self.restored:
            lines.append(f"settings written again as they were: {listed(self.restored, 5)}")
        lines += [f"left to you: {text}" for text in self.left]
        made_again = "Run snakemake with this target: it makes again what was set aside, and nothing else."
        return "\n".join([*lines, made_again] if self.moved else lines or ["There is nothing to mend."])


def mend(found: Audit) -> Mended:
    """Set aside what the findings of an audit are about."""
    chain, place = found.chain, found.chain.place
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    done = Mended(place.root / ASIDE / now)
    records: dict[str, None] = {}
    files: dict[str, None] = {}
    for finding in found.findings:
        if finding.today:
            unseen = unseen_by_snakemake(chain, finding)
            records |= dict.fromkeys(unseen)
            if len(unseen) < len(finding.records):
                way = f"snakemake makes it again by itself, or go back to the {finding.kind} that made it"
                done.left.append(f"{finding.line()}: {way}")
        elif _restored(chain, finding):
            done.restored.append(finding.place)
        elif finding.place.startswith("/"):
            readers = [chain.place.path(chain.links[key].first) for key in finding.records if key in chain.links]
            paths = " ".join(shlex.quote(os.path.relpath(path)) for path in readers)
            force = f"`snakemake --cores 1 --forcerun {paths}`"
            again = f", or take it as it is now: {force}" if readers else ""
            done.left.append(f"{finding.line()}: it lies outside the results; restore it{again}")
        elif not finding.records and not finding.culprits:
            done.left.append(finding.line())
        else:
            files |= dict.fromkeys(name for name in finding.culprits if is_key(name))
            records |= dict.fromkeys(finding.records)
    for key in [*records, *chain.above(records)]:
        files |= dict.fromkeys(_about(chain, key))
    for name in files:
        _set_aside(chain, name, done)
    return done


def unseen_by_snakemake(chain: Chain, finding: Finding) -> list[str]:
    """Return the records of jobs whose settings hold no digest of code: Snakemake sees no change of it."""
    if finding.kind != "code":
        return []
    links = (chain.links[key] for key in finding.records if key in chain.links)
    return [link.key for link in links if "code" not in (link.content["config"] or {})]


def _about(chain: Chain, key: str) -> list[str]:
    """Return a record and the files it is about; of one that cannot be read, those that its name says."""
    link = chain.links.get(key)
    if link is not None:
        return [*link.content["outputs"], key]
    folder, _, name = key.rpartition("/")
    stem = name.removesuffix("record.json")
    found = []
    for beside in sorted(os.listdir(chain.place.path(folder))) if chain.place.path(folder).is_dir() else []:
        path = chain.place.path(f"{folder}/{beside}")
        whole = not stem and not beside.endswith(".record.json")
        if path.is_file() and not is_settings(beside) and (whole or (stem and beside.startswith(stem))):
            found.append(f"{folder}/{beside}")
    ledger = ledger_path(key).as_posix()
    return [*(each for each in found if each != ledger), key]


def _set_aside(chain: Chain, name: str, done: Mended) -> None:
    source, target = chain.place.path(name), done.folder / name
    if not os.path.lexists(source) or (source.is_dir() and not source.is_symlink()):
        return
    if not os.path.realpath(source.parent).startswith(chain.place.real):
        done.left.append(f"{name} lies, links followed, outside the results")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    done.moved.append(name)


def _restored(chain: Chain, finding: Finding) -> bool:
    """Write settings again from a record, if that gives what the job read."""
    if not is_settings(finding.place):
        return False
    for link in chain.links.values():
        entry = link.content["inputs"].get(finding.place)
        if entry is None or link.content["config"] is None:
            continue
        text = yaml.safe_dump(link.content["config"])
        if digest(text) == entry["sha256"]:
            path = chain.place.path(finding.place)
            write_text(path, text)
            started = datetime.fromisoformat(link.content["started"]).timestamp()
            os.utime(path, (started, started))  # no younger than what was made with it
            return True
    return False
