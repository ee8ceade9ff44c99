"""The real workflow on the smallest data set: what runs, what does not run again, and what an audit sees."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from provenance_files import read, rewrite, stages_of
from toys import photograph, write_csv

from wsss.stores import png_bytes

pytestmark = pytest.mark.workflow

TABLE = "results/shapes/tables/seam_table2"
BASELINE = "results/shapes/seam/baseline/seed0"


def test_a_table_needs_its_own_runs_and_nothing_else(workflow):
    jobs = workflow.jobs("--", "seam_table2")
    assert jobs["train"] == 3  # CAM, SEAM and what they start from; Grad-CAM and Grad-CAM++ share CAM's network
    assert jobs["cam"] == 4
    assert jobs["measure"] == 4
    assert jobs["table"] == 1
    assert not {"crf", "affinity", "walk", "deeplab", "figure"} & set(jobs)


def test_instance_labels_are_made_and_measured(workflow):
    metrics = f"{BASELINE}/measure/irn_instances_measured.json"
    workflow("--", metrics)
    found = json.loads((workflow.folder / metrics).read_text())
    point = found["points"]["iou=0.5"]
    assert (found["stage"], found["count"]) == ("irn_instances", 12)
    assert 12 <= sum(point["true"]) <= 36
    assert 0 <= point["map"] <= 1
    clean = workflow.wsss("audit", metrics)
    assert clean.returncode == 0, clean.stdout
    assert {"irn_instances", "irn_train", "irn_marks", "cam", "train"} <= stages_of(clean.stdout)


def test_a_crf_beside_a_network_has_its_processes(workflow):
    (workflow.folder / "crf.yaml").write_text("overrides: {predict: {crf: {iterations: 0}}}")
    said = workflow("-n", "-p", "--configfile", "crf.yaml", "--config", "workers=2", "--", "aeft_comparison")
    asked = {}
    for job in said.stdout.split("\n\n"):
        if found := re.search(
            r"WSSS_THREADS=(\d) wsss (walk|predict) --config \S*/(aeft/aeft|seam/seam)/.*", job, re.S
        ):
            threads, processes = (re.search(rf"{word} (\d)", job) for word in ("threads:", "--workers"))
            asked[found[2], found[3]] = int(found[1]), int(threads[1]) if threads else 1, int(processes[1])
    assert asked["walk", "aeft/aeft"] == (1, 2, 2)  # of the network, of the job, for the CRF
    assert asked["walk", "seam/seam"] == asked["predict", "aeft/aeft"] == (1, 1, 1)  # no CRF


def test_every_target_has_a_plan(workflow):
    lines = workflow.wsss("targets").stdout.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert {"seam_table2", "seam_table5", "eader_alpha", "occse_depth", "aeft_gpp", "acr_losses"} <= set(names)
    workflow("-n", "--quiet", "all", "--", *names)


def test_official_weights_take_the_place_of_a_training(workflow):
    """A trained model, exported as an official file and read in another run, gives the same class maps.

    The file and the folder of results may have any names.
    """
    official = "its authors' weights (äöü).pth"
    metrics = "shapes/seam/baseline/seed0/measure/cam_measured.json"
    workflow("--", f"results/{metrics}")
    trained = (f"{BASELINE}/train/config.yaml", f"{BASELINE}/train/model.pt")
    export = ("export-weights", "--config", trained[0], "--data", "results/shapes/data", "--model", trained[1])
    assert workflow.wsss(*export, "--out", official).returncode == 0
    (workflow.folder / "official.yaml").write_text(
        yaml.safe_dump({"results": "my results; again", "overrides": {"train": {"weights": official}}})
    )
    workflow("--configfile", "official.yaml", "--", f"my results; again/{metrics}")
    assert not (workflow.folder / "my").exists()
    points = [
        json.loads((workflow.folder / folder / metrics).read_text())["points"]
        for folder in ("results", "my results; again")
    ]
    assert points[0] == points[1]
    record = json.loads(
        (workflow.folder / "my results; again" / metrics).parents[1].joinpath("train/record.json").read_text()
    )
    assert str(workflow.folder / official) in record["external"]
    assert record["config"]["train"]["weights"] == official
    assert workflow.wsss("audit", f"my results; again/{metrics}").returncode == 0
    (workflow.folder / official).write_bytes(b"another file")
    assert workflow.wsss("audit", f"my results; again/{metrics}").returncode == 1


def test_a_job_that_a_cluster_ends_goes_on_from_its_checkpoint(workflow):
    """SIGTERM comes to all processes of a job at once, also to the one that writes the log."""
    model = "results/shapes/aeft/gpp/seed0/train/model.pt"
    (workflow.folder / "long.yaml").write_text("overrides: {train: {steps: 400}}")
    target = ("--configfile", "long.yaml", "--config", "loaders=2", "--", model)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *target]
    folder = workflow.folder / Path(model).parent
    options = {"cwd": workflow.folder, "env": workflow.env, "stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    job = subprocess.Popen(command, **options, start_new_session=True)
    deadline = time.monotonic() + 200  # a guard against hanging, also on a machine that is busy
    while not ((log := folder / ".losses.0.csv").exists() and log.stat().st_size > 500):
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(300) != 0
    while not (folder / "checkpoint.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workflow("--unlock", *target)
    workflow("--rerun-incomplete", *target)
    said = (workflow.folder / "results/logs/shapes/aeft/gpp/seed0/train.log").read_text()
    first = int(re.search(r": (\d+)/400 steps", said)[1])
    assert first > 0, said


def test_claims_are_judged_by_what_has_been_computed_and_an_audit_judges_them_again(workflow):
    two = yaml.safe_dump({"claims": "computed", "datasets": {"shapes": {"seeds": [0, 1]}}})
    (workflow.folder / "two.yaml").write_text(two)
    homes = [f"results/shapes/seam/{run}/seed{seed}" for run in ("baseline", "seam") for seed in (0, 1)]
    metrics = [f"{home}/measure/cam_measured.json" for home in homes]
    workflow("--configfile", "two.yaml", "--", *metrics)
    asked = workflow.jobs("--configfile", "two.yaml", "--", "claims")
    assert set(asked) == {"claims", "configure_drawing", "judge"}  # nothing is trained for it
    workflow("--configfile", "two.yaml", "--", "claims", "eader_claims")
    folder = workflow.folder / "results/shapes/claims/claims"
    rows = {row["row"]: row for row in csv.DictReader((folder / "table.csv").read_text().splitlines())}
    better = rows["seam/better_maps: seam - baseline"]
    values = [json.loads((workflow.folder / path).read_text())["points"]["best"]["miou"] for path in metrics]
    differences = [100 * (values[i + 2] - values[i]) for i in (0, 1)]
    assert float(better["ours"]) == pytest.approx(np.mean(differences), abs=1e-4)
    assert float(better["low"]) < float(better["ours"]) < float(better["high"])
    assert better["verdict"] in ("holds", "does not hold", "undecided")
    assert rows["aeft/soft: soft - gpp"]["missing"] == "not computed"
    assert (folder / "figure.pdf").stat().st_size > 10000
    # beside it the whole, which asks for everything that claims name
    assert workflow.jobs("--config", "claims=all", "--", "claims")["train"] > 30
    assert "Claims of all papers" in workflow.wsss("targets").stdout

    clean = workflow.wsss("audit", "claims", "--configfile", "two.yaml")
    assert clean.returncode == 0, clean.stdout
    assert "SEAM" not in clean.stderr
    chain = workflow.wsss("audit", str(folder), "--cell", "seam/better_maps: seam - baseline, difference").stdout
    assert "measure    shapes/seam/seam/seed0/measure" in chain

    document = workflow.folder / "evidence.md"
    document.write_text(
        "Before.\n\n<!-- evidence of shapes: written by `wsss evidence shapes` -->\n<!-- end of shapes -->\n\nAfter.\n"
    )
    said = workflow.wsss("evidence", "shapes", "--out", "evidence.md")
    assert said.returncode == 0, said.stderr
    text = document.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert re.search(r"^\| shapes \| 0, 1 \| 6\d \|", text, re.M)
    assert json.loads((folder / "record.json").read_text())["identity"][:12] in text
    assert re.search(
        rf"^\| SEAM \| SEAM's class maps are better than those of plain CAM\. \| \+7\.98 \| .*{better['verdict']}",
        text,
        re.M,
    )
    assert workflow.wsss("evidence", "shapes", "--out", "evidence.md").returncode == 0
    assert document.read_text() == text

    forged = (folder / "table.csv").read_text().replace(f",{better['ours']},", ",77.0000,", 1)
    (folder / "table.csv").write_text(forged)
    assert "not what its record says" in workflow.wsss("evidence", "shapes", "--out", "evidence.md").stderr
    outputs = read(folder / "record.json")["outputs"]
    key = next(key for key in outputs if key.endswith("table.csv"))
    outputs[key] = {"sha256": hashlib.sha256(forged.encode()).hexdigest(), "size": len(forged.encode())}
    rewrite(folder / "record.json", outputs=outputs)  # all digests are right now
    found = workflow.wsss("audit", str(folder))
    assert found.returncode == 1
    assert f"baseline: ours is 77.0000, and {better['ours']} follows" in found.stdout


def test_an_archive_for_the_test_server_of_images_that_came_later(workflow):
    """The drawn images as a user's own: trained and predicted first, then a folder of images without masks is named."""
    workflow("--", "results/shapes/data/index.csv")
    voc = shutil.copytree(workflow.folder / "results/shapes/data/VOC", workflow.folder / "voc")
    options = {"root": str(voc), "images": "JPEGImages", "labels": "image_labels.csv", "masks": "SegmentationClass"}
    options["unmasked"] = ["icons"]
    lists = {split: f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val", "icons")}
    shapes = yaml.safe_load((workflow.folder / "config.yaml").read_text())["datasets"]["shapes"]
    mine = {**shapes, "builder": "folder", "options": {**options, "lists": lists}}
    target = "results/mine/seam/baseline/seed0/measure/predict_val.json"

    def given(**changes) -> list[str]:
        config = {"dataset": "mine", "datasets": {"mine": {**mine, **changes}}}
        (workflow.folder / "mine.json").write_text(json.dumps(config))
        return ["--configfile", "mine.json", "--"]

    workflow(*given(), target)
    test = workflow.folder / "test_images"
    (test / "photos").mkdir(parents=True)
    for image_id in ("val_0001", "val_0004"):
        shutil.copy(voc / f"JPEGImages/{image_id}.jpg", test / f"photos/T{image_id}.jpg")
    (test / "labels.csv").write_text((voc / "image_labels.csv").read_text().splitlines()[0])
    (test / "test.txt").write_text("Tval_0001\nTval_0004\n")
    arguments = given(test={"root": str(test), "images": "photos", "labels": "labels.csv"})
    assert workflow.jobs(*arguments, target) == {}
    jobs = workflow.jobs(*arguments, "submission_seam_baseline")
    names = {"configure", "configure_test", "index_test", "predict", "submission", "submission_seam_baseline"}
    assert jobs == dict.fromkeys(names, 1)
    workflow(*arguments, "submission_seam_baseline")
    archive = "results/mine/seam/baseline/seed0/submission/results.tgz"
    with tarfile.open(workflow.folder / archive) as stream:
        folder = "results/VOC2012/Segmentation/comp6_test_cls"
        assert stream.getnames() == [f"{folder}/{image_id}.png" for image_id in ("Tval_0001", "Tval_0004")]
        for entry in stream.getmembers():
            with Image.open(stream.extractfile(entry)) as picture:
                assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (64, 64))
    clean = workflow.wsss("audit", archive)
    assert clean.returncode == 0, clean.stdout
    assert "deeplab" in stages_of(clean.stdout)


