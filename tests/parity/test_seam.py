"""SEAM against the numbers of its release: forward pass, pixel correlation, losses, gradients, inference.

Tolerances are those of the golden files' description.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from alphas import OWN, check_alphas
from golden import load, weights_of
from torch import nn

from wsss.backbones.base import resize
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.cam import multi_scale_cam, summed
from wsss.data.transforms import multi_scale
from wsss.methods import seam
from wsss.methods.base import max_norm, multilabel_soft_margin
from wsss.plan.resolve import method_settings

TERMS = ("cls", "rvmin", "er", "ecr")
TAPS = ("conv4", "conv5", "conv6")


@functools.cache
def released(rescale: float | None = None) -> dict:
    config = method_settings("seam")
    if rescale:
        config["method"]["rescale"] = rescale
    return config


@functools.cache
def _network(weights: str, n_classes: int) -> seam.Seam:
    network = seam.Seam(released(), n_classes)
    state = weights_of({"weight_keys_json": weights})
    assert not load_official(network, state, KINDS["seam"], "documented weights").unexpected
    return network


def network_of(golden: dict) -> seam.Seam:
    weights = str(golden["weight_keys_json"])
    shapes = {name: shape for name, shape, *_ in json.loads(weights)}
    return _network(weights, shapes["fc8.weight"][0] - 1)


def close(actual, expected, tolerance: float, what: str) -> None:
    actual = actual.detach() if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance, err_msg=what)


def like(full: torch.Tensor, expected: np.ndarray) -> torch.Tensor:
    """``full`` subsampled from index 0, in every axis with the step that gives the shape of ``expected``."""
    steps = [-(-size // few) for size, few in zip(full.shape, expected.shape, strict=True)]
    return full[tuple(slice(None, None, step) for step in steps)]


def same_norms(gradients, golden: dict, term: str) -> None:
    """L2 norms, in float64; no gradient counts as 0."""
    norms = [0.0 if gradient is None else gradient.double().norm().item() for gradient in gradients]
    np.testing.assert_allclose(norms, golden[f"grad_norm_{term}_f64"], rtol=1e-4, err_msg=term)


# ---- forward pass


@torch.no_grad()
def test_forward_pass():
    golden = load("seam_forward")
    network = network_of(golden).eval()
    (x,) = multi_scale(golden["image"], [1.0], False, network.backbone.input)
    taps = network.backbone(x)
    for tap in TAPS:
        close(taps[tap][0].mean((1, 2)), golden[f"{tap}_chan_mean"], 1e-4, tap)
    cam_low, revised_low = (maps[0] for maps in network.maps(x))
    close(cam_low, golden["cam_low"], 1e-4, "cam_low")
    close(network.correlated(cam_low[None])[0], golden["pcm_q"], 2e-4, "pcm_q")
    close(like(network.features(x, taps)[0], golden["f_195_sub"]), golden["f_195_sub"], 5e-5, "f_195_sub")
    close(revised_low, golden["pcm_out_low"], 5e-6, "pcm_out_low")
    everything = torch.arange(len(cam_low))[None]
    for key, ours, tolerance in (("cam", "cam", 1e-4), ("cam_rv", "revised", 5e-6)):
        maps = network.view(x, everything)[ours][0]
        statistics = torch.stack([maps.amin((1, 2)), maps.amax((1, 2)), maps.mean((1, 2))], 1)
        close(maps[:, golden["sub_rows"]][:, :, golden["sub_cols"]], golden[f"{key}_sub"], tolerance, f"{key}_sub")
        close(statistics, golden[f"{key}_minmaxmean"], tolerance, f"{key}_minmaxmean")


@torch.no_grad()
@pytest.mark.parametrize("columns", [seam.COLUMNS, 10])
def test_pixel_correlation_alone(columns):
    golden = load("seam_forward")
    f9 = network_of(golden).f9
    cam, features = (torch.from_numpy(golden[key])[None] for key in ("pcm_test_cam", "pcm_test_f"))
    close(seam.pixel_correlation(cam, f9(features), columns)[0], golden["pcm_test_out"], 1e-5, "pcm_test_out")


# ---- losses


def check_single_terms(views: list[dict], labels: torch.Tensor, A, settings: dict, golden: dict, tolerances) -> None:
    """What each view, given with the maps of all channels, adds to cls, rvmin and ecr; ``A`` resizes to the second."""
    y = F.pad(labels, (1, 0), value=1.0)[:, :, None, None]
    cam, revised = ([max_norm(view[key].relu()) * y for view in views] for key in ("cam", "revised"))
    cam[0], revised[0] = A(cam[0]), A(revised[0])
    for k, view in enumerate(views):
        terms = {
            "cls": multilabel_soft_margin(view["logits"], labels),
            "rvmin": seam.rvmin_loss(view["revised"], y, settings["rvmin_keep"]),
            "ecr": seam.ecr_loss(revised[k], cam[1 - k], y.shape[1], settings["ohem"]),
        }
        for (term, value), tolerance in zip(terms.items(), tolerances, strict=True):
            close(value, golden[f"loss_{term}{k + 1}"], tolerance, f"{term}{k + 1}")


def test_losses_of_given_maps():
    golden = load("seam_losses_maps")
    names = golden["map_names"].tolist()
    maps = {name: torch.from_numpy(golden[name]).float().requires_grad_() for name in names}
    labels = torch.from_numpy(golden["labels"])
    logits = [maps[f"cam{k}"][:, 1:].mean((2, 3)) for k in (1, 2)]
    views = [{"logits": logits[k - 1], "cam": maps[f"cam{k}"], "revised": maps[f"rv{k}"]} for k in (1, 2)]

    def A(large):
        return resize(large, maps["cam2"].shape[2:], align_corners=True)

    settings = released()["method"]
    y = F.pad(labels, (1, 0), value=1.0)[:, :, None, None]
    check_single_terms(views, labels, A, settings, golden, (1e-5, 1e-6, 5e-6))
    losses = seam.seam_losses(tuple(views), labels, y, A, settings)
    close(losses["er"], golden["loss_er"], 5e-7, "er")
    close(losses["ecr"], golden["loss_ecr"], 5e-6, "ecr")
    close(sum(losses.values()), golden["loss"], 2e-5, "total")
    for term in TERMS:
        gradients = torch.autograd.grad(losses[term], list(maps.values()), retain_graph=True, allow_unused=True)
        same_norms(gradients, golden, term)
    sum(losses.values()).backward()
    same_norms([maps[name].grad for name in names], golden, "total")
    for name in names:
        tolerance, expected = {"cam1": 5e-8, "cam2": 1e-7}.get(name, 1e-6), golden[f"grad_{name}_sub"]
        close(like(maps[name].grad, expected), expected, tolerance, f"grad_{name}_sub")


@pytest.fixture(scope="module")
def step():
    """One training step of the released script on its two images: golden numbers, network, losses."""
    golden = load("seam_losses")
    network = network_of(golden).train()
    dropouts = {module: module.p for module in network.modules() if isinstance(module, nn.Dropout2d)}
    for module in dropouts:
        module.p = 0.0
    inputs = [multi_scale(image, [1.0], False, network.backbone.input)[0] for image in golden["images"]]
    batch = {"image": torch.cat(inputs), "labels": torch.from_numpy(golden["labels"])}
    network.settings = released(float(golden["scale_factor"]))["method"]
    yield golden, network, batch, network.losses(batch, "classifier", None)
    for module, p in dropouts.items():
        module.p = p
    network.eval()


def test_losses_of_a_training_step(step):
    golden, network, batch, losses = step
    for term, tolerance in zip(TERMS, (2e-5, 5e-7, 2e-7, 5e-6), strict=True):
        close(losses[term], golden[f"loss_{term}"], tolerance, term)
    close(sum(losses.values()), golden["loss_total"], 2e-5, "total")
    small = seam.EquivariantTransform(batch["image"].shape[2:], len(batch["image"]), network.settings)(batch["image"])
    close(small, golden["img2"], 5e-5, "img2")


@torch.no_grad()
def test_views_of_a_training_step(step):
    golden, network, batch, _ = step
    images, labels = batch["image"], batch["labels"]
    A = seam.EquivariantTransform(images.shape[2:], len(images), network.settings)
    everything = torch.arange(labels.shape[1] + 1).expand(len(labels), -1)
    views = [network.view(x, everything) for x in (images, A(images))]
    for k, view in enumerate(views, start=1):  # channel 0 gets no loss
        close(view["logits"], golden[f"pooled_logits{k}"][:, 1:], 5e-5, f"pooled_logits{k}")
    check_single_terms(views, labels, A, network.settings, golden, (1e-5, 5e-7, 2e-6))


def test_gradients_of_a_training_step(step):
    golden, network, _, losses = step
    own = dict(network.named_parameters())
    parameters = [own.get(name, own.get(f"backbone.{name}")) for name in golden["grad_names"]]
    for term in TERMS:
        gradients = torch.autograd.grad(losses[term], parameters, retain_graph=True, allow_unused=True)
        same_norms(gradients, golden, term)
    gradients = torch.autograd.grad(sum(losses.values()), parameters, retain_graph=True)
    same_norms(gradients, golden, "total")
    found = dict(zip((name.split(".")[0] for name in golden["grad_names"]), gradients, strict=True))
    for name, tolerance in (("fc8", 2e-6), ("f9", 1e-6), ("b7", 2e-7)):
        expected = golden[f"grad_{name}_sub"]
        close(like(found[name][:, :, 0, 0], expected), expected, tolerance, f"grad_{name}_sub")


def test_frozen_parameters(step):
    golden, network, *_ = step
    frozen = {name.removeprefix("backbone.") for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == set(golden["frozen_names"].tolist())


# ---- inference


def test_multi_scale_inference():
    golden = load("seam_infer")
    network = network_of(golden).eval()
    settings = released()["cam"] | {"scales": golden["scales"].tolist()}
    inputs = multi_scale(golden["image"], settings["scales"], True, network.backbone.input)
    assert np.repeat([x.shape[2:] for x in inputs], 2, 0).tolist() == golden["scaled_sizes_hw"].tolist()
    assert np.flatnonzero(golden["label"]).tolist() == golden["class_ids"].tolist()

    sums = summed(network, inputs, golden["label"], golden["image"].shape[:2], settings["relu"])
    close(sums.amax((1, 2)), golden["sum_cam_max"], 1e-5, "sum_cam_max")
    close(sums.amin((1, 2)), golden["sum_cam_min"], 5e-6, "sum_cam_min")
    cam = multi_scale_cam(network, golden["image"], golden["label"], settings)
    close(cam, golden["cam"], 1e-5, "cam")

    threshold = np.full((1, *cam.shape[1:]), golden["cam_pred_threshold"])
    predicted = np.append(0, golden["class_ids"] + 1)[np.concatenate([threshold, cam]).argmax(0)]
    assert (predicted != golden["cam_pred"]).sum() <= 3
    check_alphas(golden, "crf_alpha", cam.numpy(), OWN)
