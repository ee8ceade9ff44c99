"""A result and all below it as a research object crate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from provenance_files import flip

from wsss.errors import WsssError
from wsss.files import sha256
from wsss.provenance.crate import write_crate

pytest_plugins = ("provenance_fixtures",)

VALIDATOR = Path(__file__).with_name("provenance_validator.py")


def graph_of(metadata: Path) -> dict[str, dict]:
    return {entity["@id"]: entity for entity in json.loads(metadata.read_text())["@graph"]}


def of_kind(graph: dict[str, dict], kind: str) -> list[dict]:
    return [entity for entity in graph.values() if kind in entity["@type"]]


def test_every_job_is_an_action_with_its_files(finished, tmp_path):
    graph = graph_of(write_crate(finished.audit(), tmp_path / "crate"))
    actions = of_kind(graph, "CreateAction")
    assert len(actions) == 8  # seven jobs and the run of the workflow
    assert len(of_kind(graph, "ControlAction")) == 7
    for action in actions:
        assert all(graph[file["@id"]] for file in [*action["object"], *action["result"]])
    assert graph["./"]["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert graph[graph["./"]["author"][0]["@id"]]["name"] == "The wsss maintainers"


def test_files_are_packed_if_asked_for(finished, tmp_path):
    metadata = write_crate(finished.audit(), tmp_path / "crate", with_files=True)
    files = of_kind(graph_of(metadata), "File")
    packed = [entity for entity in files if "sha256" in entity]
    assert packed
    assert all(sha256(metadata.parent / entity["@id"]) == entity["sha256"] for entity in packed)


def test_what_does_not_match_is_not_packed(chain, tmp_path):
    flip(chain.table)
    with pytest.raises(WsssError, match="only what matches its records is packed"):
        write_crate(chain.audit(), tmp_path / "crate")


def test_a_folder_in_use_is_not_written_to(finished, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(WsssError, match="is not empty"):
        write_crate(finished.audit(), tmp_path)


@pytest.mark.parametrize("name", ["mine", "mine/crate"])
def test_a_file_in_the_place_of_the_folder_is_named(finished, tmp_path, one_line, name):
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / name
    one_line(lambda: write_crate(finished.audit(), out), f"{out}: cannot be written", "in the way")


def test_a_full_disk_is_that_of_the_crate(finished, tmp_path):
    command = ["prlimit", "--fsize=1000", sys.executable, "-m", "wsss.cli", "crate", str(finished.table)]
    run = subprocess.run([*command, "--out", str(tmp_path / "crate")], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith(f"wsss crate: {tmp_path / 'crate'}: no room is left on the disk")


@pytest.mark.parametrize("with_files", [False, True])
def test_the_profiles_are_kept(finished, tmp_path, with_files):
    python = os.environ.get("WSSS_ROC_PYTHON")
    if python is None:
        pytest.skip("WSSS_ROC_PYTHON names no Python with roc-validator and rocrate 0.11")
    metadata = write_crate(finished.audit(), tmp_path / "crate", with_files)
    assert validated(python, metadata) == ["done"]
    content = json.loads(metadata.read_text())
    content["@graph"] = [entity for entity in content["@graph"] if entity["@type"] != "HowToStep"]
    metadata.write_text(json.dumps(content))
    assert len(validated(python, metadata)) > 1  # it does look


def validated(python: str, metadata: Path) -> list[str]:
    command = [python, str(VALIDATOR), str(metadata.parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()
