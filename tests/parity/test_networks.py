"""ResNet38d and VGG16 against the numbers of the official PSA networks; key lists of all official networks."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from golden import FOLDER, kaist_weights, load, weights_of
from torch.nn.functional import conv2d, elu, group_norm

from wsss.backbones import build
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official

TAP = {"conv4": "conv4", "conv5": "conv5", "conv6": "conv6", "conv5fc": "conv6"}  # golden name -> our tap


def network_input(image: np.ndarray, kind: str) -> torch.Tensor:
    """``H×W×3`` uint8 RGB -> ``1×3×H×W`` as the official data sets normalise it."""
    if kind == "vgg_bgr":
        pixels = image[..., ::-1] - np.array([104.008, 116.669, 122.675])
    else:
        pixels = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))[None]


def classifier(name: str, golden: dict) -> tuple[torch.nn.Module, torch.Tensor]:
    """The backbone with the documented weights, and the weight of fc8."""
    weights = weights_of(golden)
    backbone = build({"name": name, "freeze_norm": True}).eval()
    report = load_official(backbone, weights, KINDS["psa"], "documented weights")
    assert report.missing == []
    assert report.unexpected == ["fc8.weight"]
    return backbone, weights["fc8.weight"]


def check_taps(taps: dict, golden: dict, tolerance: float) -> None:
    compared = 0
    for key, expected in golden.items():
        tap, _, what = key.partition("_")
        if tap not in TAP or what not in ("chan_mean", "sub"):
            continue
        feature = taps[TAP[tap]][0]
        step = len(feature) // len(expected)  # `sub` has every step-th channel, every second row and column
        actual = feature[::step, ::2, ::2] if what == "sub" else feature.mean((1, 2))
        np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance, err_msg=key)
        compared += 1
    assert compared >= 3


@torch.no_grad()
def test_resnet38d_taps_cam_and_logits():
    golden = load("psa_resnet38_cls")
    backbone, fc8 = classifier("resnet38d", golden)
    taps = backbone(network_input(golden["image"], backbone.input))
    check_taps(taps, golden, 1e-4)
    cam = conv2d(taps["conv6"], fc8)[0]
    np.testing.assert_allclose(cam.numpy(), golden["cam_raw"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(cam.mean((1, 2)).numpy(), golden["logits"], rtol=0, atol=5e-5)


@torch.no_grad()
def test_vgg16_taps_cam_and_logits():
    golden = load("psa_vgg16_cls")
    backbone, fc8 = classifier("vgg16", golden)
    x = network_input(golden["image"], backbone.input)
    np.testing.assert_allclose(x[0, :, ::7, ::7].numpy(), golden["input_sub"], rtol=0, atol=1e-5)
    taps = backbone(x)
    check_taps(taps, golden, 5e-3)
    cam = conv2d(taps["conv6"], fc8)[0]
    np.testing.assert_allclose(cam.numpy(), golden["cam_raw"], rtol=0, atol=1e-2)
    np.testing.assert_allclose(cam.mean((1, 2)).numpy(), golden["logits"], rtol=0, atol=1e-2)


@torch.no_grad()
def test_vgg16_with_dilated_fc6_gives_the_affinity_features():
    golden = load("psa_vgg16_aff")
    weights = weights_of(golden)
    backbone = build({"name": "vgg16", "fc6_dilation": 4}).eval()
    load_official(backbone, weights, KINDS["psa"], "documented weights")
    taps = backbone(network_input(golden["image"], backbone.input))
    parts = []
    for head, tap, groups in (("8_3", "conv4", 8), ("8_4", "conv5", 16), ("8_5", "conv6", 32)):
        part = conv2d(taps[tap], weights[f"f{head}.weight"])
        parts.append(elu(group_norm(part, groups, weights[f"gn{head}.weight"], weights[f"gn{head}.bias"])))
    features = elu(conv2d(torch.cat(parts, 1), weights["f9.weight"]))[0]
    np.testing.assert_allclose(features.mean((1, 2)).numpy(), golden["features_chan_mean"], rtol=0, atol=5e-5)
    step = len(features) // len(golden["features_sub"])
    np.testing.assert_allclose(features[::step].numpy(), golden["features_sub"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_resnet50_of_irn_stages():
    golden = load("irn_cam")
    backbone = build({"name": "resnet50", "output_stride": 16, "dilate": False}).eval()
    prefix = "resnet50."
    weights = {k.removeprefix(prefix): v for k, v in weights_of(golden).items() if k.startswith(prefix)}
    assert load_official(backbone, weights, KINDS["psa"], "documented weights").missing == []
    taps = backbone(network_input(golden["image"], backbone.input))
    for stage, tap in enumerate(("conv3", "conv4", "conv5", "conv6"), start=1):
        expected = golden[f"stage{stage}_chan_mean"]
        np.testing.assert_allclose(taps[tap][0].mean((1, 2)).numpy(), expected, rtol=0, atol=1e-4, err_msg=tap)


def key_lists() -> dict[str, list]:
    lists = json.loads((FOLDER / "keys_eader_occse_aeft_acr.json").read_text())
    for name in ("psa_resnet38_cls", "psa_vgg16_cls", "psa_vgg16_aff", "seam_forward", "psa_affinity"):
        lists[name] = json.loads(str(load(name)["weight_keys_json"]))
    return lists


NETWORKS = {
    "psa_resnet38_cls": ("resnet38d", ""),
    "seam_forward": ("resnet38d", ""),
    "psa_affinity": ("resnet38d", ""),
    "occse/net_er": ("resnet38d", ""),
    "occse/net_cl": ("resnet38d", ""),
    "aeft/net_main(Net_gpp)": ("resnet38d", ""),
    "aeft/segmentation(Net_dl)": ("resnet38d", ""),
    "acr/net_main": ("resnet38d", "net_main."),
    "acr/net_recon": ("resnet38d", "net_recon."),
    "psa_vgg16_cls": ("vgg16", ""),
    "psa_vgg16_aff": ("vgg16", ""),
    "eader/localizer/resnet18": ("resnet18", ""),
    "eader/localizer/resnet50": ("resnet50", ""),
    "eader/localizer/resnet101": ("resnet101", ""),
    "eader/localizer/resnet101deeplab": ("resnet101", ""),
    "eader/localizer/wide_resnet50": ("wide_resnet50", ""),
    "eader/adversarial/resnet18": ("resnet18", ""),
    "eader/adversarial/resnet101": ("resnet101", ""),
}
HEADS = (
    "fc.",
    "fc8.",
    "fc9.",
    "f8_",
    "gn8_",
    "f9.",
    "bn8.",
    "b8.",
    "b9.",
    "gconv",
    "fc_recon.",
    "dr1.",
    "dr2.",
    "genUnet.",
)


@pytest.mark.parametrize("network", NETWORKS)
def test_names_and_shapes_are_the_official_ones(network):
    name, prefix = NETWORKS[network]
    official = {entry[0].removeprefix(prefix): tuple(entry[1]) for entry in key_lists()[network]}
    official = {key: shape for key, shape in official.items() if not key.startswith(HEADS)}
    with torch.device("meta"):
        state = build({"name": name}).state_dict()
    assert list(state) == list(official)
    assert {key: tuple(value.shape) for key, value in state.items()} == official


WEIGHTS = json.loads((FOLDER / "weights_check.json").read_text())


@pytest.mark.parametrize("network", WEIGHTS)
def test_documented_weights_have_the_official_bytes(network):
    """Networks of other values could not be compared at all."""
    checks, prefix = WEIGHTS[network]["tensors"], WEIGHTS[network]["seed_prefix"]
    prefix = "" if prefix.startswith("(") else prefix  # a remark: the names begin with it
    weights = kaist_weights(network, prefix, WEIGHTS[network]["gain"], checks)
    for name, check in checks.items():
        values = weights[name].numpy()
        np.testing.assert_array_equal(values.ravel()[: len(check["first"])], check["first"], err_msg=name)
        assert np.linalg.norm(values.astype(np.float64)) == pytest.approx(check["l2"], rel=1e-12), name
        assert hashlib.sha256(values.tobytes()).hexdigest() == check["sha256"], name
