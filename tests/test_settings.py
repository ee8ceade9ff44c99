"""No setting lies: every key has a type and is read; a method's keys are read when it is trained and localizes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter

from wsss.backbones import BACKBONES, without_weights
from wsss.cam import cam
from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.job import Given
from wsss.measure.stage import measure
from wsss.methods import METHODS, build
from wsss.methods.stage import train
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings, stand_in
from wsss.registry import load
from wsss.run_shards import run_shards
from wsss.run_training import run_training
from wsss.segment.presets import presets, resolve
from wsss.settings import methods
from wsss.settings.base import FAMILIES, NETWORKS, Backbone, BackboneOptions, timm_networks
from wsss.settings.check import check, run_of
from wsss.settings.describe import keys_of
from wsss.settings.schema import json_schema
from wsss.stages import STAGES
from wsss.stores import write_scores
from wsss.train import fit

PAPERS = Path(__file__).parent.parent / "workflow" / "papers"
SECTIONS = ("backbone", "method", "train", "cam")
BEHIND = ("crf", "pamr", "affinity", "walk", "irn_marks", "irn_train", "irn_walk", "irn_instances")
BEHIND = (*BEHIND, "deeplab", "predict", "measure")
CLASSES = ("disc", "square", "stripe")
SIDE = 64
TINY = {name: {"name": "tiny"} for name in ("resnet38d", "resnet101", "resnet18", "resnet50")}
QUICK = {"train": {"crop": SIDE, "batch_size": 3, "steps": 2}, "cam": {"scales": [1.0]}}
SMALLER = {"acr": {"method": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]}}}
SPLITS = {"train": "train", "measured": "train", "val": "train"}
CHOOSING = {  # two keys matter only if a training chooses its epoch, for which it measures on masks
    "train": {"select": "best"},
    "measure": method_settings("cam")["measure"],
    "dataset": {"name": "noise", "splits": SPLITS},
}
VARIANTS = {  # keys that matter only with some value of another key
    "cam": [{"cam": {"attention": "gradcam"}}],
    "eader": [{"train": {"view": "long_side", "long_side": [SIDE, SIDE]}}],
}


def changed(config: dict, *changes: dict) -> dict:
    """A copy of ``config`` with changes on top, which may bring new keys."""
    for change in changes:
        config = overlay(config, Layer("test", change), new_keys=True)
    return config


# ---- every key has a type


def released(method: str, preset: str = "seam") -> dict:
    """The settings of a run of a method that says no more than the preset of its DeepLab."""
    return resolve(changed(method_settings(method), {"deeplab": {"preset": preset}}))


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize("name", METHODS)
def test_the_values_of_the_yaml_files_are_valid(name, preset):
    assert check(released(name, preset)) == []


def declared(kind, path: str = "") -> Iterator[str]:
    """The dotted paths of all settings that a type declares."""
    for key, inner in keys_of(kind).items():
        yield from declared(inner, f"{path}{key}.") if keys_of(inner) else [f"{path}{key}"]


def test_every_key_that_a_type_declares_is_in_the_yaml_files():
    known = set().union(*(leaves(released(name)) for name in METHODS))
    options = tuple(keys_of(BackboneOptions))  # what only some networks have; cam.yaml and IRNet list those of theirs
    wanted = {path for name in METHODS for path in declared(run_of(name)) if not path.endswith(options)}
    assert wanted == {path for path in known if not path.endswith(options)}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cam.normalise", "softmx", "is 'softmx': choose one of max, minmax, floor, range"),
        ("cam.relu", False, "is false: choose one of before, after, sum, none"),
        ("cam.attention", "grad", "is 'grad': choose one of cam, gradcam, gradcam++"),
        ("cam.scales", [0.5, 0], "is [0.5, 0]: give a list of numbers above 0"),
        ("cam.scales", [], "is []: give a list of numbers above 0"),
        ("cam.precision", "fp16", "is 'fp16': choose one of float32, bf16"),
        ("walk.log_steps", -1, "is -1: give a whole number of 0 or more"),
        ("walk.log_steps", True, "is true: give a whole number of 0 or more"),
        ("walk.crf", 1, "is 1: give true or false"),
        ("train.view", "square", "is 'square': choose one of long_side, resized_crop"),
        ("train.flip", 1.5, "is 1.5: give a number from 0 to 1"),
        ("train.batch_size", 0, "is 0: give a whole number of 1 or more or a mapping from epochs to such numbers"),
        (
            "train.batch_size",
            {0: 8, "a": 2},
            "give a whole number of 1 or more or a mapping from epochs to such numbers",
        ),
        ("train.long_side", [512, 256], "is [512, 256]: give the least and the greatest number of pixels or null"),
        ("train.jitter", [0.3, 0.3, 0.3], "give four numbers of 0 or more"),
        ("train.jitter", [0.3, 0.3, 0.3, 0.6], "hue up to 0.5"),
        ("train.jitter", True, "false or null"),
        ("train.optimizer.lr", "2e-3", "is '2e-3': give a number above 0"),
        ("train.optimizer.momentum", 1, "is 1: give a number from 0 to below 1"),
        ("train.workers", 4, "is an unknown key: choose one of weights, start, epochs"),
        ("backbone.freeze_norm", "stats", "is 'stats': give true, false, statistics or null"),
        ("backbone.dropout", [0.3], "give a number from 0 to below 1, two numbers from 0 to below 1 or null"),
        ("measure.absent", None, "is null: choose one of zero, skip"),
        ("measure.thresholds", [0.6, 0.0, 0.01], "give start, stop and step with 0 <= start < stop and step > 0"),
        ("predict.fusion", "mean", "is 'mean': choose one of softmax, logits, max"),
        ("predict.multi_scale", True, "is true: choose one of image, pass, false"),
        ("deeplab.model", "fcn", "is 'fcn': choose one of largefov_aeft, largefov_seam"),
        ("deeplab.labels", "irn", "is 'irn': choose one of walk, irn_walk, ground_truth"),
        ("deeplab.loss.at", "cells", "is 'cells': choose one of image, logits"),
        ("deeplab.train", None, "is null: give a mapping with weights, start, epochs"),
        ("irn_marks.crf.gt_prob", 0, "is 0: give a number above 0 and up to 1"),
        ("affinity.backbone.name", 3, "is 3: give one of resnet38d, vgg16, "),
        ("backbone.name", "tinny", "is 'tinny': give one of resnet38d, vgg16, "),
        ("backbone.name", "timm", "is 'timm': give one of resnet38d, vgg16, "),
        ("seeds", {}, "is an unknown key: choose one of backbone, method, train, cam"),
    ],
)
def test_a_wrong_value_is_reported_with_what_to_give(path, value, message):
    (found,) = check(with_value(released("cam"), path, value))
    assert ".".join(found.path) == path
    assert message in found.message


@pytest.mark.parametrize(
    ("method", "key", "value", "message"),
    [
        ("aeft", "mask", "softer", "is 'softer': choose one of soft, hard"),
        ("aeft", "attract", "l3", "choose one of soft, soft_l2, rigid"),
        ("aeft", "pooling", "gap", "give one of coarse_to_fine, fine_to_coarse, average, single:<level>"),
        ("aeft", "pooling", "single", "single:<level>"),
        ("aeft", "pooling", "single:0", "single:<level>"),
        ("aeft", "pooling", "single:x", "single:<level>"),
        ("aeft", "weights", {}, "is an unknown key: choose one of name, width, pooling"),
        ("seam", "as_paper", ["D9"], "is ['D9']: give a list with some of D2, D4, D5, D6"),
        ("eader", "head", "wrong", "choose one of linear, psa"),
        ("eader", "attention", "wrong", "choose one of gcam, cam, gcam_backward"),
        ("eader", "average", "wrong", "choose one of pairs, classes"),
        ("eader", "alternate_steps", [200], "give two whole numbers of 0 or more"),
        ("acr", "strategy", "wrong", "choose one of adversarial, reconstructor, classifier"),
        ("acr", "unet_depth", 1, "give a whole number of 2 or more"),
        ("occse", "maximum", "pixel", "choose one of batch, image"),
        ("cam", "head_init", "zero", "choose one of xavier, torch"),
        ("cam", "name", "cams", "is 'cams': choose one of acr, aeft, cam, eader, occse, recam, seam"),
    ],
)
def test_a_wrong_value_of_a_method_is_reported_with_what_to_give(method, key, value, message):
    (found,) = check(with_value(released(method), f"method.{key}", value))
    assert found.path == ("method", key)
    assert message in found.message


def test_a_missing_value_is_reported_with_what_to_give():
    config = released("cam")
    del config["measure"]["absent"]
    assert [str(finding) for finding in check(config)] == ["measure.absent is missing: choose one of zero, skip"]


def test_every_wrong_value_is_reported_also_of_what_stands_beside_the_sections():
    config = released("cam") | {"seed": 0, "stage": "walk", "code": "0a1b", "dataset": {"name": "x", "splits": {}}}
    assert check(config) == []
    found = check(with_value(with_value(config, "walk.beta", 0), "crf.iterations", 0.5))
    assert {finding.path for finding in found} == {("walk", "beta"), ("crf", "iterations")}
    found = check(config | {"seed": "0", "dataset": {"name": "x", "splits": ["train"]}})
    assert [str(finding) for finding in found] == [
        "seed is '0': give a whole number of 0 or more",
        "dataset.splits is ['train']: give a mapping",
    ]


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("acr", "method.srf", None),
        ("eader", "method.adversary", None),
        ("seam", "method.ohem", None),
        ("seam", "method.as_paper", ["D2", "D6"]),
        ("aeft", "method.pooling", "single:16"),
        ("cam", "train.jitter", False),
        ("cam", "train.batch_size", {0: 8, 18: 32}),
        ("cam", "backbone.freeze_norm", "statistics"),
        ("cam", "backbone.dropout", [0.3, 0.5]),
        ("cam", "cam.round_up", 16),
        ("cam", "deeplab.train.scale", False),
    ],
)
def test_values_that_papers_and_data_sets_use_are_valid(method, path, value):
    assert check(with_value(released(method), path, value)) == []


def with_value(config: dict, path: str, value) -> dict:
    """A copy of ``config`` with another value at a dotted path."""
    key, _, rest = path.partition(".")
    return {**config, key: with_value(config[key], rest, value) if rest else value}


@pytest.mark.parametrize("name", METHODS)
def test_settings_found_without_loading_a_method_are_those_of_its_module(name):
    found = methods.settings_of(name)
    imported = getattr(import_module(METHODS[name].partition(":")[0]), found.__name__)
    assert TypeAdapter(found).json_schema() == TypeAdapter(imported).json_schema()


def test_checking_loads_no_torch():
    """So the plan, which checks all runs, starts fast."""
    code = "import sys; from wsss.settings.check import check; check({'method': {'name': 'acr'}}); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


# ---- what editors are given


def runs_of_papers() -> Iterator[tuple[str, dict]]:
    for path in sorted(PAPERS.glob("*.yaml")):
        for name, run in yaml.safe_load(path.read_text(encoding="utf-8"))["runs"].items():
            yield f"{path.stem}/{name}", run


def test_the_schema_for_editors_takes_the_runs_of_all_papers():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert {name: error.message for name, run in runs_of_papers() for error in validator.iter_errors(run)} == {}


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"method": "cams"},
        {"method": "cam", "cam": {"relu": "x"}},
        {"method": "cam", "localize": {}},
        {"method": {"name": "seam", "pooling": "average"}},
        {"method": "cam", "deeplab": {"preset": "x"}},
    ],
)
def test_the_schema_for_editors_refuses_what_no_run_has(run):
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(run)


# ---- every key is read


class Recorded(dict):
    """A mapping that notes which keys are asked for by name, in depth, as dotted paths.

    To go over all entries is not to read them, since that needs no knowledge of what they mean. A ``backbone`` is the
    exception: its factory takes entries as named arguments and refuses those that it does not have.
    """

    def __init__(self, values: dict, read: set[str], path: str = ""):
        super().__init__({k: Recorded(v, read, f"{path}{k}.") if nested(v) else v for k, v in values.items()})
        self.read, self.path = read, path

    def __getitem__(self, key):
        self.read.add(f"{self.path}{key}")
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.read.add(f"{self.path}{key}")
        return super().get(key, default)

    def items(self):
        if self.path.endswith("backbone."):
            self.read |= {f"{self.path}{key}" for key in self}
        return super().items()


def nested(value) -> bool:
    """A section of settings; a schedule, a mapping from epochs, is one setting."""
    return isinstance(value, dict) and not any(isinstance(key, int) for key in value)


def leaves(values: dict, path: str = "") -> set[str]:
    own = {f"{path}{key}" for key, value in values.items() if not nested(value)}
    return own.union(*(leaves(value, f"{path}{key}.") for key, value in values.items() if nested(value)))


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Four noise images with a class each, the left half of the image."""
    rng, records = np.random.default_rng(1), []
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        mask = np.zeros((40, 50), np.uint8)
        mask[:, :25] = i % 3 + 1
        Image.fromarray(mask).save(tmp_path / f"{i}-mask.png")
        records.append(Record(str(i), f"{i}.png", f"{i}-mask.png", ("train",), (CLASSES[i % 3],), 50, 40, "", None))
    return Dataset("noise", CLASSES, tmp_path, records)