def test_without_test_images_a_submission_says_what_to_do(workflow):
    result = workflow("-n", "submission_seam_seam", check=False)
    assert result.returncode != 0
    assert "datasets.shapes: names no test images" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "datset=shapes"], "configuration: top level: 'datset' is an unknown key: choose one of dataset,"),
        (
            ["--configfile", "wrong.yaml"],
            "wrong.yaml: datasets.shapes: 'pixel' is an unknown key: choose one of builder,",
        ),
        (["--config", "device=cuda:0"], "configuration: device: 'cuda:0' does not match"),
        (["--config", 'datasets={"shapes": {"seeds": [0, 1]}}'], "is read as text throughout: write it into a file"),
        (["--config", "dataset=nowhere"], "unknown data set 'nowhere'"),
        (["--config", 'datasets={"a;touch stray;b": {}}'], "datasets: 'a;touch stray;b' does not match"),
        (["--config", 'results="a{x}"'], "results: 'a{x}' does not match"),
        (["--config", 'papers=["nobody"]'], "unknown paper 'nobody': choose one of acr, aeft,"),
        (["seam_tabel2"], "no table, figure, claims or paper is called 'seam_tabel2': did you mean seam_table2?"),
        (["--configfile", "lacking.yaml", "--", "seam_table2"], "weights are missing: nowhere/resnet38d.params; see"),
        # keys that config.yaml has, too: the place is that of the wrong value
        (["--configfile", "steps.yaml"], "or null (steps.yaml, line 3)"),
        (["--config", "datasets={shapes: {splits: {val: x}}}"], "choose one of icons, measured, train, val\n"),
    ],
)
def test_a_wrong_word_is_named(workflow, arguments, message):
    (workflow.folder / "wrong.yaml").write_text("datasets: {shapes: {pixel: 0.5}}")
    weights = "{resnet38d: {weights: nowhere/resnet38d.params}}"
    (workflow.folder / "lacking.yaml").write_text(f"dataset: voc12\ndatasets: {{voc12: {{stand_ins: {weights}}}}}")
    (workflow.folder / "steps.yaml").write_text("datasets:\n  shapes:\n    overrides: {train: {steps: -3}}\n")
    result = workflow("-n", *arguments, check=False)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    if arguments[0] == "--configfile":
        assert message in workflow.wsss("cost", "--configfile", arguments[1], "seam_table2").stderr


