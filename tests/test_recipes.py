"""The recipes of what comes after the classifiers: what the papers' runs resolve to on their data, and the releases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.modules.dropout import _DropoutNd

from wsss.plan import Plan, drawings
from wsss.plan.runs import Run
from wsss.provenance.record import supervision
from wsss.refine import affinity_net
from wsss.report.grid import Grid
from wsss.report.notes import Reasons, notes
from wsss.schedule import Progress, Schedule
from wsss.segment.presets import resolve
from wsss.segment.task import SegmentTask

ROOT = Path(__file__).parent.parent
FROZEN = ["conv1a", "b2", "b2_1", "b2_2"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return Plan(config, ROOT / "workflow" / "papers")


# ---- AffinityNet


@pytest.mark.parametrize("run", ["seam/seam", "eader/psa", "occse/occse", "aeft/aeft", "acr/acr"])
def test_affinitynet_has_the_backbone_of_the_releases_whatever_its_classifier_has(plan, run):
    """networks/resnet38_aff.py: dropout .3 and .5, conv1a and b2 frozen, 105.615 M parameters that are trained."""
    config = plan.resolve(Run("voc12", *run.split("/")))
    with torch.device("meta"):
        net = affinity_net.build(config, initial=False)
    dropped = {name: module.p for name, module in net.backbone.named_modules() if isinstance(module, _DropoutNd)}
    assert {name.partition(".")[0]: p for name, p in dropped.items() if p} == {"b6": 0.3, "b7": 0.5}
    frozen = {
        name.partition(".")[0]
        for name, p in net.backbone.named_parameters()
        if not p.requires_grad and "bn" not in name
    }
    assert frozen == set(FROZEN)
    trained = sum(p.numel() for group in net.parameter_groups("affinity") for p in group["params"])
    assert trained / 1e6 == pytest.approx(105.615, abs=5e-4)


def test_affinitynet_of_aeft_starts_from_the_classifier_of_psa(plan):
    (model,) = plan.references(Run("voc12", "aeft", "aeft"), 0, "affinity")
    assert model == f"{plan.home(Run('voc12', 'aeft', 'psa'), 0, 'train')}/model.pt"
    assert plan.references(Run("voc12", "acr", "acr"), 0, "affinity") == [
        "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    ]


def test_the_dropout_of_aefts_affinitynet_ends_where_its_validation_starts(plan):
    assert plan.resolve(Run("voc12", "aeft", "aeft"))["affinity"]["dropout_until"] == 1600
    for other in ("seam/seam", "occse/occse", "acr/acr"):
        assert plan.resolve(Run("voc12", *other.split("/")))["affinity"]["dropout_until"] is None


@pytest.mark.parametrize(("until", "expected"), [(None, (True, True)), (3, (True, False)), (0, (False, False))])
def test_dropout_is_off_from_its_step_on(until, expected):
    section = {"radius": 2, "dropout_until": until, "backbone": {"name": "mobilenet_v2", "dropout": 0.5}}
    torch.manual_seed(0)
    net = affinity_net.build({"affinity": section, "backbone": {}}).train()
    batch = {"id": ["a", "b"], "image": torch.randn(2, 3, 64, 64), "label": torch.randint(0, 3, (2, 8, 8))}
    for step, drops in zip((2, 3), expected, strict=True):
        progress = Progress(step, 10, 0, 1)
        one, other = (sum(net.losses(batch, "affinity", progress).values()).item() for _ in range(2))
        assert (one != other) is drops, step


def test_walks_that_nobody_released_are_those_of_the_same_group(plan):
    walks = {
        run: plan.resolve(Run("voc12", *run.split("/")))["walk"] for run in ("occse/occse", "aeft/aeft", "acr/acr")
    }
    assert walks["occse/occse"] == walks["acr/acr"] == walks["aeft/aeft"]
    assert walks["aeft/aeft"] == {"alpha": 19, "beta": 8, "log_steps": 6, "crf": True}  # infer_aff.py
    assert plan.resolve(Run("voc12", "seam", "seam"))["walk"] == {"alpha": 6, "beta": 8, "log_steps": 6, "crf": False}


def test_acrs_crf_has_no_exponent_that_the_release_never_makes(plan):
    resolved = plan.resolve(Run("voc12", "acr", "acr"))
    assert resolved["crf"]["alphas"] == [6, 24]
    assert (resolved["affinity"]["low_alpha"], resolved["affinity"]["high_alpha"]) == (6, 24)


def test_acrs_masks_are_made_by_irnet_as_rib_sets_it(plan):
    resolved = plan.resolve(Run("voc12", "acr", "acr"))
    assert resolved["deeplab"]["labels"] == "irn_walk"
    assert (resolved["irn_marks"]["fg_threshold"], resolved["irn_marks"]["bg_threshold"]) == (0.35, 0.17)
    assert (resolved["irn_walk"]["score_power"], resolved["irn_walk"]["background"]) == (1.3, 0.27)
    rows = {row["label"]: row for row in plan.papers["acr"]["tables"]["cam"]["rows"]}
    assert rows["ACR"]["cells"]["mask"]["stage"] == "irn_walk"


def test_irnet_has_the_backgrounds_of_the_releases_scripts_for_coco(plan):
    """run_sample_coco.py of RIB (behind ACR) and of ReCAM."""
    assert plan.resolve(Run("coco14", "acr", "acr"))["irn_walk"]["background"] == 0.22
    assert plan.resolve(Run("coco14", "acr", "acr"))["irn_walk"]["score_power"] == 1.3


def test_of_acrs_updates_52_may_be_left_out(plan):
    train = plan.resolve(Run("voc12", "acr", "acr"))["train"]
    assert (schedule := Schedule(10582, train)).steps == 52880
    assert int(train["may_skip"] * schedule.steps) == 52
    assert plan.resolve(Run("voc12", "seam", "seam"))["train"]["may_skip"] == 0


# ---- segmentation networks


def test_the_head_of_seams_network_starts_as_released():
    """deeplabv1.py, __initialize__: deviations of Kaiming's fan-out; the first cross entropy is about 13, not 3."""
    torch.manual_seed(0)
    deeplab = resolve({"deeplab": {"preset": "seam"}})["deeplab"]
    deeplab["backbone"] = {"name": "tiny"}
    task = SegmentTask(deeplab, 20)
    convs = [module for module in task.net.head if isinstance(module, torch.nn.Conv2d)]
    assert [conv.weight.std().item() for conv in convs] == pytest.approx([0.0208, 0.0625, 0.3086], rel=0.02)
    batch = {"id": ["a"] * 4, "image": torch.randn(4, 3, 96, 96), "label": torch.randint(0, 21, (4, 96, 96))}
    (loss,) = task.train().losses(batch, "segment", None).values()
    assert 10 < loss.item() < 17


