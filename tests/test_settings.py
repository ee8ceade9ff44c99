"""No setting lies: every key is read, of a method's settings when it is trained and localizes, of others behind it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.backbones import BACKBONES, without_weights
from wsss.data.index import Dataset, Record
from wsss.data.samples import ClassificationSamples
from wsss.errors import WsssError
from wsss.localize import localize
from wsss.measure import measure_stage
from wsss.methods import METHODS, build
from wsss.plan.resolve import merge, method_settings, stand_in
from wsss.refine.affinity import affinity_stage
from wsss.refine.crf import crf_stage
from wsss.refine.irn_instances import irn_instances_stage
from wsss.refine.irn_labels import irn_labels_stage
from wsss.refine.irn_train import irnet_stage
from wsss.refine.irn_walk import irn_walk_stage
from wsss.refine.walk import walk_stage
from wsss.segment import predict_stage, segment_stage
from wsss.segment.presets import resolve
from wsss.stores import write_scores
from wsss.train import fit

SECTIONS = ("backbone", "method", "train", "localize")
BEHIND = ("crf", "affinity", "walk", "irn", "segment", "predict", "measure")
CLASSES = ("disc", "square", "stripe")
SIDE = 64
TINY = {name: {"name": "tiny"} for name in ("resnet38d", "resnet101", "resnet18")}
QUICK = {"train": {"crop": SIDE, "batch_size": 3, "steps": 2, "workers": 0}, "localize": {"scales": [1.0]}}
SMALLER = {"acr": {"method": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]}}}
VARIANTS = {  # keys that only some value of another key makes matter
    "cam": [{"localize": {"attention": "gradcam"}}],
    "eader": [{"train": {"view": "long_side", "long_side": [SIDE, SIDE]}}],
}


class Recorded(dict):
    """A mapping that notes which keys are asked for by name, in depth, as dotted paths.

    Going over all entries is no reading: it does not know what they mean. Only of a ``backbone`` it is, whose factory
    takes entries as named arguments and refuses those that it does not have.
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
    for change in (QUICK, SMALLER.get(name, {}), over):
        config = merge(config, change, "test", new_keys=True)
    config = stand_in(config, TINY)
    if "ordinary" in config["method"]:
        torch.save(build(settings("cam", tmp_path), len(CLASSES)).state_dict(), tmp_path / "ordinary.pt")
        config["method"]["ordinary"]["weights"] = str(tmp_path / "ordinary.pt")
    return config


def unread(config: dict, dataset: Dataset, tmp_path) -> set[str]:
    """Settings that nobody asks for while a method is built, trained for two steps and localizes."""
    read: set[str] = set()
    recorded = Recorded(config, read)
    method = build(recorded, len(CLASSES))
    samples = ClassificationSamples(dataset, recorded["train"], method.backbone.input)
    model = fit(method, samples, recorded["train"], {"seed": 0}, tmp_path / "out", "cpu")
    localize(recorded, dataset, model, (0, 4), tmp_path / "scores.npz", "cpu")
    return leaves(config) - read


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_is_read(name, dataset, tmp_path):
    variants = [{}, *VARIANTS.get(name, ())]
    never = set.intersection(*(unread(settings(name, tmp_path, **v), dataset, tmp_path) for v in variants))
    assert not never


# ---- the stages behind the classifier

SMALL_STEPS = {"crop": SIDE, "batch_size": 3, "steps": 2, "workers": 0}
SMALL_STAGES = {
    "affinity": {"train": SMALL_STEPS},
    "irn": {"backbone": {"name": "tiny", "output_stride": None, "dilate": None}, "train": SMALL_STEPS},
    "segment": {"train": SMALL_STEPS},
    "predict": {"scales": [1.0]},
}


def stage_settings(preset: str, **over) -> dict:
    """The settings of all stages, those of the preset written out."""
    config = {key: value for key, value in method_settings("cam").items() if key in ("backbone", *BEHIND)}
    for change in ({"segment": {"preset": preset}}, SMALL_STAGES):
        config = merge(config, change, "test")
    return stand_in(merge(resolve(config), over, "test", new_keys=True), TINY)


def unread_behind(config: dict, dataset: Dataset, tmp_path) -> set[str]:
    """Settings that nobody asks for while all stages behind a classifier run."""
    read: set[str] = set()
    recorded = Recorded(config | {"seed": 0, "dataset": {"splits": {"seed": "train"}}}, read)
    scores, crf, walk, marks = (tmp_path / name for name in ("scores.npz", "crf.npz", "walk.zip", "marks.zip"))
    with write_scores(scores) as store:
        for i, image_id in enumerate(dataset.ids):
            store.put(image_id, [i % 3 + 1], (dataset.mask(image_id) > 0)[None])
    crf_stage(recorded, dataset, [scores], crf)
    affinity_stage(recorded, dataset, [crf], tmp_path / "affinity", "cpu")
    walk_stage(recorded, dataset, [scores], tmp_path / "affinity/model.pt", walk, device="cpu")
    irn_labels_stage(recorded, dataset, [scores], marks)
    irnet_stage(recorded, dataset, [marks], tmp_path / "irnet", "cpu")
    for stage, name in ((irn_walk_stage, "irn.zip"), (irn_instances_stage, "instances.npz")):
        stage(recorded, dataset, [scores], tmp_path / "irnet/model.pt", tmp_path / name, device="cpu")
    segment_stage(recorded, dataset, [walk], tmp_path / "deeplab", "cpu")
    predict_stage(recorded, dataset, tmp_path / "deeplab/model.pt", tmp_path / "predicted.zip", device="cpu")
    measure_stage(recorded, dataset, tmp_path / "seed_train.json", [scores])
    return {key for key in leaves(config) - read if key.startswith(BEHIND)}


def test_every_setting_behind_the_classifier_is_read(dataset, tmp_path):
    presets = ("seam", "aeft")  # aeft has a loss at several scales, and one key is about these
    assert not set.intersection(*(unread_behind(stage_settings(name), dataset, tmp_path) for name in presets))


def test_a_setting_of_a_stage_that_nobody_reads_is_found(dataset, tmp_path):
    bogus = {section: {"bogus": 1} for section in BEHIND}
    bogus["irn"]["train"] = {"optimizer": {"bogus": 1}}
    found = {"irn.train.optimizer.bogus"} | {f"{section}.bogus" for section in BEHIND}
    assert unread_behind(stage_settings("aeft", **bogus), dataset, tmp_path) == found


# ---- what finds them


@pytest.mark.parametrize("where", ["method.bogus", "train.bogus", "train.optimizer.bogus", "localize.bogus"])
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


@pytest.mark.parametrize("name", METHODS)
def test_a_setting_of_the_backbone_left_to_the_network_is_one_that_some_network_has(name):
    known = {key for factory in BACKBONES.values() for key in inspect.signature(factory).parameters}
    assert set(method_settings(name)["backbone"]) <= known | {"name", "weights", "freeze", "freeze_norm"}


def test_copies_of_recorded_settings_are_recorded():
    """What the stages copy on the way (configurations without initial weights) is still watched."""
    read: set[str] = set()
    copied = without_weights(Recorded({"train": {"a": 1, "b": 2}}, read))
    assert not {"train.a", "train.b"} & read
    assert copied["train"]["b"] == 2
    assert "train.b" in read
    assert "train.a" not in read
