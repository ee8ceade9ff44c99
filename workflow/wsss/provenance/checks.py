"""The checks of a chain in itself, one function each. They return findings, the cause and what rests on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from wsss.provenance import code as code_state
from wsss.provenance import images
from wsss.provenance.chain import Chain, Link, has_maker
from wsss.provenance.content import Content, is_settings
from wsss.provenance.findings import Finding, listed
from wsss.provenance.hashes import Hasher, Seen
from wsss.provenance.ledger import ledger_path
from wsss.provenance.place import Home, is_record, makers_of
from wsss.stages import STAGES

LARGEST_SETTINGS = 2**20  # bytes
LARGEST_LEDGER = 2**26
SHOWN = ("table.html", "figure.png")  # what a page embeds of a table or figure
YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def records(chain: Chain) -> Iterator[Finding]:
    """Yield records that cannot be used, that are of another place, or that another one contradicts."""
    for key, why in list(chain.broken.items()):
        rests = [chain.links[reader].first for reader in chain.readers.get(key, [])]
        yield Finding("modified", key, why, [*rests, *_above(chain, key)], records=(key,))
    for link in chain.links.values():
        if elsewhere := _elsewhere(link):
            yield Finding("foreign", link.key, elsewhere, chain.resting_on([link.key]), records=(link.key,))
    broken = dict(chain.broken)
    for key, claimed in chain.planted():
        text = f"claims {claimed} as well, which {chain.makers[claimed]} is about; delete the wrong one of the two"
        yield Finding("foreign", key, text, culprits=(key,))
    chain.broken = broken  # broken neighbours are not this chain's concern


def _above(chain: Chain, key: str) -> list[str]:
    direct = chain.readers.get(key, [])
    return [first for first in chain.resting_on([key]) if first not in {chain.links[name].first for name in direct}]


def _elsewhere(link: Link) -> str | None:
    """Say why a record does not belong where it lies."""
    said = link.content["self"]
    if said != link.key:
        return f"is the record of another place: {said}"
    folder = link.key.rpartition("/")[0]
    start = f"{folder}/" if folder else ""
    outside = next((key for key in link.content["outputs"] if not key.startswith(start)), None)
    if outside:
        return f"lists a file that is not in its folder: {outside}"
    if not any(link.key in makers_of(key) for key in link.content["outputs"]):
        return "lists no file that it could be the record of"
    home, config = Home.of(link.key), link.content["config"] or {}
    if home is None:
        return None
    about: object = config.get("dataset")
    dataset = about.get("name") if isinstance(about, dict) else None
    claims: Content = {
        "command": link.command,
        "stage": config.get("stage"),
        "seed": config.get("seed"),
        "data set": dataset,
    }
    place: Content = {"command": home.stage, "stage": home.stage, "seed": home.seed, "data set": home.dataset}
    for name, claim in claims.items():
        if claim is not None and claim != place[name]:
            return f"is of the {name} {claim}, in a folder of the {name} {place[name]}"
    return None


# ---- files


def sizes(chain: Chain) -> dict[str, int | None]:
    """Return every file that a chain is about, with the size that its record says."""
    found: dict[str, int | None] = {}
    for link in chain.links.values():
        for path, entry in link.content["external"].items():
            chain.hasher.declare(entry.get("real", path))
            found[path] = entry["size"]
        of_images = images.beside(link.content, link.key)
        for part in ("inputs", "outputs"):
            for key, entry in link.content[part].items():
                if key not in chain.links and key not in of_images:
                    found.setdefault(str(chain.place.path(key)), entry["size"])
    return found


def outputs(chain: Chain) -> Iterator[Finding]:
    """Yield files that are not what the record of their maker says."""
    for link in chain.links.values():
        of_images = images.beside(link.content, link.key)
        for key, entry in link.content["outputs"].items():
            if key in of_images:
                continue  # which is looked at with the images
            seen = chain.hasher.see(chain.place.path(key))
            wrong = difference(seen, entry["sha256"], f"differs from what '{link.command}' wrote")
            if wrong:
                rests = chain.resting_on([link.key])
                yield Finding(wrong[0], key, wrong[1], rests, records=(link.key,), culprits=(key,))


def difference(seen: Seen, expected: str, text: str) -> tuple[str, str] | None:
    """Return kind and words for a file that is not as expected; None for one that is."""
    if seen.missing:
        return "missing", "is gone"
    if seen.sha256 == expected:
        return None
    if seen.why is None:
        return "modified", text
    refused = "not opened" in seen.why or "link to nothing" in seen.why
    return ("foreign", seen.why) if refused else ("modified", f"{text}: it {seen.why}")


def inputs(chain: Chain) -> Iterator[Finding]:
    """Yield files that a job read and that no record is about any more, or that were made again since."""
    untraced: dict[str, list[str]] = {}
    gone: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    strange: dict[str, list[str]] = {}
    for link in chain.links.values():
        for key, entry in link.content["inputs"].items():
            maker = chain.makers.get(key) or (key if key in chain.links else None)
            if maker is None and stranger(chain, key):
                strange.setdefault(key, []).append(link.key)
            elif maker is None:
                if has_maker(key) and not any(name in chain.broken for name in makers_of(key)):
                    (gone if key in link.content["parents"] else untraced).setdefault(key, []).append(link.key)
            elif _made(chain.links[maker], key) != entry["sha256"]:
                other.setdefault(key, []).append(link.key)
    for key, readers in strange.items():
        name, said = stranger(chain, key) or ("", "")
        yield about(chain, "foreign", name, f"is the record of another place: {said}", readers, (key, name))
    for key, readers in untraced.items():
        yield about(chain, "untraced", key, "no record says where it comes from", readers, (key,))
    for key, readers in gone.items():
        seen = chain.hasher.see(chain.place.path(key))
        text = "is gone" if seen.missing else "is gone, though the file that it describes is there"
        place = key if seen.missing else expected_record(key)
        yield about(chain, "missing", place, text, readers, (key,))
    for key, readers in other.items():
        yield about(chain, "stale", key, "was made again, and differently, after it was read", readers)


def _made(maker: Link, key: str) -> str:
    """Return the digest of a file by the record of its maker."""
    return maker.digest if key == maker.key else str(maker.content["outputs"][key]["sha256"])


def about(chain: Chain, kind: str, key: str, text: str, readers: list[str], culprits: tuple[str, ...] = ()) -> Finding:
    """Return a finding about a file whose readers are wrong, not its maker."""
    firsts = dict.fromkeys(chain.links[reader].first for reader in readers)
    rests = [*firsts, *(first for first in chain.resting_on(readers) if first not in firsts)]
    return Finding(kind, key, text, rests, records=tuple(readers), culprits=culprits)


def stranger(chain: Chain, key: str) -> tuple[str, str] | None:
    """Return the record that lies where that of a file should, and the place that it belongs to."""
    for name in makers_of(key):
        link = chain.look(name)
        if link is not None and link.content["self"] != name:
            return name, str(link.content["self"])
    return None


def expected_record(key: str) -> str:
    """Return the name that the record of a file most probably has: shards and metrics have one each."""
    home, (own, of_folder) = Home.of(key), makers_of(key)
    return own if home and (STAGES[home.stage].in_shards or home.stage == "measure") else of_folder


def parents(chain: Chain) -> Iterator[Finding]:
    """Yield records that do not name who made their inputs, or name somebody else."""
    again: dict[str, list[str]] = {}
    for link in chain.links.values():
        named = link.content["parents"]
        lacking = [key for key in link.content["inputs"] if key in chain.makers and key not in named]
        if lacking:
            text = f"its record does not say who made {listed(lacking)}, though there is a record of it"
            yield Finding("untraced", link.first, text, chain.resting_on([link.key]), records=(link.key,))
        if strange := [key for key in named if key not in link.content["inputs"]]:
            text = f"its record names who made {listed(strange)}, which it did not read"
            yield Finding("foreign", link.first, text, chain.resting_on([link.key]), records=(link.key,))
        for key, identity in named.items():
            maker = chain.links.get(chain.makers.get(key, ""))
            read = link.content["inputs"].get(key, {}).get("sha256")
            if maker and identity != maker.content["identity"] and _made(maker, key) == read:
                again.setdefault(maker.key, []).append(link.key)
    for key, readers in again.items():
        text = "was made again with the same bytes, but by other settings, other code or from other inputs"
        yield about(chain, "stale", chain.links[key].first, text, list(dict.fromkeys(readers)))


def external(chain: Chain) -> Iterator[Finding]:
    """Yield files outside the results that are not what jobs read."""
    readers: dict[tuple[str, str], list[str]] = {}
    for link in chain.links.values():
        for path, entry in link.content["external"].items():
            readers.setdefault((path, entry["sha256"]), []).append(link.key)
    for (path, expected), of in readers.items():
        text = f"differs from what '{chain.links[of[0]].command}' read"
        if wrong := difference(chain.hasher.see(path), expected, text):
            yield about(chain, wrong[0], path, wrong[1], of)


def unmade(chain: Chain) -> Iterator[Finding]:
    """Yield files in the results that no job makes, such as settings and logs, and that are not what jobs read."""
    readers: dict[tuple[str, str], list[str]] = {}
    for link in chain.links.values():
        for key, entry in link.content["inputs"].items():
            if key not in chain.makers and key not in chain.links:
                readers.setdefault((key, entry["sha256"]), []).append(link.key)
    for (key, expected), of in readers.items():
        kind = "settings" if is_settings(key) else "modified"
        text = f"differs from what '{chain.links[of[0]].command}' ran with"
        wrong = difference(chain.hasher.see(chain.place.path(key)), expected, text)
        if wrong and not (wrong[0] == "missing" and has_maker(key)):
            yield about(chain, kind if wrong[0] == "modified" else wrong[0], key, wrong[1], of, (key,))


# ---- settings, code, attempts, pages


def settings(chain: Chain) -> Iterator[Finding]:
    """Yield files of settings that differ from those in a job's record, though they are the files that the job read."""
    read: dict[str, object] = {}
    for link in chain.links.values():
        beside = f"{link.key.rpartition('/')[0]}/config.yaml"
        listed_ones = [key for key in link.content["inputs"] if is_settings(key)]
        for key in listed_ones or [beside]:
            if key not in read:
                read[key] = _settings(chain.hasher, chain.place.path(key))
            found = read[key]
            if isinstance(found, Seen):
                if found.why and not listed_ones:
                    yield Finding("settings", key, found.why, chain.resting_on([link.key]))
            elif (
                listed_ones and chain.hasher.see(chain.place.path(key)).sha256 != link.content["inputs"][key]["sha256"]
            ):
                continue  # which is reported for the file itself
            elif link.content["config"] is not None and found != link.content["config"]:
                text = f"says something else than the record of {link.first}"
                rests = [link.first, *chain.resting_on([link.key])]
                yield Finding("settings", key, text, rests, records=(link.key,), culprits=(key,))


