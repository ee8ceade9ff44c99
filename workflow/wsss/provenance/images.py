"""The images and masks of a data set: the index lists the digest of each, so they are part of the chain."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wsss.files import read_json
from wsss.provenance.content import Broken, Content
from wsss.provenance.findings import Finding
from wsss.provenance.hashes import Hasher, Seen
from wsss.provenance.place import Place

COLUMNS = (("image", "sha256"), ("mask", "mask_sha256"), ("instances", "instances_sha256"))
LARGEST_INDEX = 2**30  # bytes
LARGEST_ABOUT = 2**20
EACH = 20  # findings of a kind that are listed one by one


def root_of_images(index: Path) -> Path:
    """Return the folder that the paths in an index start from."""
    return index.parent / read_json(index.with_name("dataset.json"))["root"]


def listed(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (path from the root of the images, digest) of every image and mask in an index.

    Raises:
        Broken: it is no index.
    """
    try:
        for row in csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")):
            for path, digest in COLUMNS:
                if row.get(path):
                    yield str(row[path]), str(row.get(digest))
            if not row.get("image"):
                raise Broken(f"is no index: row {row.get('id')} names no image")
    except (csv.Error, UnicodeDecodeError) as error:
        raise Broken(f"is no index ({error})") from None


def beside(content: Content, record: str) -> dict[str, str]:
    """Return the digests of lists and label tables beside the images of a data set, by the record of its index.

    Args:
        content: what the record says. If it is of another job than ``index``, there are none.
        record: its name.
    """
    folder, outputs = record.rpartition("/")[0], content["outputs"]
    if content["command"] != "index" or f"{folder}/index.csv" not in outputs:
        return {}
    return {key: entry["sha256"] for key, entry in outputs.items() if key.rpartition("/")[0] != folder}


def check(
    place: Place,
    key: str,
    hasher: Hasher,
    images: Path | None,
    lists: Mapping[str, str] | None = None,
    linked: Iterable[str] = (),
) -> tuple[int, list[Finding]]:
    """Compare every image and mask of an index with its digest, and the lists beside them with theirs.

    Args:
        place: where the results are.
        key: the index.csv.
        hasher: reads the files. The folder of the images becomes one of its roots.
        images: the folder of the images, if it is not where the index says.
        lists: digests of files ``beside`` the images.
        linked: real folders of those images that links put outside the folder of the images, by the index's record.

    Returns:
        The number of files, and the findings.
    """
    try:
        declared = _declared_root(place, key, hasher) if lists or not images else Path()
        data = hasher.text(place.path(key), LARGEST_INDEX)
        expected = dict(listed(data)) if isinstance(data, bytes) else {}
    except Broken as error:
        return 0, [Finding("modified", key, str(error))]
    root = images or declared
    if expected and not root.is_dir():
        text = f"the folder of the images of {key} is not here; name it with --images"
        return 0, [Finding("missing", str(root), text)]
    hasher.declare(root)
    for folder in linked:
        if os.path.realpath(folder) != "/":
            hasher.declare(folder)
    paths = {os.path.join(root, name): (digest, key) for name, digest in expected.items()}
    for name, digest in (lists or {}).items():
        file = place.path(name)
        moved = root / file.relative_to(declared) if file.is_relative_to(declared) else file
        paths[str(moved)] = digest, "the record of the index"
    hasher.see_all(dict.fromkeys(paths))
    wrong: dict[str, list[Finding]] = {}
    for path, (digest, by) in paths.items():
        if (finding := _compare(place, path, digest, hasher.see(path), by)) is not None:
            wrong.setdefault(finding.kind, []).append(finding)
    return len(paths), [finding for same in wrong.values() for finding in _folded(same, key)]


def _declared_root(place: Place, key: str, hasher: Hasher) -> Path:
    about = place.path(key).with_name("dataset.json")
    data = hasher.text(about, LARGEST_ABOUT)
    if isinstance(data, Seen):
        raise Broken("its dataset.json cannot be read, so its images were not looked at")
    try:
        root = json.loads(data)["root"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Broken("its dataset.json says nothing of a folder, so its images were not looked at") from None
    if not isinstance(root, str) or "\0" in root:
        raise Broken("its dataset.json names no folder, so its images were not looked at")
    found = Path(os.path.normpath(os.path.join(about.parent, root)))
    if os.path.realpath(found) == "/":
        raise Broken("its dataset.json names the whole machine as the folder of its images")
    return found


def _compare(place: Place, path: str, digest: str, seen: Seen, by: str) -> Finding | None:
    if seen.sha256 == digest:
        return None
    name = place.key(path) or path
    if seen.missing:
        return Finding("missing", name, f"{by} lists it, and there is no such file", culprits=(name,))
    if seen.why:
        return Finding("foreign", name, seen.why, culprits=(name,))
    return Finding("modified", name, f"differs from what {by} lists", culprits=(name,))


def _folded(same: list[Finding], index: str) -> list[Finding]:
    """Return findings of one kind: one by one where they are few, else a few of them and the number of the others."""
    if len(same) <= EACH:
        return same
    first, others = same[:EACH], same[EACH:]
    text = f"and {len(others)} more files that it lists, the last {others[-1].place}"
    return [*first, Finding(same[0].kind, index, text, culprits=tuple(finding.place for finding in others))]