def settings(name: str, tmp_path, **over) -> dict:
    config = {key: value for key, value in method_settings(name).items() if key in SECTIONS}
    config = stand_in(changed(config, QUICK, SMALLER.get(name, {}), over), TINY)
    if "ordinary" in config["method"]:
        torch.save(build(settings("cam", tmp_path), len(CLASSES)).state_dict(), tmp_path / "ordinary.pt")
        config["method"]["ordinary"]["weights"] = str(tmp_path / "ordinary.pt")
    return config


def unread(config: dict, dataset: Dataset, tmp_path) -> set[str]:
    """Settings that nobody asks for while a method is built, trained for two steps and localizes."""
    read: set[str] = set()
    recorded = Recorded(config, read)
    torch.manual_seed(0)
    model = fit(train(Given(recorded, dataset, dataset)), {"seed": 0}, tmp_path / "out", "cpu")
    first = dataset.shard(0, 4)
    assert len(list(cam(Given(recorded, first, dataset, model=str(model), device="cpu")))) == 1
    return leaves(config) - read


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_read(name, dataset, tmp_path):
    variants = [{}, CHOOSING, *VARIANTS.get(name, ())]
    never = set.intersection(*(unread(settings(name, tmp_path, **v), dataset, tmp_path) for v in variants))
    assert not never