def _settings(hasher: Hasher, path: object) -> object:
    """Return the contents of a config.yaml, in the types of JSON; else what there is of the file."""
    data = hasher.text(str(path), LARGEST_SETTINGS)
    if isinstance(data, Seen):
        return data
    if b"<<" in data:  # merging can make a small file large, and no job writes it
        return Seen(None, len(data), "has YAML's << in it, which is not read here")
    try:
        return json.loads(json.dumps(yaml.load(data, YAML_LOADER), default=str))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        return Seen(None, len(data), f"is not valid YAML ({' '.join(str(error).split())[:100]})")


def recorded_code(chain: Chain) -> Iterator[Finding]:
    """Yield jobs that ran other code than their settings say."""
    for link in chain.links.values():
        said = (link.content["config"] or {}).get("code")
        ran = link.content["code"]["files"]
        if said and ran and said != code_state.digest_of(ran):
            text = f"'{link.command}' ran other code than its settings say: it was changed after they were written"
            yield Finding("code", link.first, text, chain.resting_on([link.key]), records=(link.key,))


def attempts(chain: Chain) -> Iterator[Finding]:
    """Yield ledgers that were rewritten, and results of attempts that do not belong together."""
    for link in chain.links.values():
        said = link.content["attempts"]
        key = ledger_path(link.key).as_posix()
        data = chain.hasher.text(chain.place.path(key), LARGEST_LEDGER)
        if isinstance(data, Seen):
            yield Finding(*(("missing", key, "is gone") if data.missing else ("foreign", key, data.why or "")))
            continue
        then = data[: said["ledger_bytes"]]
        if hashlib.sha256(then).hexdigest() != said["ledger_sha256"]:
            yield Finding("modified", key, f"was rewritten after '{link.command}' ended; it may only grow")
        elif mixed := _mixed(then, said["basis"]):
            rests = chain.resting_on([link.key])
            yield Finding("attempt mixed", link.first, mixed, rests, records=(link.key,))


