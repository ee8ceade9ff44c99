"""Forgeries: numbers edited with new digests all the way up, records of other places, records that say less."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from provenance_chain import RUN, TABLE, Chain, cam, make_chain, train, working_in
from provenance_files import read, rewrite

from wsss.errors import WsssError
from wsss.provenance.anchor import sign, verify
from wsss.provenance.audit import audit

pytest_plugins = ("provenance_fixtures",)

CAM = "cam/measured-0-of-1"


def record(chain: Chain, name: str) -> Path:
    return chain.path(f"seam/seam/seed0/{name}.record.json")


def table_record(chain: Chain) -> Path:
    return chain.path("tables/seam_table2/record.json")


def entry(path: Path) -> dict:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}


def rehash(chain: Chain) -> None:
    """Give every record the digests of the files that are there, from the images up."""
    order = [chain.path("data/record.json"), chain.path("seam/seam/seed0/train/record.json")]
    order += [record(chain, name) for name in (CAM, "walk/measured-0-of-1")]
    order += [record(chain, f"measure/{name}_measured") for name in ("cam", "walk")]
    makers: dict[str, str] = {}
    for path in [*order, table_record(chain)]:
        content = read(path)
        for part in ("inputs", "outputs"):
            content[part] = {key: entry(chain.folder / "results" / key) for key in content[part]}
        content["parents"] = {key: makers[key] for key in content["parents"]}
        rewrite(path, **content)
        makers |= dict.fromkeys(content["outputs"], read(path)["identity"])


def kinds_of(chain: Chain, kind: str) -> list[str]:
    return [finding.line(full=True) for finding in chain.audit().findings if finding.kind == kind]


def test_an_edited_cell_is_found_though_all_digests_are_right(chain):
    text = chain.table.read_text()
    number = text.splitlines()[2].split(",")[5]
    chain.table.write_text(text.replace(number, "99.0000"))
    rehash(chain)
    (finding,) = chain.audit().findings
    assert finding.kind == "reported value"
    assert f"CAM + SEAM, mIoU: ours is 99.0000, and {number} follows" in finding.text


@pytest.mark.parametrize("name", ["table.html", "table.md", "table.tex"])
def test_an_edited_number_of_any_file_of_a_table_is_found_though_all_digests_are_right(chain, name):
    path = chain.folder / TABLE / name
    assert "55.41" in path.read_text()
    path.write_text(path.read_text().replace("55.41", "99.00"))
    rehash(chain)
    (finding,) = chain.audit().findings
    assert finding.kind == "reported value"
    assert finding.place == f"toy/tables/seam_table2/{name}"
    assert "is not what its cells give" in finding.text


def test_files_of_a_table_that_other_code_wrote_are_not_written_again(chain, monkeypatch):
    from wsss.provenance import code

    path = chain.folder / TABLE / "table.html"
    path.write_text(path.read_text() + " ")
    rehash(chain)
    assert len(chain.audit().findings) == 1
    monkeypatch.setattr(code, "files", lambda *_: {"report/tables.py": "0" * 64})
    found = chain.audit()
    assert not found.findings
    assert "tables that other code wrote were not written again" in found.left_out[0]


def test_an_edited_metric_is_found_though_all_digests_are_right(chain):
    path = chain.path("seam/seam/seed0/measure/walk_measured.json")
    content = read(path)
    content["points"]["argmax"]["miou"] = 0.99
    import json

    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    rehash(chain)
    found = kinds_of(chain, "reported value")
    assert any("walk_measured.json: argmax: miou is 0.99" in line for line in found)


def test_the_expected_digest_finds_an_edit_of_the_record_of_the_target(chain):
    before = chain.audit()
    for digest in (before.root, before.content):
        assert not chain.audit(expect=digest).findings
    rewrite(table_record(chain), seed=7)
    assert not chain.audit().findings  # its seal is right: nothing inside the results can tell
    assert [finding.kind for finding in chain.audit(expect=before.root).findings] == ["modified"]


@pytest.mark.parametrize("name", [CAM, "measure/walk_measured"])
def test_the_expected_digest_finds_an_edit_of_any_record(chain, name):
    before = chain.audit().root
    content = read(record(chain, name))
    rewrite(
        record(chain, name), machine={**content["machine"], "host": "another"}, code={**content["code"], "dirty": None}
    )
    assert chain.audit(expect=before).findings


def test_a_signature_holds_for_what_was_signed_and_for_nothing_else(chain, tmp_path):
    import subprocess

    key, signers = tmp_path / "key", tmp_path / "signers"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen here")
    subprocess.run(command, check=True)
    signers.write_text("auditor@example.org " + key.with_suffix(".pub").read_text())
    sign(chain.audit(), key)
    assert verify(chain.audit(), signers) == ("auditor@example.org", [])
    rewrite(table_record(chain), seed=7)
    who, findings = verify(chain.audit(), signers)
    assert who is None
    assert "signature does not hold" in findings[0].text
    with pytest.raises(WsssError, match="ssh-keygen"):
        sign(chain.audit(), tmp_path / "no key")


def test_a_record_without_parents_is_untraced(chain):
    rewrite(record(chain, CAM), parents={})
    found = kinds_of(chain, "untraced")
    assert found
    assert "does not say who made" in found[0]
    assert len(chain.audit().chain.links) == 7  # and the walk goes on


def test_a_planted_record_is_foreign(chain):
    planted = table_record(chain).with_name("table.record.json")
    shutil.copy(table_record(chain), planted)
    rewrite(planted, self="toy/tables/seam_table2/table.record.json")
    assert [line for line in kinds_of(chain, "foreign") if "table.record.json" in line]


def test_a_target_that_its_record_does_not_list_is_untraced(chain):
    extra = chain.folder / TABLE / "more.tex"
    extra.write_text("99.00")
    assert [finding.kind for finding in audit(extra, cold=True, code=False).findings] == ["untraced"]


def test_the_record_and_files_of_another_run_are_foreign(tmp_path):
    chain = make_chain(tmp_path)
    with working_in(tmp_path):
        train(seed=1)
        cam(seed=1)
    for suffix in (".npz", ".record.json", ".attempts.jsonl"):
        shutil.copy(chain.path(f"seam/seam/seed1/{CAM}{suffix}"), chain.path(f"seam/seam/seed0/{CAM}{suffix}"))
    assert [line for line in kinds_of(chain, "foreign") if "is the record of another place" in line]
    rewrite(record(chain, CAM), self=f"toy/seam/seam/seed0/{CAM}.record.json")
    assert chain.audit().findings


def test_a_siblings_file_is_modified(chain):
    shutil.copy(
        chain.path("seam/seam/seed0/measure/walk_measured.json"),
        chain.path("seam/seam/seed0/measure/cam_measured.json"),
    )
    assert ("modified", f"{RUN.removeprefix('results/')}/measure/cam_measured.json") in chain.kinds()


def test_a_result_without_record_is_untraced_or_missing(chain):
    chain.path("seam/seam/seed0/train/record.json").unlink()
    assert ("missing", "toy/seam/seam/seed0/train/record.json") in chain.kinds()


def test_a_target_without_record_cannot_be_audited(tmp_path):
    (tmp_path / "table.csv").write_text("47.43")
    with pytest.raises(WsssError, match="no record says where this comes from"):
        audit(tmp_path / "table.csv")


def test_settings_that_were_edited_are_named(chain):
    path = chain.path("seam/seam/seed0/walk/config.yaml")
    path.write_text(path.read_text().replace("beta: 8", "beta: 9"))
    assert ("settings", "toy/seam/seam/seed0/walk/config.yaml") in chain.kinds()


def test_settings_that_were_edited_with_their_digest_are_named(chain):
    path = chain.path("seam/seam/seed0/walk/config.yaml")
    path.write_text(path.read_text().replace("beta: 8", "beta: 9"))
    rehash(chain)
    assert ("settings", "toy/seam/seam/seed0/walk/config.yaml") in chain.kinds()
