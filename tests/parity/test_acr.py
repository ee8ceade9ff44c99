"""ACR against numbers of its release: both networks, both losses with given tensors and in full, inference.

Tolerances follow from float32, in which the release computed, and are wider where roundings pass a deep network
twice: a value may differ by a share of the largest value of its array, a norm or statistic by a share of itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from golden import kaist_weights, load
from torch import nn

from wsss.backbones.base import resize
from wsss.backbones.weights import KINDS, load_official
from wsss.cam import multi_scale_cam
from wsss.data.transforms import multi_scale
from wsss.loop import build_optimizer
from wsss.methods.acr import (
    Acr,
    class_map,
    classifier_loss,
    hidden_maps,
    judged_maps,
    reconstructor_loss,
    srf_mask,
)
from wsss.plan.resolve import method_settings

VALUES = 1e-5  # of given tensors
DEEP = 1e-4  # values, losses and statistics after ResNet38d and the decoder
GRADIENTS = 5e-3  # gradients through them; L1 losses have no smooth gradient
# Without its BCE the classifier's gradient comes through the decoder's instance norms of few cells: float32 and float64
# differ by 0.007 of its norm, we and the release by 0.006 or 0.012, depending on the number of threads.
ADVERSARIAL = 5e-2
CASES = ("e0", "e30", "valid")
golden = functools.cache(load)


def weights(data: dict) -> tuple[dict, dict]:
    """The loss weights of a golden file, as in ``method.reconstructor`` and ``method.classifier``."""
    w = data["W"]
    reconstructor = {"cls": w[0], "full": w[1], "t": float(data["w_recon_t"]), "nt": float(data["w_recon_nt"])}
    return {**reconstructor, "min_fed": 50}, {"cls": 1.0, "t": w[2], "nt": w[3]}


@functools.cache
def network(gain: float) -> Acr:
    config = method_settings("acr")
    config["backbone"]["dropout"] = 0.0
    acr = Acr(config, 20)
    for name in ("net_main", "net_recon"):
        loaded = load_official(acr, {**official(acr), **kaist_weights(f"acr/{name}", gain=gain)}, KINDS["acr"], name)
        assert all("genUnet" in name or "dr" in name or "fc_recon" in name for name in loaded.unexpected)
    return acr.eval()


def official(acr: Acr) -> dict:
    return {KINDS["acr"].official(name): value for name, value in acr.state_dict().items()}


def inputs(data: dict) -> torch.Tensor:
    images = (data["images_u8"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    images = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float32)
    np.testing.assert_allclose(stats(images), data["input_stats"], rtol=VALUES)
    return images


def stats(x: torch.Tensor) -> np.ndarray:
    x = x.detach().double()
    return torch.stack([x.mean(), x.std(correction=0), x.norm(), x.min(), x.max()]).numpy()


def same(ours: torch.Tensor, theirs: np.ndarray, share: float) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=share * np.abs(theirs).max())


# ---- given tensors


@pytest.mark.parametrize("case", CASES)
def test_losses_of_given_tensors(case):
    data = golden("acr_unit")
    images, labels, feat = (torch.tensor(data[key]) for key in ("images", "label", "feat"))
    cam = torch.tensor(data["cam_valid_case" if case == "valid" else "cam"])
    target, cells = torch.tensor(data[f"{case}_target"]), torch.tensor(data[f"{case}_grid_mask"]).float()
    weight = torch.tensor(data["decoder_weight"], requires_grad=True)
    feat.requires_grad_()
    cam.requires_grad_()
    size = images.shape[2:]

    def decoder(x):
        return torch.conv2d(x, weight, padding=1)

    c_t = class_map(cam.detach(), labels, target, size)
    g = srf_mask(cells, size)
    u, v = hidden_maps(c_t, g)
    assert (((1 - u).sum((1, 2, 3)) > 50).numpy() == data[f"{case}_valid"]).all()
    recon_weights, main_weights = weights(data)
    logits = torch.tensor(data["recon_logits"])
    losses = reconstructor_loss(images, logits, labels, feat, decoder, c_t, g, recon_weights)
    check_terms(losses, recon_weights, data, f"{case}_loss_recon", VALUES)
    sum(losses.values()).backward()
    same(feat.grad, data[f"{case}_grad_feat"], VALUES)
    same(weight.grad, data[f"{case}_grad_decoder"], VALUES)

    logits = torch.tensor(data["main_logits"])
    losses = classifier_loss(images, logits, labels, cam, target, feat.detach(), decoder, main_weights)
    check_terms(losses, main_weights, data, f"{case}_loss_main", VALUES)
    sum(losses.values()).backward()
    same(cam.grad, data[f"{case}_grad_cam"], VALUES)
    if case == "e0":
        for name, ours in zip(("eval_t", "eval_nt"), judged_maps(cam, c_t, target), strict=True):
            same(ours, data[name], VALUES)
        for name, ours in (("fed_t", 1 - u), ("fed_nt", 1 - v), ("seg_t", c_t)):
            same(ours, data[name], VALUES)


def check_terms(losses: dict, weight: dict, data: dict, key: str, share: float) -> None:
    for term, loss in losses.items():
        assert loss.item() == pytest.approx(weight[term] * data[f"{key}_{term}"], rel=share), term
    assert sum(losses.values()).item() == pytest.approx(data[key], rel=share)


# ---- both networks


def test_forward():
    data = golden("acr_forward")
    acr, images = network(float(data["gain"])), inputs(data)
    with torch.no_grad(), watching(acr.reconstructor, data["stage_names"].tolist()) as seen:
        cam, logits = acr.classifier(images)
        taps = acr.reconstructor.backbone(images)
        recon_cam, feat = acr.reconstructor.cam(taps["conv6"]), acr.reconstructor.features(taps)
        reconstruction = acr.reconstructor.genUnet(resize(feat, images.shape[2:]))
    same(cam, data["main_cam"], DEEP)
    same(logits, data["main_logits"], DEEP)
    same(recon_cam, data["recon_cam"], DEEP)
    same(recon_cam.mean((2, 3)), data["recon_logits"], DEEP)
    step = int(data["feat_step"])
    same(feat[:, :: int(data["feat_channel_step"]), ::step, ::step], data["feat_sub"], DEEP)
    same(feat.mean((2, 3)), data["feat_channel_mean"], DEEP)
    same(feat.norm(dim=(2, 3)), data["feat_channel_l2"], DEEP)
    step, offset = int(data["recon_step"]), int(data["recon_offset"])
    same(reconstruction[..., offset::step, offset::step], data["recon_sub"], DEEP)
    row, column = data["recon_crop_origin"].tolist()
    height, width = data["recon_crop"].shape[2:]
    same(reconstruction[..., row : row + height, column : column + width], data["recon_crop"], DEEP)
    for channel, theirs in zip(reconstruction[0], data["recon_stats"], strict=True):
        same_stats(channel, theirs)
    assert list(seen) == data["stage_names"].tolist()
    for name, theirs in zip(seen, data["stage_stats"], strict=True):
        same_stats(seen[name], theirs, name)


def same_stats(x: torch.Tensor, theirs: np.ndarray, name: str = "") -> None:
    largest = np.abs(theirs[3:]).max()  # of the values
    np.testing.assert_allclose(stats(x), theirs, rtol=DEEP, atol=DEEP * largest, err_msg=name)


@contextmanager
def watching(reconstructor: nn.Module, names: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs (``in:<module>``) and outputs (``out:<module>``) of modules under official names."""
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for name in names:
        side, _, path = name.partition(":")
        module = reconstructor.get_submodule(path if path.startswith("genUnet") else f"backbone.{path}")

        def record(_, taken, given, name=name, side=side):
            seen[name] = (taken[0] if side == "in" else given).clone()  # later ReLUs work in place

        hooks.append(module.register_forward_hook(record))
    yield seen
    for hook in hooks:
        hook.remove()


