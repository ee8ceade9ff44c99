"""The chain below a result: its record, the records of the jobs that made what it was made from, and so on."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from wsss.provenance.content import LARGEST, Broken, Content, is_settings, parse
from wsss.provenance.findings import Finding
from wsss.provenance.hashes import Hasher, Seen
from wsss.provenance.place import Place, is_record, makers_of

KNOWN_BY = ("/model.pt", "/table.csv", "/figure.png", "/index.csv")
UNTRACED = ("logs", "downloads")  # folders of the root whose files no record is about


@dataclass
class Link:
    """One record of a chain.

    Args:
        key: the name of the record.
        content: what it says.
        digest: the SHA-256 of the file.
    """

    key: str
    content: Content
    digest: str

    @property
    def first(self) -> str:
        """The output by which people know the job: of several the one that later jobs read."""
        outputs = list(self.content["outputs"])
        known = (key for name in KNOWN_BY for key in outputs if key.endswith(name))
        return str(next(known, outputs[0]))

    @property
    def command(self) -> str:
        """The job's command."""
        return str(self.content["command"])


@dataclass
class Chain:
    """All records below one.

    Args:
        place: where the results are.
        hasher: reads the records.
        links: record -> what it is, from the target down.
        broken: record -> why it cannot be used.
        digests: record -> SHA-256 of the file, also of broken ones.
        makers: file -> record of the job that made it.
        readers: record -> records of the jobs that read files which it lists, or should list, as outputs.
    """

    place: Place
    hasher: Hasher
    links: dict[str, Link] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _known: dict[str, Link | None] = field(default_factory=dict)

    @classmethod
    def below(cls, place: Place, start: str, hasher: Hasher) -> Chain:
        """Follow the records from ``start`` down, each once."""
        chain = cls(place, hasher)
        chain.follow(start)
        return chain

    def follow(self, start: str) -> None:
        """Add the records from ``start`` down, except those already known."""
        waiting, seen = deque([start]), {start, *self.links}
        while waiting:
            link = self.look(waiting.popleft())
            if link is None:
                continue
            self.links[link.key] = link
            for file in link.content["outputs"]:
                self.makers.setdefault(file, link.key)
            for below in self._below(link):
                self.readers.setdefault(below, []).append(link.key)
                if below not in seen:
                    seen.add(below)
                    waiting.append(below)

    def look(self, key: str) -> Link | None:
        """Return a record; None where there is none, or none that can be used."""
        if key not in self._known:
            self._known[key] = self._read(key)
        return self._known[key]

    def _read(self, key: str) -> Link | None:
        data = self.hasher.text(self.place.path(key), LARGEST)
        if isinstance(data, Seen):
            if data.why:
                self.broken[key] = data.why
            return None
        digest = self.digests[key] = hashlib.sha256(data).hexdigest()
        try:
            return Link(key, parse(data), digest)
        except Broken as error:
            self.broken[key] = str(error)
            return None

    def _below(self, link: Link) -> list[str]:
        """Return the records of those who made the inputs of a job."""
        found: dict[str, None] = {}
        for key in link.content["inputs"]:
            maker = self.maker(key, link.content["parents"].get(key))
            if maker is None:
                maker = next((name for name in makers_of(key) if name in self.broken), None)
            if maker is not None:
                found[maker] = None
        return list(found)

    def maker(self, key: str, identity: str | None = None) -> str | None:
        """Return the record of the job that made a file. Of two, the one of the given identity."""
        if key in self.makers:
            return self.makers[key]
        candidates = [link for name in makers_of(key) if (link := self.look(name)) and _lists(link, key)]
        if not candidates:
            return None
        named = [link for link in candidates if link.content["identity"] == identity]
        self.makers[key] = (named or candidates)[0].key
        return self.makers[key]

    # ---- what rests on what

    def resting_on(self, records: Iterable[str]) -> list[str]:
        """Return the first outputs of all jobs that rest on those of ``records``, nearest first, these not included."""
        return [self.links[key].first for key in self.above(records)]

    def above(self, records: Iterable[str]) -> list[str]:
        """Return the records of all jobs that rest on those of ``records``, nearest first, these not included."""
        start = list(records)
        found: dict[str, None] = {}
        waiting, seen = deque(start), set(start)
        while waiting:
            for reader in self.readers.get(waiting.popleft(), []):
                if reader not in seen:
                    seen.add(reader)
                    found[reader] = None
                    waiting.append(reader)
        return list(found)

    def below_one(self, record: str) -> list[Link]:
        """Return the records that one rests on, itself first, each before those of the jobs that made its inputs."""
        wanted, waiting = {record}, [record]
        while waiting:
            link = self.links.get(waiting.pop())
            makers = {self.makers[name] for name in link.content["inputs"] if name in self.makers} if link else set()
            waiting += makers - wanted
            wanted |= makers
        return [link for link in reversed(self.from_below()) if link.key in wanted]

    def from_below(self) -> list[Link]:
        """Return all records, each after those of the jobs that made its inputs."""
        inputs: dict[str, int] = dict.fromkeys(self.links, 0)
        for below, readers in self.readers.items():
            if below in self.links:
                for reader in readers:
                    inputs[reader] += 1
        waiting = deque(key for key, number in inputs.items() if not number)
        found: list[Link] = []
        while waiting:
            key = waiting.popleft()
            found.append(self.links[key])
            for reader in self.readers.get(key, []):
                inputs[reader] -= 1
                if not inputs[reader]:
                    waiting.append(reader)
        done = {link.key for link in found}
        return found + [link for link in self.links.values() if link.key not in done]  # a circle is a forgery

    def planted(self) -> list[tuple[str, str]]:
        """List (record, file) for every record that lies beside those of the chain and claims a file of one of them."""
        found = []
        for folder in dict.fromkeys(key.rpartition("/")[0] for key in self.links):
            for name in _names(os.path.join(self.place.root, folder)):
                key = f"{folder}/{name}" if folder else name
                if key in self.links or key in self.broken or not is_record(name):
                    continue
                link = self.look(key)
                files = link.content["outputs"] if link else ()
                claimed = next((file for file in files if file in self.makers), None)
                if claimed and self.makers[claimed] != key:
                    found.append((key, claimed))
        return found


def _lists(link: Link, key: str) -> bool:
    """Tell whether a record lists a file. It also stands for itself."""
    return key == link.key or key in link.content["outputs"]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def has_maker(key: str) -> bool:
    """Tell whether a file must have been made by a job. Settings, logs and the markers of downloads need not."""
    return not is_settings(key) and key.partition("/")[0] not in UNTRACED