def test_seams_batch_norms_see_the_images_of_one_gpu(plan):
    train = plan.resolve(Run("voc12", "seam", "seam"))["deeplab"]["train"]
    assert (train["batch_size"], train["accumulate"]) == (10, 2)


def test_images_of_seams_network_are_resized_without_antialiasing(plan):
    resolved = plan.resolve(Run("voc12", "seam", "seam"))
    assert resolved["deeplab"]["train"]["antialias"] is resolved["predict"]["antialias"] is False
    for other in ("aeft/aeft", "acr/acr", "occse/occse", "eader/psa"):
        resolved = plan.resolve(Run("voc12", *other.split("/")))
        assert resolved["deeplab"]["train"]["antialias"] is resolved["predict"]["antialias"] is True


def test_aefts_network_has_one_reading_and_mctformers_is_the_other(plan):
    train = plan.resolve(Run("voc12", "aeft", "aeft"))["deeplab"]["train"]
    assert (train["batch_size"], train["optimizer"]["lr"]) == (8, 0.001)
    assert Schedule(10582, train).steps == 10576
    other = resolve({"deeplab": {"preset": "mctformer"}})["deeplab"]["train"]
    assert (other["batch_size"], other["crop"], other["optimizer"]["lr"]) == (4, 321, 0.0007)
    assert Schedule(10582, other).steps == 79350


def test_all_networks_have_one_budget_on_coco(plan):
    runs = [(paper, run) for paper in ("seam", "occse", "aeft", "acr") for run in plan.papers[paper]["runs"]]
    steps = {Schedule(82081, plan.resolve(Run("coco14", *run))["deeplab"]["train"]).steps for run in runs}
    assert steps == {100_000}


# ---- the epoch that is kept

CHOSEN = {"occse/occse": [3, 6, 9, 12, 15], "aeft/aeft": [20, 24, 28, 32, 36, 40], "acr/acr": [8, 16, 24, 32, 40]}


