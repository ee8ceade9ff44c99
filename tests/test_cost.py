"""What a target will cost: the same jobs as Snakemake's own plan, and a time where one was measured."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from wsss.errors import WsssError
from wsss.plan import Plan, cost, drawings, jobs, targets
from wsss.plan.outlook import Outlook
from wsss.plan.runs import PRETRAINING, Run
from wsss.plan.weight_files import damage
from wsss.plan.work import Work, amount
from wsss.schedule import Schedule
from wsss.stages import STAGES

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make_plan(tmp_path):
    def make(**changes) -> Plan:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        return Plan({**config, "results": str(tmp_path / "results"), **changes})

    return make


def make_file(path: str | Path, text: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def stages(found: list[jobs.Job]) -> dict[str, int]:
    counted = Counter(job.stage for job in found)
    return {stage: counted[stage] for stage in STAGES if counted[stage]}


def told(plan: Plan, dataset: str, *asked: str) -> str:
    return cost.describe(Work(plan, dataset, asked))


def missing(plan: Plan, paths: list[str]) -> list[jobs.Job]:
    return Outlook(plan).missing(paths)


def test_a_stage_with_a_name_of_two_words_is_followed_down(make_plan):
    """Instances are shown by no published table, but one may ask for them."""
    plan = make_plan()
    wanted = plan.metrics(Run("shapes", "seam", "baseline"), 0, "irn_instances")
    assert wanted.endswith("measure/irn_instances_measured.json")
    found = stages(missing(plan, [wanted]))
    once = dict.fromkeys(("irn_train", "irn_instances", "measure"), 1)
    both = dict.fromkeys(("cam", "irn_marks"), 2)  # IRNet learns from all training images, measured or not
    assert found == {"train": 2, **both, **once}  # where it starts, and its own
    (measured,) = [job for job in missing(plan, [wanted]) if job.stage == "measure"]
    assert (measured.measured, measured.part) == ("irn_instances", "measured")


@pytest.mark.workflow
@pytest.mark.parametrize("dataset", ["shapes", "voc12"])
def test_these_are_the_jobs_that_snakemake_plans(workflow, dataset):
    """All tables and figures, three shards: the rules and the plan agree on every job."""
    config = yaml.safe_load((workflow.folder / "config.yaml").read_text())
    plan = Plan({**config, "shards": 3, "results": "nothing"})  # where other tests leave none
    for name in plan.dataset(dataset).get("stand_ins", {}).values():  # weight files are the user's
        if name.get("weights"):
            make_file(workflow.folder / name["weights"])
    available = targets.available(plan, dataset)
    planned = workflow.jobs("--config", "shards=3", "results=nothing", f"dataset={dataset}", "--", *available)
    ours = stages(Work(plan, dataset, available).jobs)
    assert ours == {rule: n for rule, n in planned.items() if rule in STAGES and rule != "index"}
    assert ours["train"] > 30


@pytest.mark.workflow
def test_it_is_said_before_anything_starts(workflow, make_plan):
    nothing = ("-n", "--config", "results=nothing")
    result = workflow(*nothing, "--", "seam_table1")
    said = result.stdout + result.stderr
    assert "Before seam_table1 can be written, this has to be computed on data set shapes:" in said
    assert said.index("5 trainings") < said.index("Job stats")
    of = "pretraining: classifier; seam: baseline, er, er_pcm, seam; seed 0"
    assert f"5 trainings 30 steps over 120 images; {of}" in " ".join(said.split())
    assert said.count("Before seam_table1") == 1
    everything = workflow(*nothing).stdout
    assert f"Before {len(make_plan().dataset('shapes')['targets'])} targets can be written" in everything
    assert "trainings" not in workflow("--list").stdout


def test_only_what_is_missing_counts_and_what_lies_below_it(make_plan):
    plan = make_plan()
    wanted = drawings.inputs(drawings.table(plan, "shapes", "seam", "table2"))
    assert stages(missing(plan, wanted)) == {"train": 3, "cam": 4, "measure": 4}
    make_file(plan.home(Run("shapes", *PRETRAINING), 0, "train") / "model.pt")
    assert stages(missing(plan, wanted)) == {"train": 2, "cam": 4, "measure": 4}
    model = plan.home(Run("shapes", "seam", "baseline"), 0, "train") / "model.pt"
    make_file(model)
    assert stages(missing(plan, wanted)) == {"train": 1, "cam": 4, "measure": 4}
    for path in wanted:  # measured: what is missing below is not needed any more
        make_file(path)
    assert missing(plan, wanted) == []
    Path(wanted[0]).unlink()
    assert stages(missing(plan, wanted)) == {"cam": 1, "measure": 1}
    scores = plan.home(Run("shapes", "seam", "baseline"), 0, "cam") / "measured-0-of-1.npz"
    make_file(wanted[0])
    model.unlink()
    (metrics,) = [path for path in wanted if "/baseline/" in path]
    Path(metrics).unlink()  # the network comes back, and all that is made with it is made anew
    assert stages(missing(plan, wanted)) == {"train": 1, "cam": 3, "measure": 3}
    make_file(scores)  # there is no need for the network
    assert stages(missing(plan, wanted)) == {"measure": 1}
    for job in Outlook(plan).jobs(wanted):
        make_file(job.folder(plan) / job.file)
    assert told(plan, "shapes", "seam_table2") == ""
    for stage in ("train", "cam"):
        settings = plan.stage_config(Run("shapes", "seam", "seam"), 0, stage)
        make_file(plan.home(Run("shapes", "seam", "seam"), 0, stage) / "config.yaml", yaml.safe_dump(settings))
    assert told(plan, "shapes", "seam_table2") == ""
    longer = make_plan(overrides={"train": {"steps": 7}})
    assert "1 training        7 steps" in told(longer, "shapes", "seam_table2")


def test_pretraining_is_counted_on_its_own_images(make_plan):
    shapes = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["shapes"]
    five = {"epochs": 5, "steps": None, "batch_size": 32}
    own = {**shapes["pretraining"], "train": {**shapes["pretraining"]["train"], **five}}
    plan = make_plan(datasets={"shapes": {**shapes, "companions": {}, "pretraining": own}})
    jobs_of_it = [job for job in Work(plan, "shapes", ["seam_table2"]).jobs if job.paper == "pretraining"]
    (job,) = jobs_of_it
    config = plan.stage_config(Run("shapes", *PRETRAINING), 0, "train")
    assert amount(job, config, plan.sizes("shapes")) == (155, 4960)  # 1,000 icons: 31 batches of 32 in each pass


def test_networks_that_start_at_random_are_named(make_plan):
    assert "at random" not in told(make_plan(), "shapes", "overview_refinement", "occse_table1")
    shapes = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["shapes"]
    stand_ins = {**shapes["stand_ins"], "resnet18": {}, "vgg16": {}}
    plan = make_plan(datasets={"shapes": {**shapes, "companions": {}, "stand_ins": stand_ins}})
    text = " ".join(told(plan, "shapes", "eader_alpha").split())
    assert text.endswith("These start at random, since no weights are given (see stand_ins): resnet18 (trainings).")
    assert "start at random, since no weights are given (see stand_ins): vgg16 (trainings)." in " ".join(
        told(plan, "shapes", "occse_table1").split()
    )
    make_file(
        plan.home(Run("shapes", "occse", "ordinary_vgg16"), 0, "train") / "model.pt"
    )  # OC-CSE's VGG16 is this one
    text = told(plan, "shapes", "occse_table1")
    assert "occse_vgg16" in text
    assert "at random" not in text


def test_a_package_of_weights_that_is_not_installed_is_named_before_it_is_read(make_plan):
    shapes = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["shapes"]
    for name, lacking in (("nowhere-to-be_found", True), ("os.path", True), ("", True), ("json", False)):
        entry = {"name": "tiny", "weights": f"package:{name}"}
        stand_ins = {**shapes["stand_ins"], "resnet38d": entry}
        plan = make_plan(datasets={"shapes": {**shapes, "companions": {}, "stand_ins": stand_ins}})
        said = f"weights are missing: package:{name}; see README, Weights"
        assert Work(plan, "shapes", ["seam_table2"]).obstacle() == (said if lacking else None)


def test_a_damaged_weight_file_is_named_before_it_is_read(make_plan, tmp_path):
    """A download that was cut off, or a page in its place, would end a training that comes hours later."""
    weights = tmp_path / "weights"
    names = {"resnet38d": "imagenet.params", "resnet101": "resnet101-5d3b4d8f.pth", "vgg16": "vgg16_20M.pth"}
    entries = {network: {"weights": str(weights / name)} for network, name in names.items()}
    datasets = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]
    datasets["voc12"]["stand_ins"] |= entries
    work = Work(make_plan(datasets=datasets), "voc12", ["occse_table1"])
    for name in names.values():
        make_file(weights / name)
    assert work.damaged() is None  # empty: they stand for files to come
    (weights / names["resnet101"]).write_bytes(b"PK\x03\x04 cut off")
    assert work.damaged() == (
        f"{weights}/resnet101-5d3b4d8f.pth is damaged or another file: its SHA-256 does not begin with 5d3b4d8f: "
        "download it again, or rename it if 5d3b4d8f means something else"
    )
    digest = hashlib.sha256(b"\x80whole").hexdigest()[:8]
    entries["resnet101"]["weights"] = str(weights / f"resnet101-{digest}.pth")
    (weights / f"resnet101-{digest}.pth").write_bytes(b"\x80whole")
    work = Work(make_plan(datasets=datasets), "voc12", ["occse_table1"])
    assert work.damaged() is None
    (weights / "trained-20240131.pth").write_bytes(b"\x80")
    assert damage(weights / "trained-20240131.pth") is None  # a date is no digest
    make_file(weights / names["vgg16"], "<!DOCTYPE html>\n<html>")
    assert work.damaged() == (
        f"{weights}/vgg16_20M.pth is text, such as a web page or a pointer of Git LFS, not weights: download it again"
    )


def test_instances_of_data_without_ground_truth_of_objects_are_named_before_anything_is_computed(make_plan):
    options = {"root": "/nowhere", "labels": "labels.csv", "lists": {"all": "all.txt"}, "masks": "masks"}
    roles = dict.fromkeys(("train", "measured", "val"), "all")
    spec = {"builder": "folder", "options": options, "splits": roles, "seeds": [0]}
    file = str(make_plan().results / "mine/irn/irn/seed0/measure/irn_instances_measured.json")
    expected = f"data set 'mine' has no ground truth of objects, with which {file} compares instances; "
    other = "ask for other results, such as irn_walk"

    def obstacle(of_data_set: dict, path: str = file) -> str | None:
        return Work(make_plan(datasets={"mine": of_data_set}), "mine", [path]).obstacle()

    assert obstacle(spec) == expected + other
    assert obstacle(spec, file.replace("instances_measured", "walk_val")) is None
    voc = {**spec, "builder": "voc"}
    cure = "set datasets.mine.options.instances to the folder of such masks (VOC: SegmentationObject), or "
    assert obstacle(voc) == expected + cure + other
    assert obstacle({**voc, "options": {**options, "instances": "SegmentationObject"}}) is None


def test_results_of_runs_are_recognised_by_their_files(make_plan):
    plan = make_plan()
    home = plan.results / "shapes/irn/irn/seed0"
    results = ("train/model.pt", "cam/rest-1-of-3.npz", "walk/val-0-of-1.zip", "submission/results.tgz")
    others = ("train/config.yaml", "train/record.json", "train/losses.csv", "measure/walk_val.record.json")
    for name in (*results, "measure/irn_walk_val.json", "measure/predict_val.json"):
        assert jobs.is_result(plan, f"{home}/{name}"), name
    for name in (*others, "measure/config.yaml", "measure/nothing_val.json"):
        assert not jobs.is_result(plan, f"{home}/{name}"), name
    assert not jobs.is_result(plan, f"{home}ling/train/model.pt")
    assert targets.named(plan, "shapes", [f"{home}/train/model.pt", f"{home}/train/config.yaml"]) == [
        f"{home}/train/model.pt"
    ]


def test_an_archive_for_the_server_is_counted_with_what_it_takes(make_plan):
    plan = make_plan(datasets={"voc12": yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["voc12"]})
    file = str(plan.home(Run("voc12", "seam", "seam"), 0, "submission") / "results.tgz")
    text = told(plan, "voc12", file)
    headline = f"Before {file} can be written, this has to be computed on data set voc12:"
    assert text.startswith(f"{headline}\n       1 training ")
    assert "\n       1 archive " in text


def test_time_is_an_estimate_from_records_of_the_same_work(make_plan):
    plan = make_plan()
    text = told(plan, "shapes", "seam_table2")
    assert "3 trainings       700 steps over 16,000 images; pretraining: classifier; seam:" in text, text
    assert "4 localizations   480 images" in text
    assert "none of it has run" in text

    home = plan.home(Run("shapes", "aeft", "aeft"), 0, "train")  # another method: says nothing
    record = {"seconds": 500.0, "machine": {"host": "elsewhere"}, "outputs": {f"{home}/model.pt": ""}}
    record |= {"attempts": {"number": 1}, "peak_memory_mib": {"process": 100, "children": 0}}
    record["config"] = plan.stage_config(Run("shapes", "aeft", "aeft"), 0, "train")
    make_file(home / "record.json", json.dumps(record))
    assert "none of it has run" in told(plan, "shapes", "seam_table2")

    home = plan.home(Run("shapes", "seam", "baseline"), 0, "train")  # its 200 steps in 300 s, then lost
    record["config"] = plan.stage_config(Run("shapes", "seam", "baseline"), 0, "train")
    record |= {"seconds": 300.0, "outputs": {f"{home}/model.pt": ""}}
    make_file(home / "record.json", json.dumps(record))
    text = " ".join(told(plan, "shapes", "seam_table2").split())
    assert "About 5 min, one job after the other, at the pace of earlier runs on elsewhere." in text
    rest = "trainings (cam, seam), localizations (cam, seam), measurements (cam)."  # CAM: the classifier of icons
    assert text.endswith(f"not measured yet: {rest}")


def test_sizes_come_from_the_index_or_are_known_or_are_not(make_plan):
    plan = make_plan()
    known = {"train": 400, "measured": 120, "val": 80, "rest": 280}
    assert plan.sizes("shapes") == {**known, "pretraining": 1000}
    plan.config["datasets"]["shapes"]["pretraining"].pop("images")
    assert plan.sizes("shapes") == {**known, "pretraining": 400}
    assert plan.sizes("voc12") == {"train": 10582, "measured": 1464, "val": 1449, "rest": 9118}
    make_file(plan.data("voc12") / "index.csv", "id,split\na,train;train_aug\nb,train_aug\nc,val\n")
    assert plan.sizes("voc12") == {"train": 2, "measured": 1, "val": 1, "rest": 1}
    make_file(plan.data("voc12") / "index.csv", "id,split\na,train;train_aug\nb,train_aug\nc,val\nd,val\n")
    assert plan.sizes("voc12")["val"] == 2
    plan.config["datasets"]["mine"] = {**plan.dataset("voc12"), "published": False, "seeds": [0]}
    assert plan.sizes("mine") == {}
    assert "as many images as the index will have" in told(plan, "mine", "seam_table2")


@pytest.mark.parametrize(
    "train",
    [
        {"epochs": 4, "batch_size": 5},
        {"epochs": 4, "batch_size": {0: 4, 2: 10}},
        {"epochs": 4, "batch_size": {0: 4, 2: 10}, "steps": 7},
        {"epochs": 8, "batch_size": {0: 4, 1: 10}, "steps": 3},
    ],
)
def test_images_of_a_schedule_are_those_of_its_batches(train):
    schedule = Schedule(22, {"steps": None, "drop_last": True, "optimizer": {"poly_epochs": None}, **train})
    assert schedule.images == sum(len(batch) for batch in schedule.batches(seed=0, start=0))


def test_names_are_found_in_what_was_asked_for(make_plan):
    plan = make_plan()
    folder = targets.folders(plan, "shapes")["seam_table2"]
    assert targets.named(plan, "shapes", ["seam_table2"]) == ["seam_table2"]
    assert targets.named(plan, "shapes", [f"{folder}/table.csv"]) == ["seam_table2"]
    usual = plan.dataset("shapes")["targets"]
    page = str(plan.results / "shapes/report/index.html")
    assert targets.named(plan, "shapes", []) == usual
    assert targets.named(plan, "shapes", ["all"]) == targets.named(plan, "shapes", [page]) == usual
    assert targets.named(plan, "shapes", ["all", "acr_strategy"]) == [*usual, "acr_strategy"]
    among_the_usual = f"{targets.folders(plan, 'shapes')['seam_stages']}/table.csv"
    assert targets.named(plan, "shapes", [among_the_usual, page, "acr_strategy"]) == [*usual, "acr_strategy"]
    assert targets.named(plan, "shapes", ["results/shapes/seam/baseline/seed0/train/model.pt"]) == []


def test_a_paper_means_all_of_its_tables_and_figures(make_plan):
    plan = make_plan()
    every = list(targets.available(plan, "shapes"))
    assert targets.chosen(plan, "shapes", ["aeft"]) == [name for name in every if name.startswith("aeft_")]
    assert targets.chosen(plan, "shapes", ["aeft_gpp", "everything"]) == [
        "aeft_gpp",
        *(n for n in every if n != "aeft_gpp"),
    ]
    plan.config["targets"] = "everything"
    assert targets.default(plan, "shapes") == targets.named(plan, "shapes", []) == every
    with pytest.raises(WsssError, match="unknown table, figure, claims or paper 'seam_table99'"):
        targets.chosen(plan, "shapes", ["seam_table99"])