# ---- one training step


LOSSES = ("recon", "main")


@pytest.fixture(scope="module")
def step() -> dict:
    """One step with both networks: {run: {"losses", "gradients", "updates" of recon and main, maps, images}}.

    The runs of the golden file share what is equal in them: ``nostep`` and ``nobce`` (without classification losses)
    leave the reconstructor as it is before the classifier's phase, ``step`` updates it.
    """
    data = golden("acr_losses")
    acr, images = network(float(data["gain"])), inputs(data)
    labels, target = torch.tensor(data["label"]), torch.tensor(data["target"])
    size, (recon_weights, main_weights) = images.shape[2:], weights(data)
    decoder = Recorder(acr.reconstructor.genUnet)
    named = {part: parameters(acr, data, part) for part in LOSSES}
    runs: dict[str, dict] = {run: {"gradients": {}} for run in ("nostep", "nobce", "step")}

    cam, main_logits = acr.classifier(images)
    g = srf_mask(torch.tensor(data["grid_mask"]).float(), size)
    c_t = class_map(cam.detach(), labels, target, size)
    logits, features = acr.reconstructor(images)
    ru = reconstructor_loss(images, logits, labels, features, decoder, c_t, g, recon_weights)
    runs["nobce"]["gradients"]["recon"] = gradients(sum(ru.values()) - ru["cls"], named["recon"])
    optimizer = optimizer_of(acr, "reconstructor", data)
    learning = [*acr.reconstructor.parameters(), *named["main"]]  # what the optimizers will move
    before = [p.detach().clone() for p in learning]
    sum(ru.values()).backward()
    runs["nostep"]["gradients"]["recon"] = [p.grad.clone() for p in named["recon"]]
    maps = {"u": hidden_maps(c_t, g)[0], "v": hidden_maps(c_t, g)[1], "c_t": c_t, "full": decoder.made[0]}

    def classify(features):
        return classifier_loss(images, main_logits, labels, cam, target, features.detach(), decoder, main_weights)

    cu = classify(features)
    maps |= {"R_t": decoder.made[-2], "R_nt": decoder.made[-1], "judged": judged_maps(cam, c_t, target)}
    runs["nostep"]["gradients"]["main"] = gradients(sum(cu.values()), named["main"])
    runs["nobce"]["gradients"]["main"] = gradients(sum(cu.values()) - cu["cls"], named["main"])
    runs["nostep"]["losses"] = runs["nobce"]["losses"] = {"recon": ru, "main": cu}

    updates = {"recon": update(optimizer, named["recon"])}
    with torch.no_grad():
        features = acr.reconstructor(images)[1]
    cu = classify(features)
    runs["step"]["gradients"] = {
        "recon": runs["nostep"]["gradients"]["recon"],
        "main": gradients(sum(cu.values()), named["main"]),
    }
    for parameter, gradient in zip(named["main"], runs["step"]["gradients"]["main"], strict=True):
        parameter.grad = gradient
    updates["main"] = update(optimizer_of(acr, "classifier", data), named["main"])
    runs["step"]["losses"] = {"recon": ru, "main": cu}
    with torch.no_grad():
        for parameter, value in zip(learning, before, strict=True):
            parameter.copy_(value)
    acr.zero_grad()
    return {"data": data, "runs": runs, "updates": updates, "maps": maps}


