"""OC-CSE against the numbers of its released code: one step on both networks, and its losses on given tensors."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden import kaist_weights, load
from kaist import (
    GRADIENT,
    NETWORK,
    UNIT,
    check_groups,
    close,
    close_each,
    named_params,
    network_input,
    norms,
    statistics,
    sub,
    update_norms,
)

from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.methods.base import multilabel_soft_margin
from wsss.methods.occse import OcCse, erased_logits, erasing_loss, erasing_mask
from wsss.plan.resolve import method_settings


def epochs(golden: dict) -> list[int]:
    """The epochs a file has losses of: ``e14_weight`` -> 14."""
    found = (re.fullmatch(r"e(\d+)_weight", key) for key in golden)
    return [int(match[1]) for match in found if match]


# ---- given tensors


@pytest.fixture(scope="module")
def unit() -> dict:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in load("occse_unit").items()}


def stand_in(weight: torch.Tensor):
    """One convolution and GAP in place of the ordinary classifier."""
    return lambda images, edit: torch.conv2d(edit(0, images), weight, stride=weight.shape[2:]).mean((2, 3))


def test_mask_and_masked_image(unit):
    m = erasing_mask(unit["cam"], unit["target"], unit["images"].shape[2:])
    close(m, unit["mask"], "mask", UNIT)
    masked = sub(unit["images"] * (1 - m), unit["masked_step"], unit["masked_offset"])
    close(masked, unit["masked_image_sub"], "masked image", UNIT)


def test_losses_and_gradients(unit):
    config = method_settings("occse")["method"]
    for epoch in epochs(unit):
        weight = config["cc_init"] + config["cc_slope"] * epoch
        assert weight == pytest.approx(float(unit[f"e{epoch}_weight"]), rel=1e-12)
        cam = unit["cam"].clone().requires_grad_()
        kernel = unit["oc_conv_weight"].clone().requires_grad_()
        logits = erased_logits(unit["images"], cam, unit["target"], stand_in(kernel))
        close(logits, unit["oc_logits"], "logits of the stand-in", UNIT)
        cls = multilabel_soft_margin(cam.mean((2, 3)), unit["label"])
        erase = weight * erasing_loss(logits, unit["label"], unit["target"])
        close_each([cls, erase], [unit[f"e{epoch}_loss_all"], unit[f"e{epoch}_loss_select"]], "losses", UNIT)
        (cls + erase).backward()
        close(cam.grad, unit[f"e{epoch}_grad_cam"], "gradient of cam", UNIT)
        close(kernel.grad, unit[f"e{epoch}_grad_oc_conv_weight"], "gradient of the stand-in", UNIT)


# ---- both networks


@pytest.fixture(scope="module")
def step(tmp_path_factory) -> SimpleNamespace:
    """One step at the first epoch of the file, with the gradients of both losses."""
    golden = load("occse_step")
    method = documented_method(golden, tmp_path_factory.mktemp("occse") / "od_cam.pth")
    images = network_input(golden["images_u8"])
    labels, target = (torch.from_numpy(golden[key]) for key in ("label", "target"))
    params = named_params(method, golden["grad_names"])
    epoch = epochs(golden)[0]
    heads = (method.fc8, method.ordinary.fc8)
    cams = []
    hooks = [head.register_forward_hook(lambda module, args, cam: cams.append(cam)) for head in heads]
    terms = method.terms(images, labels, target, epoch)
    for hook in hooks:
        hook.remove()
    gradients = {name: torch.autograd.grad(terms[name], params.values(), retain_graph=True) for name in terms}
    return SimpleNamespace(**locals())


def documented_method(golden: dict, ordinary_weights: Path) -> OcCse:
    gain = float(golden["gain"])
    torch.save(kaist_weights("occse/net_cl", "net_cl.", gain), ordinary_weights)
    config = method_settings("occse")
    config["method"]["ordinary"]["weights"] = str(ordinary_weights)
    method = OcCse(config, golden["label"].shape[1])
    ordinary_weights.unlink()  # 420 MB
    load_official(method, kaist_weights("occse/net_er", "", gain), KINDS["occse"], "documented weights")
    return method.eval()


def test_groups_frozen_parts_and_settings(step):
    golden = step.golden
    check_groups(step.method.parameter_groups("classifier"), golden)
    frozen = {name for name, param in step.method.named_parameters() if not param.requires_grad}
    ours = {name.removeprefix("backbone.") for name in frozen if not name.startswith("ordinary.")}
    assert ours == set(golden["frozen_names"].tolist())
    settings = method_settings("occse")
    optimizer = settings["train"]["optimizer"]
    assert [optimizer[key] for key in ("lr", "weight_decay")] == [golden[key] for key in ("lr", "weight_decay")]
    assert optimizer["momentum"] == golden["group_momentum"][0]
    assert (settings["method"]["cc_init"], settings["method"]["cc_slope"]) == (golden["cc_init"], golden["cc_slope"])


def test_maps_of_both_networks(step):
    golden = step.golden
    close(statistics(step.images), golden["input_stats"], "input", 1e-6)
    cam, cam_oc = step.cams
    close(cam, golden["cam"], "cam", NETWORK)
    close(cam.mean((2, 3)), golden["logits"], "logits", NETWORK)
    close(cam_oc, golden["cam_oc"], "cam of the ordinary classifier", NETWORK)
    close(cam_oc.mean((2, 3)), golden["logits_oc"], "logits of the ordinary classifier", NETWORK)

    m = erasing_mask(cam, step.target, step.images.shape[2:])
    masked = step.images * (1 - m)
    close(sub(m, golden["mask_step"], golden["mask_offset"]), golden["mask"], "mask", NETWORK)
    close(sub(masked, golden["masked_step"], golden["masked_offset"]), golden["masked_image"], "masked image", NETWORK)
    for i in range(len(masked)):
        close(statistics(m[i]), golden["mask_stats"][i], "mask", NETWORK)
        close(statistics(masked[i]), golden["masked_stats"][i], "masked image", NETWORK)


def test_losses_gradients_and_updates(step):
    golden, method = step.golden, step.method
    for epoch in epochs(golden):
        ratio = method.erase_weight(epoch) / method.erase_weight(step.epoch)
        assert method.erase_weight(epoch) == pytest.approx(float(golden[f"e{epoch}_weight"]), rel=1e-12)
        actual = [step.terms["cls"], step.terms["erase"] * ratio]
        close_each(actual, [golden[f"e{epoch}_loss_{term}"] for term in ("all", "select")], f"losses {epoch}", NETWORK)
        total = [a + ratio * b for a, b in zip(*step.gradients.values(), strict=True)]
        close_each(norms(total), golden[f"e{epoch}_grad_norms"], f"gradient norms {epoch}", GRADIENT)
        changes = update_norms(method, "classifier", step.params, total, golden)
        close_each(changes, golden[f"e{epoch}_update_norms"], f"update norms {epoch}", GRADIENT)
        if epoch == step.epoch:
            close(fc8_sub(step, total), golden["grad_fc8_sub"], "gradient of fc8", GRADIENT)
        if f"e{epoch}_select_only_grad_norms" in golden:
            only = [ratio * b for b in step.gradients["erase"]]
            close_each(norms(only), golden[f"e{epoch}_select_only_grad_norms"], "norms through the mask", GRADIENT)
            close(fc8_sub(step, only), golden[f"e{epoch}_select_only_grad_fc8_sub"], "fc8 through the mask", GRADIENT)


def test_the_ordinary_classifier_gets_no_gradient(step):
    assert all(param.grad is None and not param.requires_grad for param in step.method.ordinary.parameters())


def fc8_sub(step: SimpleNamespace, gradients: list) -> torch.Tensor:
    gradient = dict(zip(step.params, gradients, strict=True))["fc8.weight"][:, :, 0, 0]
    return gradient[:, :: gradient.shape[1] // step.golden["grad_fc8_sub"].shape[1]]
