"""Multi-scale inference of OC-CSE and AEFT against the numbers of their released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import kaist_weights, load
from kaist import NETWORK, close, network_input, statistics
from stages import TINY

from wsss import backbones
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.cam import multi_scale_cam, summed
from wsss.data.transforms import multi_scale
from wsss.methods import build
from wsss.plan.resolve import method_settings

NETWORKS = {"occse": "occse/net_er", "aeft": "aeft/net_main(Net_gpp)"}


@pytest.fixture(scope="module")
def golden() -> dict:
    return load("kaist_infer")


@pytest.fixture(scope="module", params=NETWORKS)
def method(request, golden, tmp_path_factory):
    config, n_classes = method_settings(request.param), len(golden["label"])
    if "ordinary" in config["method"]:  # it takes no part in inference
        tiny = backbones.build(TINY)
        state = tiny.state_dict() | {"fc8.weight": torch.zeros(n_classes, tiny.channels["conv6"], 1, 1)}
        file = tmp_path_factory.mktemp("ordinary") / "tiny.pt"
        torch.save(state, file)
        config["method"]["ordinary"] = {"backbone": dict(TINY), "weights": str(file)}
    method = build(config, n_classes)
    weights = kaist_weights(NETWORKS[request.param], "", float(golden[f"{request.param}_gain"]))
    load_official(method, weights, KINDS[request.param], "documented weights")
    return request.param, method.eval(), config["cam"]


def inputs_of(golden: dict, settings: dict, convention: str) -> list[torch.Tensor]:
    return multi_scale(golden["image_u8"], settings["scales"], True, convention)


def test_inputs(golden):
    inputs = [view for pair in inputs_of(golden, method_settings("occse")["cam"], "rgb") for view in pair]
    assert [list(view.shape[1:]) for view in inputs] == golden["msf_sizes"].tolist()
    for view, expected in zip(inputs, golden["msf_stats"], strict=True):
        close(statistics(view), expected, "input", 1e-6)


def test_class_maps_of_one_scale(method, golden):
    name, network, _ = method
    with torch.no_grad():
        maps = network.localize(network_input(golden["image_u8"][None]), torch.from_numpy(golden["label"])[None])
    close(maps[0, golden["classes"]], golden[f"{name}_single"], "class maps", NETWORK)


def test_sums_over_scales(method, golden):
    name, network, settings = method
    inputs = inputs_of(golden, settings, network.backbone.input)
    sums = summed(network, inputs, golden["label"], golden["image_u8"].shape[:2], settings["relu"])
    sums = sums[np.searchsorted(np.flatnonzero(golden["label"]), golden["classes"])]
    close(sums.amax((1, 2)), golden[f"{name}_cam_sum_max"], "maxima", NETWORK)
    for plane, expected in zip(sums, golden[f"{name}_sum_stats"], strict=True):
        close(statistics(plane), expected, "sum", NETWORK)


def test_scores_and_label_maps(method, golden):
    name, network, settings = method
    scores = multi_scale_cam(network, golden["image_u8"], golden["label"], settings).numpy()
    present = np.flatnonzero(golden["label"])
    scores = scores[np.searchsorted(present, golden["classes"])]  # planes in the order of the file
    close(scores, golden[f"{name}_maps"], "scores", NETWORK)
    for key, expected in golden.items():
        if key.startswith(f"{name}_label_"):
            threshold = np.full((1, *scores.shape[1:]), int(key.rsplit("_", 1)[1]) / 100, np.float32)
            planes = np.concatenate([threshold, scores])
            labels = np.concatenate([[0], golden["classes"] + 1])[planes.argmax(0)]
            best, second = -np.sort(-planes, axis=0)[:2]
            clear = best - second > NETWORK  # elsewhere float32 decides
            assert clear.mean() > 0.99
            np.testing.assert_array_equal(labels[clear], expected[clear], err_msg=key)