# ---- the stages after the classifier

SMALL_STEPS = {"crop": SIDE, "batch_size": 3, "steps": 2}
SMALL_STAGES = {
    "affinity": {"train": SMALL_STEPS},
    "irn_train": {"train": SMALL_STEPS},
    "deeplab": {"train": SMALL_STEPS},
    "predict": {"scales": [1.0]},
}


def stage_settings(preset: str, **over) -> dict:
    """The settings of all stages, those of the preset written out."""
    config = {key: value for key, value in method_settings("cam").items() if key in ("backbone", *BEHIND)}
    config = changed(config, {"deeplab": {"preset": preset}}, SMALL_STAGES)
    return stand_in(changed(resolve(config), over), TINY)


def unread_behind(config: dict, dataset: Dataset, tmp_path) -> set[str]:
    """Settings that nobody asks for while all stages after a classifier run."""
    read: set[str] = set()
    recorded = Recorded(config | {"seed": 0, "dataset": {"name": "noise", "splits": SPLITS}}, read)

    def given(**paths) -> Given:
        return Given(recorded, dataset, dataset, device="cpu", **paths)

    def shard(stage: str, **paths) -> tuple[str, ...]:
        run_shards(STAGES[stage], given(**paths), out := tmp_path / f"{stage}.shard")
        return (str(out),)

    def trained(stage: str, **paths) -> str:
        return str(run_training(STAGES[stage], given(**paths), tmp_path / stage))

    scores = (str(tmp_path / "scores.npz"),)
    with write_scores(scores[0]) as store:
        for i, image_id in enumerate(dataset.ids):
            store.put(image_id, [i % 3 + 1], (dataset.mask(image_id) > 0)[None])
    shard("pamr", scores=scores)
    walked = shard("walk", scores=scores, model=trained("affinity", scores=shard("crf", scores=scores)))
    irnet = trained("irn_train", masks=shard("irn_marks", scores=scores))
    shard("irn_walk", scores=scores, model=irnet)
    shard("irn_instances", scores=scores, model=irnet)
    shard("predict", model=trained("deeplab", masks=walked))
    measure(given(scores=scores), "cam", "measured", tmp_path / "cam_measured.json")
    return {key for key in leaves(config) - read if key.partition(".")[0] in BEHIND}


