"""All that a stranger sees: numbers, circumstances, the tree, a cell, JSON, differences, jobs run again, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from provenance_chain import (
    DATA,
    RUN,
    TABLE,
    Chain,
    cam,
    drawing,
    index,
    make_chain,
    measured,
    table,
    train,
    working_in,
)
from provenance_files import flip, read, rewrite

import wsss
from wsss.arguments import COMMANDS
from wsss.cli import parser
from wsss.errors import WsssError
from wsss.provenance.commands import find, run_audit, run_diff, run_sign
from wsss.provenance.difference import compare
from wsss.provenance.mend import mend
from wsss.provenance.rerun import Impossible, command_line, run_again
from wsss.stages import STAGES

pytest_plugins = ("provenance_fixtures",)


def said(chain: Chain, **more: object) -> tuple[int, str]:
    lines: list[str] = []
    code = run_audit(str(chain.table), say=lines.append, **more)
    return code, "\n".join(lines)


def test_the_numbers_come_first_then_what_they_were_made_with(chain):
    code, text = said(chain)
    assert code in (0, 1)  # the code of the package may be another by now
    assert "CAM + SEAM, mIoU" in text
    assert "55.4100" in text
    assert "seed      0" in text
    assert "data set  toy" in text
    assert "toy/seam/seam/seed0: train > cam > walk > measure (2 jobs)" in text
    found = chain.audit()
    assert f"content digest  {found.content}" in text
    assert f"root digest     {found.root}" in text


def test_numbers_that_were_edited_are_marked(chain):
    assert "not the numbers that were recorded" not in said(chain)[1]
    chain.table.write_text(chain.table.read_text().replace("55.41", "99.00"))
    assert "These are not the numbers that were recorded" in said(chain)[1]


def test_every_record_is_shown_in_full(chain):
    text = said(chain, full=True)[1]
    assert all(link.content["identity"] in text for link in chain.audit().chain.links.values())


def test_a_cell_has_a_chain_of_fewer_than_ten_lines(chain):
    text = said(chain, number="CAM + SEAM,ours")[1].splitlines()
    assert len([line for line in text if not line.startswith("code:")]) < 10
    assert text[0].startswith("CAM + SEAM, mIoU: ours")
    assert [line.split()[0] for line in text[1:5]] == ["measure", "cam", "train", "index"]
    assert "Nothing was computed" in said(chain, number="CAM,mIoU")[1]
    with pytest.raises(WsssError, match="is no cell of this table: choose one of CAM,mIoU"):
        said(chain, number="SEAM,ours")


def test_a_cell_is_named_with_the_words_of_its_row_where_the_label_is_of_several(chain):
    rows = drawing()["rows"]
    config = {**drawing(), "attributes": [{"key": "backbone", "label": "backbone"}]}
    config["rows"] = [
        {**rows[1], "attributes": {"backbone": "VGG16"}},
        {**rows[1], "cells": rows[2]["cells"], "attributes": {"backbone": "ResNet38"}},
    ]
    with working_in(chain.folder):
        table(config)
    with pytest.raises(WsssError, match=r"several cells: choose one of CAM \+ SEAM \(VGG16\),mIoU; CAM"):
        said(chain, number="CAM + SEAM,mIoU")
    first, second = (said(chain, number=f"CAM + SEAM ({name}),mIoU")[1] for name in ("VGG16", "resnet38"))
    assert "measure/cam_measured.json" in first
    assert "measure/walk_measured.json" in second


def test_a_cell_may_have_commas_in_its_names(chain):
    config = drawing()
    config["columns"][0]["label"] = "mIoU, train"
    config["rows"][1]["label"] = "CAM, SEAM"
    with working_in(chain.folder):
        table(config)
    for name in ("CAM, SEAM,mIoU, train", "cam,seam, miou,train", "CAM, SEAM,ours"):
        assert "measure/cam_measured.json" in said(chain, number=name)[1]


def test_a_program_gets_json(chain):
    flip(chain.folder / RUN / "train/model.pt")
    code, text = said(chain, as_data=True)
    found = json.loads(text)
    assert code == 1
    assert not found["clean"]
    assert found["findings"][0]["kind"] == "modified"
    assert len(found["records"]) == 7


def test_the_exit_code_tells_findings_from_what_cannot_be_audited(chain, tmp_path):
    assert said(chain, expect="0" * 64)[0] == 1
    with pytest.raises(WsssError) as error:
        run_audit(str(tmp_path / "nothing"))
    assert error.value.exit_code == 2
    with pytest.raises(WsssError, match="no such file, table, figure or claims"):
        find("seam_table99")


def test_what_does_not_match_is_not_signed(chain):
    chain.table.write_text("99.00")
    with pytest.raises(WsssError, match="only what matches its records is signed"):
        run_sign(str(chain.table), "key")


def test_results_that_are_the_same_do_not_differ(finished, tmp_path):
    other = make_chain(tmp_path)
    assert not compare(finished.audit(), other.audit()).reasons


def test_the_first_reason_along_the_chain_is_named(chain, finished):
    from provenance_chain import walk

    with working_in(chain.folder):
        train(steps=4)
        cam()
        walk()
        measured("cam")
        measured("walk")
        table()
    found = compare(finished.audit(), chain.audit())
    (reason,) = found.reasons
    assert "train.steps 3 and 4" in reason
    assert reason.startswith("train toy/seam/seam/seed0/train")


def test_other_images_are_named(chain, finished):
    with working_in(chain.folder):
        index(seed=5)
    found = compare(finished.audit(), chain.audit())
    assert any("index" in reason and "seed 3 and 5" in reason for reason in found.reasons)
    assert run_diff(str(finished.table), str(chain.table), lambda _: None) == 1


def test_two_runs_that_differ_by_their_seed(finished, tmp_path):
    chain = make_chain(tmp_path)
    with working_in(tmp_path):
        train(seed=1)
    from wsss.provenance.audit import audit

    one, two = (audit(tmp_path / f"{RUN[:-1]}{seed}/train", code=False) for seed in (0, 1))
    assert "seed 0 and 1" in compare(one, two).reasons[0]
    assert chain.table.is_file()


def test_packages_and_machines_are_named_where_nothing_else_differs(chain, finished):
    path = chain.folder / RUN / "cam/measured-0-of-1.record.json"
    found = read(path)
    outputs = {key: {**entry, "sha256": "1" * 64} for key, entry in found["outputs"].items()}
    rewrite(path, outputs=outputs, packages={**found["packages"], "numpy": "1.0"})
    assert any("packages: numpy" in reason for reason in compare(finished.audit(), chain.audit()).reasons)


def test_a_difference_is_said_once_where_it_comes_in(tmp_path):
    chain = make_chain(tmp_path)
    with working_in(tmp_path):
        train(seed=1)
        cam(seed=1)
    from wsss.provenance.audit import audit

    one, two = (audit(tmp_path / f"{RUN[:-1]}{seed}/cam/measured-0-of-1.npz", code=False) for seed in (0, 1))
    found = compare(one, two)
    (reason,) = found.reasons
    assert reason.startswith(
        "train toy/seam/seam/seed0/train/model.pt and toy/seam/seam/seed1/train/model.pt: seed 0 and 1"
    )
    assert len(found.above) == 1
    assert found.same == 1  # the index
    assert chain.table.is_file()


def test_metrics_of_two_stages_differ_by_what_they_read_and_what_one_alone_rests_on(finished):
    from wsss.provenance.audit import audit

    one, two = (
        audit(finished.path(f"seam/seam/seed0/measure/{stage}_measured.json"), code=False) for stage in ("cam", "walk")
    )
    found = compare(one, two)
    assert not found.none
    read = "inputs: toy/seam/seam/seed0/cam/measured-0-of-1.npz and toy/seam/seam/seed0/walk/measured-0-of-1.zip"
    assert any(read in reason for reason in found.reasons)
    assert "The second alone rests on 1 job: walk toy/seam/seam/seed0/walk/measured-0-of-1.zip" in found.reasons


@pytest.fixture
def runnable(tmp_path, monkeypatch):
    """A chain whose index and metrics carry the command lines that made them."""
    monkeypatch.setattr(sys, "argv", ["wsss", "index", "--config", f"{DATA}/config.yaml", "--out", DATA])
    chain = make_chain(tmp_path)
    for stage, kind in (("cam", "scores"), ("walk", "masks")):
        shard = f"{RUN}/{stage}/measured-0-of-1.{'npz' if kind == 'scores' else 'zip'}"
        command = ["measure", "--config", f"{RUN}/measure/config.yaml", "--data", DATA, "--stage", stage]
        out = f"{RUN}/measure/{stage}_measured.json"
        monkeypatch.setattr(sys, "argv", ["wsss", *command, "--images", "measured", f"--{kind}", shard, "--out", out])
        with working_in(tmp_path):
            measured(stage)
    with working_in(tmp_path):
        from provenance_chain import table

        table()
    return chain


def test_counts_follow_from_masks(runnable):
    again = run_again(runnable.audit(), 0, recount=True)
    assert not again.findings
    assert again.notes == ["2 jobs run again from their records, 2 gave what was recorded."]


def test_jobs_are_run_again_and_compared(runnable):
    again = run_again(runnable.audit(), 7)
    lines = [finding.line() for finding in again.findings]
    assert any("train/model.pt: could not be made again" in line for line in lines)  # its command line is none
    assert not any("index.csv" in line or "/measure/" in line.partition(";")[0] for line in lines)


def test_a_number_that_was_forged_with_its_counts_is_found_by_counting_again(runnable):
    path = runnable.folder / RUN / "measure/walk_measured.json"
    record = path.with_suffix(".record.json")
    from wsss.files import sha256

    path.write_text(path.read_text().replace('"count": 3', '"count": 4'))
    key = "toy/seam/seam/seed0/measure/walk_measured.json"
    rewrite(record, outputs={key: {"sha256": sha256(path), "size": path.stat().st_size}})
    again = run_again(runnable.audit(), 0, recount=True)
    assert any("was run again from its record and made other bytes" in finding.text for finding in again.findings)


@pytest.mark.parametrize("argv", [["rm", "-rf"], [], ["index", "--config", "c"], ["audit", "x"], ["cam", "--out", "x"]])
def test_a_record_can_ask_for_no_other_command(argv):
    with pytest.raises(Impossible):
        command_line({"command": "index", "argv": argv})


@pytest.mark.parametrize("name", sorted(STAGES))
def test_the_command_line_of_every_stage_is_put_together_so_that_it_is_read_as_it_was(name):
    argv = [name]
    for argument in COMMANDS[name].arguments:
        value = [] if argument.switch else ["2"]  # a number and a name
        argv += [argument.flag, *value] if argument.required or argument.switch else []
    switches = {argument.flag for argument in COMMANDS[name].arguments if argument.switch}
    for given in (argv, [word for word in argv if word not in switches]):
        arguments, out = command_line({"command": name, "argv": given})
        assert parser().parse_args([*arguments, "--out", out]) == parser().parse_args(given)


def test_a_record_cannot_say_where_to_write():
    argv = ["index", "--config", "c", "--out", "/victim", "--ou", "/other"]
    assert command_line({"command": "index", "argv": argv}) == (["index", "--config", "c"], "/other")


def test_the_auditor_needs_three_packages(chain, tmp_path):
    """In an environment with pyyaml, numpy and jsonschema, and nothing else."""
    uv = Path(sys.executable).parents[2] / ".tools/bin/uv"
    if not uv.is_file():
        pytest.skip("there is no uv here")
    environment = tmp_path / "bare"
    for command in (["venv", "-q", str(environment)], ["pip", "install", "-q", "-p", str(environment), *PACKAGES]):
        if subprocess.run([str(uv), *command], capture_output=True, check=False).returncode:
            pytest.skip("the packages cannot be installed here")
    script = "import sys; from wsss.provenance.commands import run_audit; sys.exit(run_audit(sys.argv[1]))"
    result = subprocess.run(
        [str(environment / "bin/python"), "-c", script, str(chain.folder / TABLE)],
        env={"PYTHONPATH": str(Path(__file__).parent.parent / "workflow"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    assert "root digest" in result.stdout


PACKAGES = ("pyyaml", "numpy", "jsonschema")


def test_settings_of_today_that_are_others_are_named_with_what_changed(chain):
    name = "toy/seam/seam/seed0/walk/config.yaml"
    today = {**read(chain.path("seam/seam/seed0/walk/measured-0-of-1.record.json"))["config"], "walk": {"beta": 9}}
    (finding,) = chain.audit(settings={name: today}.get).findings
    assert (finding.kind, finding.place) == ("settings", "toy/seam/seam/seed0/walk/measured-0-of-1.zip")
    assert "walk.beta 8 and 9" in finding.line()
    assert "toy/tables/seam_table2/table.csv" in finding.rests
    mended = mend(chain.audit(settings={name: today}.get))
    assert not mended.moved
    assert "makes it again by itself" in mended.left[0]


def test_settings_of_today_that_differ_in_their_digest_of_code_alone_are_no_others(chain):
    today = {}
    for path in chain.folder.rglob("*record.json"):
        content = read(path)
        key = next(key for key in content["inputs"] if key.endswith("config.yaml"))
        today[key] = {**content["config"], "code": "0" * 64}
    assert len(today) == 6
    assert not chain.audit(settings=today.get).findings


def test_a_target_s_name_without_the_clone_asks_for_its_folder(tmp_path):
    shutil.copytree(Path(wsss.__file__).parent, tmp_path / "wsss")
    command = [sys.executable, "-m", "wsss.cli", "audit", "seam_stages"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "name a result's folder" in result.stderr
