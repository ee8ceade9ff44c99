"""Settings, networks and pixels of the runs beside those of the releases: golden/README_recipes.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from golden import OWN, load
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from wsss import backbones, methods
from wsss.data.transforms import multi_scale, resize, resize_label, resize_label_plain, resize_plain
from wsss.plan import Plan
from wsss.plan.runs import Run
from wsss.refine import affinity_net, irn_net, irn_walk
from wsss.segment.models import LargeFovSeam
from wsss.segment.presets import resolve
from wsss.segment.task import cross_entropy

ROOT = Path(__file__).parents[2]
RELEASED = json.loads((OWN / "recipes.json").read_text())
LOOP = {"batch_size": "batch_size", "lr": "optimizer.lr"}
EPOCHS = ("max_epoches", "max_epochs", "epochs")
AFFINITY = {
    **{name: f"affinity.train.{path}" for name, path in LOOP.items()},
    "max_epoches": "affinity.train.epochs",
    "crop_size": "affinity.train.crop",
    "wt_dec": ["affinity.train.optimizer.weight_decay", "affinity.train.optimizer.momentum"],
}
CLASSIFIER = {
    **{name: f"train.{path}" for name, path in LOOP.items()},
    **dict.fromkeys(EPOCHS, "train.epochs"),
    **dict.fromkeys(("crop_size", "crop"), "train.crop"),
    "resize": "train.long_side",
    "wt_dec": ["train.optimizer.weight_decay", "train.optimizer.momentum"],
}
WALK = {"alpha": "walk.alpha", "beta": "walk.beta", "logt": "walk.log_steps"}
IRNET = {
    "conf_fg_thres": "irn_marks.fg_threshold",
    "conf_bg_thres": "irn_marks.bg_threshold",
    "irn_crop_size": "irn_train.train.crop",
    "irn_batch_size": "irn_train.train.batch_size",
    "irn_num_epoches": "irn_train.train.epochs",
    "irn_learning_rate": "irn_train.train.optimizer.lr",
    "irn_weight_decay": ["irn_train.train.optimizer.weight_decay", "irn_train.train.optimizer.momentum"],
    "beta": ["irn_walk.beta", "irn_instances.beta"],
    "exp_times": ["irn_walk.log_steps", "irn_instances.log_steps"],
    "ins_seg_bg_thres": "irn_instances.background",
    "sem_seg_bg_thres": "irn_walk.background",
    "np_power": "irn_walk.score_power",
}
CAM_OF_IRN = {
    "cam_crop_size": "train.crop",
    "cam_batch_size": "train.batch_size",
    "cam_num_epoches": "train.epochs",
    "cam_learning_rate": "train.optimizer.lr",
    "cam_weight_decay": ["train.optimizer.weight_decay", "train.optimizer.momentum"],
    "cam_eval_thres": "measure.fixed",
    "cam_scales": "cam.scales",
}
YUDEWANG = {
    "DATA_RANDOMCROP": "deeplab.train.crop",
    "DATA_RANDOMSCALE": "deeplab.train.scale",
    "DATA_RANDOMFLIP": "deeplab.train.flip",
    "TRAIN_LR": "deeplab.train.optimizer.lr",
    "TRAIN_MOMENTUM": "deeplab.train.optimizer.momentum",
    "TRAIN_WEIGHT_DECAY": "deeplab.train.optimizer.weight_decay",
    "TRAIN_BN_MOM": "deeplab.norm_momentum",
    "TRAIN_POWER": "deeplab.train.optimizer.poly_power",
    "TRAIN_BATCHES": "deeplab.train.batch_size",
    "TRAIN_ITERATION": "deeplab.train.steps",
    "GPUS": "deeplab.train.accumulate",
    "MODEL_FREEZEBN": "deeplab.backbone.freeze_norm",
    "TEST_MULTISCALE": "predict.scales",
    "TEST_FLIP": "predict.flip",
}
KAZUTO = {
    "IMAGE.SIZE.TRAIN": "deeplab.train.crop",
    "SOLVER.ITER_MAX": "deeplab.train.steps",
    "SOLVER.ITER_SIZE": "deeplab.train.accumulate",
    "SOLVER.LR": "deeplab.train.optimizer.lr",
    "SOLVER.MOMENTUM": "deeplab.train.optimizer.momentum",
    "SOLVER.POLY_POWER": "deeplab.train.optimizer.poly_power",
    "SOLVER.WEIGHT_DECAY": "deeplab.train.optimizer.weight_decay",
    "CRF.ITER_MAX": "predict.crf.iterations",
    "CRF.POS_W": "predict.crf.gaussian.compat",
    "CRF.POS_XY_STD": "predict.crf.gaussian.sxy",
    "CRF.BI_W": "predict.crf.bilateral.compat",
    "CRF.BI_XY_STD": "predict.crf.bilateral.sxy",
    "CRF.BI_RGB_STD": "predict.crf.bilateral.srgb",
}
ERASING = {
    "img_resolution": "train.crop",
    "learning_rate": "train.optimizer.lr",
    "alpha": "method.alpha",
    "beta": "method.beta",
    "segmentation_map_threshold": "measure.fixed",
}
# script -> run of ours, argument -> setting; several settings where one argument lands on several
SCRIPTS = {
    "YudeWang/SEAM@3212261:train_SEAM.py": ("seam/seam", CLASSIFIER),
    "YudeWang/SEAM@3212261:train_aff.py": ("seam/seam", AFFINITY),
    "YudeWang/SEAM@3212261:infer_aff.py": ("seam/seam", WALK),
    "jiwoon-ahn/psa@9493e59:train_cls.py": ("psa/vgg16", CLASSIFIER),
    "jiwoon-ahn/psa@9493e59:train_aff.py": ("psa/vgg16", AFFINITY),
    "jiwoon-ahn/psa@9493e59:infer_aff.py": ("psa/resnet38", WALK),
    "jiwoon-ahn/psa@9493e59:infer_cls.py": (
        "psa/resnet38",
        {"low_alpha": "affinity.low_alpha", "high_alpha": "affinity.high_alpha"},
    ),
    "jiwoon-ahn/irn@a2ece00:run_sample.py": ("irn/irn", {**CAM_OF_IRN, **IRNET}),
    "jbeomlee93/RIB@9c43b3b:run_sample.py": ("acr/acr", IRNET),  # its class maps are ACR's
    "KAIST-vilab/OC-CSE@a833aea:train.py": (
        "occse/occse",
        {**CLASSIFIER, "cc_init": "method.cc_init", "cc_slope": "method.cc_slope", "alphas": "crf.alphas"},
    ),
    "KAIST-vilab/AEFT@dc81899:train.py": (
        "aeft/aeft",
        {**CLASSIFIER, "cj": "train.jitter", "M": "method.margin", "T": "method.triplet_from"},
    ),
    "KAIST-vilab/AEFT@dc81899:train_aff.py": ("aeft/aeft", AFFINITY),
    "KAIST-vilab/AEFT@251f80e:infer_dl.py": (
        "aeft/aeft",
        {
            **{name: f"deeplab.train.{path}" for name, path in LOOP.items()},
            "max_epoches": "deeplab.train.epochs",
            "wt_dec": ["deeplab.train.optimizer.weight_decay", "deeplab.train.optimizer.momentum"],
        },
    ),
    "sangrockEG/ACR@443dff9:train_pl.py": ("acr/acr", {**CLASSIFIER, "D": "method.hidden", "grid": "method.srf.grid"}),
    "sangrockEG/ACR@443dff9:infer_pl.py": ("acr/acr", {"alphas": "crf.alphas"}),
    "ErikStammes/EADER@9d81e40:train.py": ("eader/alpha005", {**CLASSIFIER, **ERASING}),
    "YudeWang/semantic-segmentation-codebase@a40f6c6:experiment/seamv1-pseudovoc/config.py": ("seam/seam", YUDEWANG),
    "kazuto1011/deeplab-pytorch@4219467:configs/voc12.yaml": ("irn/irn", KAZUTO),
}
OTHERWISE = {  # held by the tests below, or said by a departure
    "KAIST-vilab/AEFT@dc81899:train.py": {"batch_size", "crop", "TH", "W", "alphas"},  # alphas: the README's
    "KAIST-vilab/AEFT@251f80e:infer_dl.py": {"loss_weights", "prob", "alphas"},
    "sangrockEG/ACR@443dff9:train_pl.py": {"crop", "cj", "prob", "W"},  # cj: its call is a comment
    "sangrockEG/ACR@443dff9:infer_pl.py": {"resize", "crop", "cj", "D", "grid", "prob", "W"},  # of no training
    "jbeomlee93/RIB@9c43b3b:run_sample.py": set(CAM_OF_IRN),
    "ErikStammes/EADER@9d81e40:train.py": {
        *("adversarial_learning_rate", "train_steps_localizer", "train_steps_adversarial"),
    },
    "YudeWang/semantic-segmentation-codebase@a40f6c6:experiment/seamv1-pseudovoc/config.py": {
        *("DATA_MEAN", "DATA_STD", "MODEL_NUM_CLASSES", "TEST_CRF"),
        *("DATA_RANDOM_H", "DATA_RANDOM_S", "DATA_RANDOM_V"),  # segment/task.py, D2
    },
    "kazuto1011/deeplab-pytorch@4219467:configs/voc12.yaml": {
        *("DATASET.N_CLASSES", "DATASET.IGNORE_LABEL", "MODEL.N_BLOCKS", "MODEL.ATROUS_RATES", "IMAGE.SIZE.TEST"),
        *("DATASET.SCALES", "SOLVER.BATCH_SIZE.TRAIN", "SOLVER.LR_DECAY"),
    },
    # no run takes these scripts' values
    "YudeWang/SEAM@3212261:infer_SEAM.py": {"out_cam_pred_alpha"},
    "KAIST-vilab/OC-CSE@a833aea:infer.py": {"batch_size", "lr", "wt_dec", "alphas"},
    "KAIST-vilab/AEFT@dc81899:infer.py": {
        *("batch_size", "resize", "crop", "cj", "lr", "wt_dec", "max_epoches", "D", "M", "TH", "T", "W", "alphas"),
    },
    "xulianuwa/MCTformer@0acc27a:seg/train_seg.py": {"batch_size", "num_epochs", "lr", "wt_dec", "crop_size"},
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return Plan(config, ROOT / "workflow" / "papers")


def resolved(plan: Plan, run: str) -> dict:
    return plan.resolve(Run("voc12", *run.split("/")))


def at(config, path: str):
    for key in path.split("."):
        config = config[key]
    return config


# ---- arguments


def test_every_argument_is_a_setting_or_known_to_be_none():
    for script, arguments in RELEASED["arguments"].items():
        given = SCRIPTS.get(script, ("", {}))[1]
        missed = set(arguments) - set(given) - OTHERWISE.get(script, set())
        assert not missed, script


@pytest.mark.parametrize("script", SCRIPTS)
def test_settings_of_the_runs_are_the_arguments_of_the_releases(plan, script):
    run, settings = SCRIPTS[script]
    config, otherwise = resolved(plan, run), OTHERWISE.get(script, set())
    checked = 0
    for name, value in RELEASED["arguments"][script].items():
        if name in settings and name not in otherwise:
            paths = settings[name] if isinstance(settings[name], list) else [settings[name]]
            for path in paths:
                assert at(config, path) == value, (name, path)
                checked += 1
    assert checked


def test_arguments_that_are_lists_or_have_several_places(plan):
    given = RELEASED["arguments"]
    aeft, released = resolved(plan, "aeft/aeft"), given["KAIST-vilab/AEFT@dc81899:train.py"]
    assert aeft["train"]["batch_size"][released["T"]] == released["batch_size"]
    assert [aeft["train"]["crop"]] * 2 == released["crop"]
    assert [aeft["method"]["erase_above"], aeft["method"]["repel_below"]] == released["TH"]
    assert list(aeft["method"]["loss_weights"].values()) == released["W"]
    acr, released = resolved(plan, "acr/acr"), given["sangrockEG/ACR@443dff9:train_pl.py"]
    assert [acr["train"]["crop"]] * 2 == released["crop"]
    assert acr["method"]["srf"]["share"] * 100 == released["prob"]
    weights = acr["method"]["reconstructor"], acr["method"]["classifier"]
    assert [weights[0]["cls"], weights[0]["full"], weights[1]["t"], weights[1]["nt"]] == released["W"]
    eader, released = resolved(plan, "eader/alpha005"), given["ErikStammes/EADER@9d81e40:train.py"]
    steps = [released["train_steps_localizer"], released["train_steps_adversarial"]]
    assert eader["method"]["alternate_steps"] == steps
    rate = released["learning_rate"] * eader["method"]["adversary"]["lr_scale"]
    assert rate == released["adversarial_learning_rate"]
    irn, released = resolved(plan, "irn/irn"), given["kazuto1011/deeplab-pytorch@4219467:configs/voc12.yaml"]
    size = released["SOLVER.BATCH_SIZE.TRAIN"] * released["SOLVER.ITER_SIZE"]
    assert irn["deeplab"]["train"]["batch_size"] == size
    assert irn["deeplab"]["train"]["scale"] == [released["DATASET.SCALES"][0], released["DATASET.SCALES"][-1]]


def test_psas_runs_on_resnet38_differ_from_its_scripts_in_the_learning_rate_alone(plan):
    """refine/affinity_net.py, D6."""
    config = resolved(plan, "psa/resnet38")
    for script, settings in (("train_cls.py", CLASSIFIER), ("train_aff.py", AFFINITY)):
        for name, value in RELEASED["arguments"][f"jiwoon-ahn/psa@9493e59:{script}"].items():
            for path in settings[name] if isinstance(settings[name], list) else [settings[name]]:
                assert at(config, path) == (0.01 if name == "lr" else value), path


def test_mctformers_groups_name_no_decay_so_its_argument_is_a_momentum_alone():
    given = RELEASED["arguments"]["xulianuwa/MCTformer@0acc27a:seg/train_seg.py"]
    train = resolve({"deeplab": {"preset": "mctformer"}})["deeplab"]["train"]
    optimizer = train["optimizer"]
    assert (train["batch_size"], train["crop"]) == (given["batch_size"], given["crop_size"])
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (given["lr"], given["wt_dec"], 0)


def test_ribs_power_is_of_its_masks_and_of_no_instances(plan):
    config = resolved(plan, "acr/acr")
    assert config["irn_instances"] == resolved(plan, "irn/irn")["irn_instances"]


# ---- networks


def unweighted(config):
    """The settings without files of weights: networks are built of no memory."""
    if isinstance(config, dict):
        return {key: None if key == "weights" else unweighted(value) for key, value in config.items()}
    return config


def groups_of(task: nn.Module, phase: str) -> dict[tuple[float, float], list[int]]:
    """The number of trained tensors and of their elements by factors of learning rate and decay."""
    return {
        (group["lr_scale"], group["decay_scale"]): [len(group["params"]), sum(p.numel() for p in group["params"])]
        for group in task.parameter_groups(phase)
    }


def dropouts(net: nn.Module) -> list[float]:
    """The probabilities of a network's dropout; OC-CSE's ordinary classifier is another network."""
    modules = (module for name, module in net.named_modules() if not name.startswith("ordinary"))
    return sorted(module.p for module in modules if isinstance(module, _DropoutNd) and module.p)


def frozen(backbone: nn.Module) -> list[str]:
    convolutions = ((name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    return sorted({name.split(".")[0] for name, module in convolutions if not module.weight.requires_grad})


NETWORKS = {  # network of a release -> run, phase
    "jiwoon-ahn/psa@9493e59:network/resnet38_cls.py": ("psa/resnet38", "classifier"),
    "jiwoon-ahn/psa@9493e59:network/vgg16_cls.py": ("psa/vgg16", "classifier"),
    "jiwoon-ahn/psa@9493e59:network/resnet38_aff.py": ("psa/resnet38", "affinity"),
    "jiwoon-ahn/psa@9493e59:network/vgg16_aff.py": ("psa/vgg16", "affinity"),
    "YudeWang/SEAM@3212261:network/resnet38_SEAM.py": ("seam/seam", "classifier"),
    "YudeWang/SEAM@3212261:network/resnet38_aff.py": ("seam/seam", "affinity"),
    "KAIST-vilab/OC-CSE@a833aea:networks/resnet38d.py Net_er": ("occse/occse", "classifier"),
    "KAIST-vilab/AEFT@dc81899:networks/resnet38d.py Net_gpp": ("aeft/aeft", "classifier"),
    "KAIST-vilab/AEFT@dc81899:networks/resnet38_aff.py": ("aeft/aeft", "affinity"),
    "sangrockEG/ACR@443dff9:networks/resnet38d.py Net_recon": ("acr/acr", "reconstructor"),
}


def built(config: dict, phase: str) -> nn.Module:
    """The task that has the phase, in training, without memory."""
    with torch.device("meta"):
        if phase == "affinity":
            return affinity_net.build(unweighted(config), initial=False).train()
        task = methods.build(unweighted(config), 20).train()
    if config["method"]["name"] == "occse":
        task.ordinary.trained = True  # its file is not here
    return task


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_freeze_and_drop_what_the_releases_do(plan, name):
    run, phase = NETWORKS[name]
    released = RELEASED["networks"][name]
    task = built(resolved(plan, run), phase)
    net = task.reconstructor if phase == "reconstructor" else task
    factors = ((1, 1), (2, 0), (10, 1), (20, 0))
    expected = {key: group for key, group in zip(factors, released["groups"], strict=True) if group[0]}
    assert groups_of(task, phase) == expected
    assert frozen(net.backbone) == released["frozen"]
    assert dropouts(net) == sorted(released["dropout"].values())
    norms = [module for module in net.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert released["norms_in_training"] == released["norms_trained"] == 0


def test_irn_trains_nothing_below_layer3(plan):
    released = RELEASED["networks"]["jiwoon-ahn/irn@a2ece00:net/resnet50_cam.py"]
    config = resolved(plan, "irn/irn")
    task = built(config, "classifier")
    assert groups_of(task, "classifier") == dict(zip(((1, 1), (10, 1)), released["groups"], strict=True))
    trained = {name.split(".")[0] for name, p in task.backbone.named_parameters() if p.requires_grad}
    assert sorted(trained) == released["trained"]
    norms = [module for module in task.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(norm.weight.requires_grad for norm in norms) == released["norms_trained"]
    assert not any(norm.training for norm in norms)
    with torch.device("meta"):
        irnet = irn_net.IRNet(backbones.build(unweighted(config["irn_train"]["backbone"])), config["irn_train"])
    branches = RELEASED["networks"]["jiwoon-ahn/irn@a2ece00:net/resnet50_irn.py"]["groups"]
    assert groups_of(irnet, "irn") == dict(zip(((1, 1), (10, 1)), branches, strict=True))


class Features(nn.Module):
    """In the place of a backbone: given features."""

    channels, input = {"conv6": 4096}, "rgb"

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"conv6": self.given}


def test_the_head_of_seams_network_starts_as_it_does_there():
    """First cross entropy of features ReLU(N(0, 1)), 4 of 12 by 12 cells, under random labels of 8 times the size."""
    golden, losses = load("recipes"), []
    for seed in range(2):
        torch.manual_seed(seed)
        net = LargeFovSeam(Features(), 21).train()
        convs = [module for module in net.head if isinstance(module, nn.Conv2d)]
        deviations = [conv.weight.std().item() for conv in convs]
        np.testing.assert_allclose(deviations, golden["head_std"], rtol=0.02)
        generator = torch.Generator().manual_seed(100 + seed)
        net.backbone.given = torch.randn(4, 4096, 12, 12, generator=generator).relu()
        labels = torch.randint(0, 21, (4, 96, 96), generator=generator)
        with torch.no_grad():
            logits = nn.functional.interpolate(net(None), (96, 96), mode="bilinear", align_corners=net.align_corners)
            losses.append(cross_entropy(logits, labels).item())
    np.testing.assert_allclose(np.mean(losses), golden["head_first_cross_entropy"].mean(), rtol=0.15)
    sizes = [(p.ndim > 1, p.numel()) for module in convs for p in module.parameters()]
    weights, biases = ([n for is_weight, n in sizes if is_weight is kind] for kind in (True, False))
    assert golden["head_groups"].tolist() == [[0, 0], [0, 0], [len(weights), sum(weights)], [len(biases), sum(biases)]]


# ---- pixels

FACTORS = (0.5, 0.75, 1.3)  # of an image of 75 by 101 pixels: no new size is the factor times the old one


@pytest.mark.parametrize("factor", FACTORS)
def test_training_images_and_labels_of_seams_network_are_resized_as_opencv_does(factor):
    golden = load("recipes")
    expected = golden[f"uint8_{factor}"]
    found = resize_plain(golden["image"], factor)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.array_equal(resize_label_plain(golden["label"], factor), golden[f"label_{factor}"])
    smooth = resize(golden["image"], *expected.shape[:2])  # what another resizing would change
    assert np.abs(smooth.astype(int) - expected).mean() > 1
    assert (resize_label(golden["label"], *expected.shape[:2]) != golden[f"label_{factor}"]).mean() > 0.01


def test_test_images_of_seams_network_are_resized_as_opencv_does():
    golden = load("recipes")
    scales = (0.5, 0.75, 1.25, 1.75)
    inputs = multi_scale(golden["image"], scales, False, antialias=False)
    for scale, (x,) in zip(scales, inputs, strict=True):
        assert list(x.shape[1:]) == golden[f"float_{scale}_shape"].tolist()
        np.testing.assert_allclose(x.permute(1, 2, 0)[::3, ::3], golden[f"float_{scale}"], rtol=0, atol=2e-5)


def test_masks_of_acr_are_those_of_ribs_irnet(plan):
    """RIB's own arithmetic on the maps and the boundaries of irn_sem_seg: power 1.3, background 0.27."""
    given, golden = load("irn_sem_seg"), load("recipes")
    settings = resolved(plan, "acr/acr")["irn_walk"]
    cam = torch.tensor(given["cam"]) ** settings["score_power"]
    edge = torch.tensor(given["edge"])[0]
    [walked] = irn_walk.propagate_each([cam], [edge], settings)
    np.testing.assert_allclose(walked[:, ::3, ::3], golden["rib_walked"], rtol=0, atol=3e-4 * float(walked.max()))
    nowhere = torch.zeros(2, *edge.shape)  # displacements, which masks of classes do not need
    image = irn_walk.Relations("", given["keys"] + 1, cam, edge, nowhere, golden["rib_label"].shape)
    [label] = irn_walk.semantic_labels([image], settings)
    assert (label != golden["rib_label"]).sum() <= 3
    assert (given["label"] != golden["rib_label"]).mean() > 0.1  # IRN's own settings make other masks