def test_every_setting_behind_the_classifier_is_read(dataset, tmp_path):
    presets = ("seam", "aeft")  # aeft has a loss at several scales, and one key is about these
    assert not set.intersection(*(unread_behind(stage_settings(name), dataset, tmp_path) for name in presets))


def test_a_setting_of_a_stage_that_nobody_reads_is_found(dataset, tmp_path):
    bogus = {section: {"bogus": 1} for section in BEHIND}
    bogus["irn_train"]["train"] = {"optimizer": {"bogus": 1}}
    found = {"irn_train.train.optimizer.bogus"} | {f"{section}.bogus" for section in BEHIND}
    assert unread_behind(stage_settings("aeft", **bogus), dataset, tmp_path) == found


# ---- what finds them


@pytest.mark.parametrize("where", ["method.bogus", "train.bogus", "train.optimizer.bogus", "cam.bogus"])
def test_a_setting_that_nobody_reads_is_found(where, dataset, tmp_path):
    *sections, key = where.split(".")
    change: dict = {key: 1}
    for section in reversed(sections):
        change = {section: change}
    assert where in unread(settings("cam", tmp_path, **change), dataset, tmp_path)


def test_a_backbone_refuses_a_setting_that_it_does_not_read(dataset, tmp_path):
    config = settings("cam", tmp_path)
    config["backbone"]["bogus"] = 1
    with pytest.raises(WsssError, match=r"backbone\.bogus: unknown key"):
        unread(config, dataset, tmp_path)


def test_the_type_of_a_backbone_has_the_options_of_all_networks():
    factories = [load(BACKBONES, name, "backbone") for name in BACKBONES]
    known = {key for factory in factories for key in inspect.signature(factory).parameters}
    assert set(keys_of(Backbone)) == known | {"name", "weights", "freeze", "freeze_norm"}


def test_the_names_of_networks_that_settings_take_are_those_of_the_registry():
    assert {*NETWORKS, *FAMILIES} == set(BACKBONES)


def test_the_networks_of_timm_are_known_without_importing_it():
    import timm.models._registry as registry

    assert timm_networks() == set(registry._model_entrypoints)


def test_copies_of_recorded_settings_are_recorded():
    """What the stages copy on the way (configurations without initial weights) is still watched."""
    read: set[str] = set()
    copied = without_weights(Recorded({"train": {"a": 1, "b": 2}}, read))
    assert not {"train.a", "train.b"} & read
    assert copied["train"]["b"] == 2
    assert "train.b" in read
    assert "train.a" not in read