class Recorder:
    """A decoder that keeps what it made."""

    def __init__(self, decoder: nn.Module):
        self.decoder, self.made = decoder, []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        made = self.decoder(x)
        self.made.append(made.detach())
        return made


def parameters(acr: Acr, data: dict, part: str) -> list[nn.Parameter]:
    ours = {KINDS["acr"].official(name): parameter for name, parameter in acr.named_parameters()}
    return [ours[f"net_{part}.{name}"] for name in data[f"{part}_grad_names"].tolist()]


def gradients(loss: torch.Tensor, named: list[nn.Parameter]) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, named, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(named, found, strict=True)]


def optimizer_of(acr: Acr, phase: str, data: dict) -> torch.optim.Optimizer:
    settings = {"lr": float(data["lr"]), "weight_decay": float(data["weight_decay"])}
    return build_optimizer(acr.parameter_groups(phase), {**settings, "momentum": float(data["group_momentum"][0])})


def update(optimizer: torch.optim.Optimizer, named: list[nn.Parameter]) -> list[float]:
    before = [p.detach().clone() for p in named]
    optimizer.step()
    return [float((p.detach() - b).double().norm()) for p, b in zip(named, before, strict=True)]


@pytest.mark.parametrize("run", ["nostep", "nobce", "step"])
def test_step_losses(step, run):
    data, losses = step["data"], step["runs"][run]["losses"]
    for part, w in zip(LOSSES, weights(data), strict=True):
        for term, loss in losses[part].items():
            theirs = data[f"{run}_loss_{part}_{term}"]
            assert (run, term) == ("nobce", "cls") or loss.item() == pytest.approx(w[term] * theirs, rel=DEEP), term
        total = sum(loss for term, loss in losses[part].items() if (run, term) != ("nobce", "cls"))
        assert total.item() == pytest.approx(data[f"{run}_loss_{part}"], rel=DEEP)


