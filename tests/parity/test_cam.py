"""PSA's and IRN's classifiers and PSA's multi-scale inference against the numbers of the official code."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from alphas import OWN, check_alphas
from golden import load, weights_of

from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.cam import multi_scale_cam, summed
from wsss.data.transforms import multi_scale
from wsss.methods.cam import Cam
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings

VGG16 = {"backbone": {"name": "vgg16", "freeze": []}, "method": {"power": 0.5}}


@functools.cache
def _network(name: str, vgg: bool) -> Cam:
    golden = load(name)
    config = overlay(method_settings("cam"), Layer("test", VGG16 if vgg else {}))
    network = Cam(config, len(golden["logits"]) if "logits" in golden else len(golden["label"])).eval()
    assert not load_official(network, weights_of(golden), KINDS["psa"], "documented weights").unexpected
    return network


def close(actual, expected, tolerance: float, what: str) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance, err_msg=what)


@pytest.mark.parametrize(
    ("name", "logits", "raw", "shown"),
    [("psa_resnet38_cls", 5e-5, 1e-4, 1e-4), ("psa_vgg16_cls", 1e-2, 1e-2, 5e-3)],
)
@torch.no_grad()
def test_classifier(name, logits, raw, shown):
    """Logits, class maps and shown maps; the tolerances are those of the golden files' description."""
    golden = load(name)
    network = _network(name, name.startswith("psa_vgg"))
    (x,) = multi_scale(golden["image"], [1.0], False, network.backbone.input)
    features = network.backbone(x)["conv6"]
    close(network.logits(features)[0], golden["logits"], logits, "logits")
    close(network.fc8(features)[0], golden["cam_raw"], raw, "cam_raw")
    maps = network.localize(x, torch.ones(1, len(golden["logits"])))[0]
    close(maps.relu(), golden["cam"], shown, "cam")


def test_multi_scale_inference():
    golden = load("psa_infer")
    network = _network("psa_infer", False)
    settings = method_settings("cam")["cam"] | {"scales": golden["scales"].tolist()}
    inputs = multi_scale(golden["image"], settings["scales"], True, network.backbone.input)
    assert np.repeat([x.shape[2:] for x in inputs], 2, 0).tolist() == golden["scaled_sizes_hw"].tolist()
    assert np.flatnonzero(golden["label"]).tolist() == golden["class_ids"].tolist()

    sums = summed(network, inputs, golden["label"], golden["image"].shape[:2], settings["relu"])
    close(sums.amax((1, 2)), golden["sum_cam_max"], 2e-4, "sum_cam_max")
    cam = multi_scale_cam(network, golden["image"], golden["label"], settings)
    close(cam, golden["cam"], 1e-4, "cam")

    threshold = np.full((1, *cam.shape[1:]), golden["cam_pred_threshold"])
    predicted = np.append(0, golden["class_ids"] + 1)[np.concatenate([threshold, cam]).argmax(0)]
    assert (predicted != golden["cam_pred"]).sum() <= 3
    check_alphas(golden, "crf_alpha", cam.numpy(), OWN)