def test_bad_input_stops_before_training(workflow, tmp_path):
    """A folder data set with a truncated image: the index names it, and no training job starts."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a whole file")
    (tmp_path / "masks").mkdir()
    photograph(8, 8).convert("L").save(tmp_path / "masks/a.png")
    (tmp_path / "labels.csv").write_text("id,cat\na,1\n")
    (tmp_path / "train.txt").write_text("a\n")
    config = {
        "dataset": "broken",
        "datasets": {
            "broken": {
                "builder": "folder",
                "options": {"root": str(tmp_path), "lists": {"train": "train.txt"}, "masks": "masks"},
                "splits": {"train": "train", "measured": "train", "val": "train"},
                "seeds": [0],
                "targets": ["seam_table2"],
            }
        },
    }
    path = Path(workflow.folder / "broken.yaml")
    path.write_text(json.dumps(config))
    result = workflow("--configfile", "broken.yaml", check=False)
    assert result.returncode != 0
    assert "a.jpg" in result.stdout + result.stderr
    assert "rule train:" not in result.stdout + result.stderr
    assert not list((workflow.folder / "results/broken").rglob("model.pt"))


def test_masks_that_will_be_missed_are_said_before_anything_runs(workflow, tmp_path):
    """The split that is measured needs its masks, also where a builder would do without them."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k, image_id in enumerate("abcd"):
        photograph(40, 32, k).save(tmp_path / "images" / f"{image_id}.png")
    write_csv(
        tmp_path / "labels.csv", [["id", "labels"], *([i, ("hen", "goose")[k % 2]] for k, i in enumerate("abcd"))]
    )
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("c\nd\n")
    options = {"root": str(tmp_path), "lists": {"train": "train.txt", "val": "val.txt"}, "masks": "masks"}
    options |= {"classes": ["hen", "goose"], "unmasked": ["train", "val"]}
    spec = {"builder": "folder", "options": options, "seeds": [0]}
    spec |= {"splits": {"train": "train", "measured": "train", "val": "val"}}
    farm = workflow.folder / "farm.yaml"
    farm.write_text(json.dumps({"dataset": "farm", "datasets": {"farm": spec}}))
    stopped = workflow("-n", "--configfile", "farm.yaml", "--", "seam_table2", check=False)
    assert stopped.returncode != 0
    said = "data set 'farm': 2 images of its split 'train' have no mask (a, b), and seam_table2"
    assert said in stopped.stdout + stopped.stderr
    for k, image_id in enumerate("ab"):
        (tmp_path / "masks" / f"{image_id}.png").write_bytes(png_bytes(np.full((32, 40), 1 + k, np.uint8)))
    assert workflow.jobs("--configfile", "farm.yaml", "--", "seam_table2")["measure"] == 4
    assert "'val' have no mask (c, d)" in workflow("-n", "--configfile", "farm.yaml", "--", "seam", check=False).stdout
    metrics = "results/farm/irn/irn/seed0/measure/{}.json"  # asked for by their files
    for name, said in (
        ("irn_walk_val", f"'val' have no mask (c, d), and {metrics.format('irn_walk_val')} compares"),
        ("irn_instances_measured", "data set 'farm' has no ground truth of objects, with which results/farm/irn/irn/"),
    ):
        stopped = workflow("-n", "--configfile", "farm.yaml", "--", metrics.format(name), check=False)
        assert said in stopped.stdout + stopped.stderr
    farm.write_text(json.dumps({"dataset": "farm", "datasets": {"farm": spec}, "papers": ["irn"]}))
    said = workflow("-n", "--configfile", "farm.yaml", "--", metrics.format("irn_walk_measured"))
    headline = "Before {} can be written, this has to be computed on data set farm:"
    assert headline.format(metrics.format("irn_walk_measured")) in said.stdout + said.stderr


def test_the_end_names_what_there_is_and_no_more(workflow):
    said = workflow("--config", "results=fresh", "--", "fresh/shapes/data/index.csv").stdout
    assert "Done." in said
    assert "so far" not in said
