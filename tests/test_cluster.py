"""What a cluster is asked for: the site file, limits, options of sbatch, and the table of requests."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from wsss import cluster, devices
from wsss.errors import WsssError
from wsss.plan import Plan, extent, rates, requests, usage
from wsss.plan.outlook import Outlook
from wsss.plan.runs import Run
from wsss.plan.work import Work
from wsss.stages import IN_SHARDS, TRAINED

ROOT = Path(__file__).parent.parent


@pytest.fixture
def plan(tmp_path) -> Plan:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return Plan({**config, **yaml.safe_load((ROOT / "slurm/voc12.yaml").read_text()), "results": str(tmp_path)})


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("30:00", 30), ("2:00", 2), ("1:30:00", 90), ("1-00:00:00", 1440), ("infinite", None), ("n/a", None)],
)
def test_time_limits_are_read_as_slurm_writes_them(limit, expected):
    assert cluster.minutes(limit) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("accont: me", "accont"),
        ("most_minutes: long", "most_minutes"),
        ("warn_minutes: -1", "warn_minutes"),
        ("[1]", "settings"),
    ],
)
def test_a_mistake_in_the_site_file_is_one_line(tmp_path, one_line, text, word):
    (tmp_path / "site.yaml").write_text(text)
    one_line(lambda: cluster.load_site(tmp_path), "site.yaml", word, "site.example.yaml")


def test_without_a_site_file_the_cluster_decides(tmp_path):
    assert cluster.load_site(tmp_path) == cluster.Site()


def test_the_example_names_every_setting(tmp_path):
    lines = (ROOT / "slurm/site.example.yaml").read_text().splitlines()
    settings = "\n".join(
        line[2:] for line in lines if line.startswith("# ") and ": " in line and line[2:].split(":")[0].islower()
    )
    (tmp_path / "site.yaml").write_text(settings)
    assert set(yaml.safe_load(settings)) == set(cluster.Site.model_fields)
    assert cluster.load_site(tmp_path).gpu_type == "a100"


def test_a_second_attempt_avoids_nodes_that_lacked_a_gpu(tmp_path):
    events = [{"event": "started"}, {"event": devices.LACKS_GPU, "node": "n7"}, {"event": "ended"}]
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    record, site = str(tmp_path / "record.json"), cluster.Site(options="--nice")
    assert "--exclude" not in cluster.options(site, True, 1, record)
    assert cluster.options(site, True, 2, record) == "--open-mode=append --signal=TERM@300 --exclude=n7 --nice"
    assert cluster.options(site, False, 2, None) == "--open-mode=append --nice"
    assert cluster.LACKS_GPU == devices.LACKS_GPU


def test_every_stage_has_a_request_of_its_own(plan):
    assert {*TRAINED, *IN_SHARDS, "index", "measure", "submission", "table", "figure"} == set(requests.table())


def test_requests_grow_with_images_classes_and_attempts(plan):
    assert requests.megabytes(plan, "index", "coco14") > 2281  # what it was seen to need
    assert requests.megabytes(plan, "predict", "coco14", 8) > 8 * 1000  # eight CRFs of 81 labels
    assert requests.megabytes(plan, "predict", "voc12", 8) < requests.megabytes(plan, "predict", "coco14", 8)
    assert requests.megabytes(plan, "cam", "voc12", attempt=4) == 2 * requests.megabytes(plan, "cam", "voc12")
    assert requests.minutes(plan, "crf", "voc12", "rest-0-of-1") > requests.minutes(plan, "crf", "voc12", "rest-0-of-8")
    assert requests.minutes(plan, "train", "voc12", attempt=3, trains=True) == 1440


def test_shards_hold_at_least_as_many_images_as_is_configured(plan):
    assert (
        len(plan.shards(plan.results / "voc12/seam/seam/seed0/cam", "cam", "voc12", "train")) == 2
    )  # measured and rest
    assert len(plan.shards(plan.results / "coco14/aeft/aeft/seed0/cam", "cam", "coco14", "train")) == 5
    plan.config["shard_images"] = None
    assert len(plan.shards(plan.results / "coco14/aeft/aeft/seed0/cam", "cam", "coco14", "train")) == 8


def test_a_site_that_cannot_be_used_is_reported_before_the_first_job(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WsssError, match="sbatch: not found; start the workflow on a login node"):
        cluster.check(cluster.Site(), 0)
    with pytest.raises(WsssError, match="/home/o'neil: Snakemake cannot name a folder with an apostrophe"):
        cluster.check(cluster.Site(), 0, ["/scratch/wsss", "/home/o'neil"])


def test_what_does_not_fit_the_disk_is_refused_unless_it_is_temporary(plan, one_line, monkeypatch):
    monkeypatch.setattr(extent, "gigabytes", lambda work: 1e9)
    work = Work(plan, "voc12", [])
    one_line(lambda: extent.check_disk(work), "GB are free", "1,000,000,000 GB", "temporary: [scores]")
    plan.config["temporary"] = ["scores"]
    extent.check_disk(work)
    assert extent.free_gigabytes(plan.results / "not" / "there") > 0


@pytest.mark.workflow
def test_temporary_scores_are_gone_in_the_end_and_the_audit_says_so(workflow):
    metrics = "brief/shapes/seam/baseline/seed0/measure/cam_measured.json"
    ask = ("--config", "results=brief", "temporary=['scores']", "--", metrics)
    workflow(*ask)
    folder = workflow.folder / "brief/shapes"
    assert (workflow.folder / metrics).is_file()
    assert list(folder.glob("seam/*/seed0/cam/*.record.json"))
    assert not list(folder.rglob("*.npz"))
    assert "Nothing to be done" in workflow("-n", *ask).stdout
    audit = workflow.wsss("audit", metrics)
    assert audit.returncode == 0, audit.stdout
    assert "1 temporary files are gone" in audit.stdout

    config = yaml.safe_load((workflow.folder / "config.yaml").read_text())
    plan = Plan({**config, "results": str(workflow.folder / "brief")})
    with usage.write_efficiency(plan, "shapes").open() as stream:
        rows = {row["rule"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["train", "cam", "measure"]
    assert (rows["train"]["jobs"], rows["train"]["attempts"]) == ("2", "2")
    assert 0 < int(rows["train"]["peak_mb"]) < int(rows["train"]["asked_mb"])
    assert usage.gpu_hours(Work(plan, "shapes", ["seam_table2"])) == ""  # nothing has run on a GPU


def done(plan: Plan, run: Run, stage: str, file: str, **more) -> None:
    """Leave the record of a job as if it had run."""
    home = plan.folder(run, 0) / stage
    name = "record.json" if file == "model.pt" else f"{Path(file).stem}.record.json"
    record = {
        "command": stage,
        "argv": ["wsss", stage, "--workers", "2"],
        "config": plan.stage_config(run, 0, stage),
        "outputs": {f"{home}/{file}": ""},
        "seconds": 60.0,
        "attempts": {"number": 1},
        "machine": {"host": "here", "device": "cpu"},
        "peak_memory_mib": {"process": 100, "children": 10},
        **more,
    }
    home.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(json.dumps(record))


def test_what_jobs_asked_for_is_what_their_rules_ask_for(plan):
    run = Run("voc12", "seam", "seam")  # its walk has no CRF, its prediction has one
    done(plan, run, "walk", "rest-0-of-1.zip")
    done(plan, run, "predict", "val-0-of-1.zip")
    done(plan, run, "measure", "cam_measured.json")
    with usage.write_efficiency(plan, "voc12").open() as stream:
        asked = {row["rule"]: (int(row["asked_minutes"]), int(row["asked_mb"])) for row in csv.DictReader(stream)}
    workers = plan.config["workers"]
    assert asked == {
        "walk": (
            requests.minutes(plan, "walk", "voc12", "rest-0-of-1"),
            requests.megabytes(plan, "walk", "voc12"),
        ),
        "predict": (
            requests.minutes(plan, "predict", "voc12", "val-0-of-1"),
            requests.megabytes(plan, "predict", "voc12", workers),
        ),
        "measure": (
            requests.minutes(plan, "measure", "voc12", "measured"),
            requests.megabytes(plan, "measure", "voc12"),
        ),
    }
    assert asked["measure"][0] < requests.minutes(plan, "measure", "voc12")  # fewer than all images


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"command": "walk"}', '{"outputs": 3}', "\udcff"])
def test_a_damaged_record_is_left_out(plan, damage):
    run = Run("voc12", "seam", "seam")
    done(plan, run, "walk", "rest-0-of-1.zip")
    done(plan, run, "walk", "measured-0-of-1.zip")
    damaged = Path(plan.folder(run, 0)) / "walk/measured-0-of-1.record.json"
    damaged.write_bytes(damage.encode(errors="surrogateescape"))
    with usage.write_efficiency(plan, "voc12").open() as stream:
        assert [row["jobs"] for row in csv.DictReader(stream)] == ["1"]


def test_a_training_that_official_weights_replace_takes_no_time(plan):
    official = Plan({**plan.config, "overrides": {"train": {"weights": "official.pth"}}})
    run = Run("voc12", "seam", "seam")
    work = Work(official, "voc12", [])
    work.jobs = Outlook(official).jobs([official.metrics(run, 0, "cam")])
    work.counts = {"voc12": official.sizes("voc12")}
    on_gpu = {"host": "here", "device": "cuda:0"}
    done(official, run, "cam", "measured-0-of-1.npz", machine=on_gpu)
    done(official, run, "measure", "cam_measured.json")
    assert rates.time_of(work) == "About 2 min, one job after the other, at the pace of earlier runs on here."
    assert usage.gpu_hours(work) == "GPU hours, at the pace of earlier runs on GPUs: seam 0.0."
    work.jobs = work.of_stage("train")
    assert rates.time_of(work) == ""


@pytest.mark.parametrize(("device", "hours"), [("cuda:0", "2.0"), ("cuda:0, cuda:1", "4.0"), ("cpu", None)])
def test_gpu_hours_follow_records_of_gpus(plan, device, hours):
    run = Run("voc12", "seam", "seam")
    work = Work(plan, "voc12", [])
    job = next(job for job in Outlook(plan).jobs([plan.metrics(run, 0, "cam")]) if job.trains)
    work.jobs, work.counts = [job, job], {"voc12": plan.sizes("voc12")}
    done(plan, run, "train", "model.pt", seconds=3600.0, machine={"host": "here", "device": device})
    said = f"GPU hours, at the pace of earlier runs on GPUs: seam {hours}."
    assert usage.gpu_hours(work) == (said if hours else "")