@pytest.mark.parametrize(("run", "epochs"), CHOSEN.items())
def test_runs_that_were_published_with_their_best_epoch_choose_it_and_say_so(plan, run, epochs):
    paper, name = run.split("/")
    config = plan.stage_config(Run("voc12", paper, name), 0, "train")
    assert config["train"]["select"] == "best"
    assert {"cam", "measure"} <= set(config)  # what the choice depends on
    assert any("the epoch was chosen" in line for line in supervision("train", config))
    table = drawings.table(plan, "voc12", "overview", "methods")
    cells = {cell["run"]: cell for row in table["rows"] for cell in row["cells"]}
    assert cells[run]["chosen"] == f"epochs {', '.join(map(str, epochs))} of {epochs[-1]}"
    assert "chosen" not in cells[f"{run}_last"]
    assert "not_comparable" not in cells[run]


def test_no_other_run_chooses_its_epoch_and_none_on_other_data(plan):
    for paper, spec in plan.papers.items():
        for run in spec["runs"]:
            config = plan.resolve(Run("voc12", paper, run))
            chooses = config["method"]["name"] in ("occse", "aeft", "acr")
            chooses &= not (run.endswith("_last") or run.startswith("reconstructor"))
            assert config["train"]["select"] == ("best" if chooses else "last"), run
            for dataset in ("shapes", "coco14"):
                assert plan.resolve(Run(dataset, paper, run))["train"]["select"] == "last"
    config = plan.stage_config(Run("voc12", "seam", "seam"), 0, "train")
    assert not {"cam", "measure"} & set(config)
    assert supervision("train", config) == ["image-level labels of the training images"]


def test_the_last_epochs_are_shared_where_no_epoch_is_chosen(plan):
    for paper in ("occse", "aeft", "acr"):
        assert plan.owner(Run("shapes", paper, f"{paper}_last"), "cam").word == f"{paper}/{paper}"
        assert plan.owner(Run("voc12", paper, f"{paper}_last"), "train").word == f"{paper}/{paper}_last"


def test_a_table_says_of_which_rows_the_epoch_was_chosen_on_masks(plan):
    drawing = drawings.table(plan, "voc12", "acr", "strategy")
    (line,) = [line for line in notes(drawing, Grid([], [], [], []), Reasons(), worded=True) if "out of epochs" in line]
    assert line.startswith("Baseline, Pre-trained")
    assert line.endswith("on the masks of the measured images, out of epochs 8, 16, 24, 32, 40 of 40.")


# ---- PSA and IRNet


def test_psa_has_its_own_recipe_and_shares_what_another_paper_trains_alike(plan):
    config = plan.resolve(Run("voc12", "psa", "resnet38"))
    assert Schedule(10582, config["train"]).steps == 661 * 15
    assert (config["affinity"]["low_alpha"], config["affinity"]["high_alpha"]) == (4, 32)
    assert config["walk"] == {"alpha": 16, "beta": 8, "log_steps": 8, "crf": False}
    assert plan.owner(Run("voc12", "psa", "resnet38"), "walk").word == "eader/psa"
    vgg = plan.resolve(Run("voc12", "psa", "vgg16"))
    assert (vgg["train"]["optimizer"]["lr"], vgg["affinity"]["train"]["optimizer"]["lr"]) == (0.1, 0.1)
    assert (vgg["method"]["power"], vgg["deeplab"]["model"], vgg["deeplab"]["backbone"]["name"]) == (
        0.5,
        "largefov_vgg16",
        "vgg16",
    )


def test_irn_has_the_settings_of_its_sample_script(plan):
    config = plan.resolve(Run("voc12", "irn", "irn"))
    assert Schedule(10582, config["train"]).steps == 661 * 5
    assert config["irn_marks"]["fg_threshold"] == 0.30
    assert config["irn_marks"]["bg_threshold"] == 0.05
    assert (config["irn_walk"]["beta"], config["irn_walk"]["log_steps"], config["irn_walk"]["background"]) == (
        10,
        8,
        0.25,
    )
    assert Schedule(10582, config["irn_train"]["train"]).steps == 330 * 3
    assert config["deeplab"]["labels"] == "irn_walk"


def test_instances_are_not_asked_of_data_without_masks_of_objects():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["datasets"]["voc12"]["options"]["instances"] = None
    table = drawings.table(Plan(config, ROOT / "workflow" / "papers"), "voc12", "irn", "labels")
    cam, mask, instances = table["rows"][0]["cells"]
    assert instances["missing"] == "data set voc12 has no masks of objects"
    assert "missing" not in cam | mask
