"""No setting lies: every key of a method's settings is read when it is trained and when it localizes."""

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
from wsss.methods import METHODS, build
from wsss.plan.resolve import merge, method_settings, stand_in
from wsss.train import fit

SECTIONS = ("backbone", "method", "train", "localize")
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
    """Four noise images with a class each."""
    rng, records = np.random.default_rng(1), []
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        records.append(Record(str(i), f"{i}.png", None, ("train",), (CLASSES[i % 3],), 50, 40, "", None))
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