@pytest.mark.parametrize("run", ["nostep", "nobce", "step"])
def test_step_gradients(step, run):
    data, found = step["data"], step["runs"][run]["gradients"]
    tolerance = {"recon": GRADIENTS, "main": ADVERSARIAL if run == "nobce" else GRADIENTS}
    for part in LOSSES:
        norms = [float(g.double().norm()) for g in found[part]]
        np.testing.assert_allclose(norms, data[f"{run}_{part}_grad_norms"], rtol=tolerance[part])
    fc9 = found["main"][data["main_grad_names"].tolist().index("fc9.weight")][:, ::8, 0, 0]
    same(fc9, data[f"{run}_main_grad_fc9_sub"], tolerance["main"])
    up7 = found["recon"][data["recon_grad_names"].tolist().index("genUnet.up7.model.0.weight")][::16, ::16]
    same(up7, data[f"{run}_recon_grad_up7_sub"], tolerance["recon"])


def test_step_updates(step):
    for part in LOSSES:
        np.testing.assert_allclose(step["updates"][part], step["data"][f"step_{part}_update_norms"], rtol=GRADIENTS)


def test_step_maps(step):
    data, maps = step["data"], step["maps"]
    stride, offset = int(data["mask_step"]), int(data["mask_offset"])
    e_t, e_nt = maps["judged"]
    for ours, key in (
        (1 - maps["u"], "fed_t"),
        (1 - maps["v"], "fed_nt"),
        (maps["c_t"], "seg_t"),
        (e_t, "eval_t"),
        (e_nt, "eval_nt"),
        (maps["full"], "recon_full"),
        (maps["R_t"], "cu_recon_t"),
        (maps["R_nt"], "cu_recon_nt"),
    ):
        same(ours[..., offset::stride, offset::stride], data[f"{key}_sub"], DEEP)
    assert e_t.sum().item() == pytest.approx(data["eval_t_area"], rel=DEEP)
    assert e_nt.sum().item() == pytest.approx(data["eval_nt_sum"], rel=DEEP)


def test_optimizer_groups():
    data = golden("acr_losses")
    groups = network(float(data["gain"])).parameter_groups("reconstructor")
    found = {(g["lr_scale"], g["decay_scale"]): g["params"] for g in groups}
    official = ((1.0, 1.0), (2.0, 0.0), (10.0, 1.0), (20.0, 0.0))
    assert [len(found.get(key, ())) for key in official] == data["recon_group_sizes"].tolist()
    assert data["main_group_sizes"].tolist() == data["recon_group_sizes"].tolist()  # with what it never uses, acr.py D7
    assert [sum(p.numel() for p in found.get(key, ())) for key in official] == data["recon_group_numel"].tolist()


def test_inference():
    data = golden("kaist_infer")
    acr, image, classes = network(float(data["acr_gain"])), data["image_u8"], data["classes"]
    settings = method_settings("acr")["cam"]
    with torch.no_grad():
        (x,) = multi_scale(image, [1.0], False, acr.backbone.input)
        same(acr.localize(x, torch.from_numpy(data["label"])[None])[0, classes], data["acr_single"], DEEP)
    maps = multi_scale_cam(acr, image, data["label"], settings)
    same(maps, data["acr_maps"], DEEP)
    for key in (key for key in data if key.startswith("acr_label_")):
        threshold = torch.full((1, *image.shape[:2]), int(key[-2:]) / 100)
        label_map = np.concatenate([[0], classes + 1])[torch.cat([threshold, maps]).argmax(0)]
        assert (label_map != data[key]).mean() < DEEP