def _mixed(ledger: bytes, basis: str) -> str | None:
    """Return the reason why the attempts that a result is made of do not belong together.

    The last attempt counts. If it went on from an earlier one, this counts, too, and so on.
    """
    resumed = False
    for line in reversed(ledger.splitlines()):
        event = _event(line)
        if event is None:
            return "its ledger has a line that is no event"
        if event.get("event") == "resumed":
            if event.get("basis", basis) != basis:
                return f"went on at step {event.get('step')} from a checkpoint of other inputs or other code"
            resumed = True
        if event.get("event") == "started":
            if event.get("basis") != basis:
                return "went on from an attempt with other inputs or other code"
            if not resumed:
                return None
            resumed = False
    return None


def _event(line: bytes) -> Content | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def pages(chain: Chain) -> Iterator[Finding]:
    """Yield tables and figures that a page shows and its record does not list."""
    for link in chain.links.values():
        if link.command != "page":
            continue
        for key in filter(is_record, link.content["inputs"]):
            shown = chain.links[key].content["outputs"] if key in chain.links else ()
            for file in shown:
                if file.rpartition("/")[2] in SHOWN and file not in link.content["inputs"]:
                    yield Finding("untraced", file, f"is on the page {link.first}, whose record does not list it")


def all_of(chain: Chain) -> Iterable[Finding]:
    """Yield the findings of all checks of what records and files say of each other, likely causes first."""
    for check in (records, outputs, inputs, parents, external, unmade, settings, recorded_code, attempts, pages):
        yield from check(chain)
