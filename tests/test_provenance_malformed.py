"""Records that are no records: each is one finding, the audit goes on, and nothing of them reaches a terminal raw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from provenance_chain import RUN
from provenance_files import read, rewrite

from wsss.provenance import content
from wsss.provenance.describe import as_json, cell, describe
from wsss.provenance.findings import clean
from wsss.provenance.mend import mend

pytest_plugins = ("provenance_fixtures",)

RECORD = "seam/seam/seed0/cam/measured-0-of-1.record.json"
TARGET = "tables/seam_table2/record.json"
WRONG: list[object] = [None, 3, "text", [], {}, [None], {"a": 1}, -1, True, "\x1b[31mred", "../../etc/passwd", 1e400]
RAW: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b"   \n",
    "a list": b"[]",
    "a number": b"42",
    "null": b"null",
    "half": b'{"version": 2,',
    "two": b"{}{}",
    "no UTF-8": b"\xff\xfe{}",
    "zeros": b"\0" * 1000,
    "deep": b"[" * 200_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "long number": b'{"version": ' + b"1" * 10_000 + b"}",
    "NaN": b'{"version": NaN}',
    "version 1": b'{"version": 1}',
    "old": b'{"command": "train", "inputs": {}, "outputs": {}, "parents": {}}',
    "surrogate": b'{"version": 2, "self": "\\ud800"}',
    "control characters": b'{"version": 2, "self": "\\u001b[2J"}',
    "twice": b'{"version": 2, "version": 2}',
    "large": b'{"version": 2, "self": "' + b"x" * 2_000_000 + b'"}',
}
FIELDS = ("self", "results", "command", "argv", "config", "inputs", "external", "roots", "outputs", "parents")
FIELDS += ("identity", "code", "packages", "machine", "attempts", "started", "ended", "seconds", "seal", "seed")


def edits() -> dict[str, Callable[[Path], None]]:
    found: dict[str, Callable[[Path], None]] = {}
    for name, data in RAW.items():
        found[name] = lambda path, data=data: path.write_bytes(data)
    for at, field in enumerate(FIELDS):
        found[f"no {field}"] = lambda path, field=field: without(path, field)
        found[f"odd {field}"] = lambda path, field=field, at=at: odd(path, field, at)
    return found


def without(path: Path, field: str) -> None:
    found = read(path)
    del found[field]
    path.write_text(content.text_of(found))


def odd(path: Path, field: str, at: int) -> None:
    """Write a value that the field does not have; a process without arguments has the empty list of them."""
    found = read(path)
    value = next(value for value in WRONG[at % len(WRONG) :] + WRONG if value != found[field])
    path.write_text(json.dumps(found | {field: value}, indent=1, sort_keys=True) + "\n")


EDITS = edits()


def test_there_are_fifty_of_them():
    assert len(EDITS) >= 50


@pytest.mark.parametrize("name", EDITS)
def test_a_malformed_record_is_a_finding_and_the_audit_goes_on(chain, name):
    EDITS[name](chain.path(RECORD))
    chain.path("seam/seam/seed0/measure/walk_measured.json").write_text("{}")  # is found as well
    found = chain.audit()
    assert ("modified", f"toy/{RECORD}") in {(finding.kind, finding.place) for finding in found.findings}
    assert ("modified", "toy/seam/seam/seed0/measure/walk_measured.json") in chain.kinds()
    printed = describe(found, full=True)
    assert not [char for char in printed if ord(char) < 32 and char != "\n"]
    json.dumps(as_json(found))


@pytest.mark.parametrize("name", EDITS)
def test_a_malformed_record_of_the_target_is_a_finding(chain, name):
    EDITS[name](chain.path(TARGET))
    found = chain.audit()
    assert [finding.place for finding in found.findings if finding.kind == "modified"] == [f"toy/{TARGET}"]
    assert describe(found)


HOSTILE: dict[str, dict] = {
    "a file outside": {"inputs": {"../../etc/passwd": {"sha256": "0" * 64, "size": 1}}},
    "an absolute input": {"inputs": {"/etc/passwd": {"sha256": "0" * 64, "size": 1}}},
    "a device": {"external": {"/dev/zero": {"sha256": "0" * 64, "size": 0}}},
    "a folder": {"external": {"/tmp": {"sha256": "0" * 64, "size": 0}}},
    "a terminal": {"external": {"/dev/tty": {"sha256": "0" * 64, "size": 0}}},
    "a kernel file": {"external": {"/proc/kmsg": {"sha256": "0" * 64, "size": 0}}},
    "control characters": {"command": "\x1b]0;title\x07"},
    "a link of another kind": {"external": {"/etc/mtab": {"sha256": "0" * 64, "size": 0}}},
    "itself": {"parents": {"toy/seam/seam/seed0/cam/measured-0-of-1.npz": "0" * 64}},
    "no settings": {"config": None},
    "odd settings": {"config": {"stage": ["cam"], "seed": {}, "dataset": 3, "code": "0" * 64}},
    "no packages": {"packages": {}, "machine": {}},
    "odd machine": {"machine": {"torch": {"gpu": 3}, "device": ["a"], "processor": None}},
}


ANCHORED = ("no packages", "odd machine")  # what only a digest from outside can find


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_with_right_digests_is_audited_to_the_end(chain, name):
    rewrite(chain.path(RECORD), **HOSTILE[name])
    found = chain.audit(code=True)
    assert found.findings or name in ANCHORED
    assert describe(found, full=True)
    assert cell(found, "AffinityNet,ours")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_can_be_mended(chain, name):
    rewrite(chain.path(RECORD), **HOSTILE[name])
    mend(chain.audit())
    assert not Path("/etc/passwd").is_symlink()


def test_a_hostile_table_is_audited_to_the_end(chain):
    for config in ({}, {"rows": 3}, {"rows": [3], "columns": []}, {"rows": [{"cells": [{}]}], "columns": [{}]}):
        rewrite(chain.path(TARGET), config=config)
        found = chain.audit()
        assert found.findings
        assert describe(found)


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3,4\n", 'row,"column\n' * 9, "\0\0", "row\n\xa0"])
def test_a_hostile_csv_is_audited_to_the_end(chain, text):
    chain.table.write_text(text)
    assert describe(chain.audit())
    chain.path("data/index.csv").write_text(text)
    assert describe(chain.audit())


def test_a_circle_of_records_ends(chain):
    table, key = chain.path(TARGET), "toy/tables/seam_table2/table.csv"
    found = read(chain.path(RECORD))
    inputs = {**found["inputs"], key: read(table)["outputs"][key]}
    rewrite(chain.path(RECORD), inputs=inputs, parents={**found["parents"], key: read(table)["identity"]})
    audited = chain.audit()
    assert audited.findings
    assert describe(audited, full=True)


@pytest.mark.parametrize("name", ["walk/config.yaml", "cam/config.yaml"])
@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "<<: {}", "- " * 5000, "\x00", "a: !!python/object/apply:os.system [ls]"]
)
def test_hostile_settings_are_audited_to_the_end(chain, name, text):
    (chain.folder / RUN / name).write_text(text)
    assert ("settings", f"toy/seam/seam/seed0/{name}") in chain.kinds()


def test_texts_of_unknown_origin_are_made_fit_for_a_terminal():
    assert clean("a\x1b[31m\n\u202eb\u2028") == "a\ufffd[31m\ufffd\ufffdb\ufffd"
    assert len(clean("x" * 10_000)) < 500
