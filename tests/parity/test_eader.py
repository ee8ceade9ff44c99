"""EADER against numbers of its release: attention maps, masks, losses, gradients, running statistics.

The release computed in float32, so what it computed is known to its rounding only. Gradients through the mask magnify
that by omega = 100, and batch statistics of a few images by more, most with ResNet-50: there even the number of threads
changes a map by 3e-5. ``TOLERANCES`` are at least 2.5 times what computing the same in float64 changes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden import kaist_weights, load

from wsss.backbones.weights import KINDS, load_official
from wsss.methods.eader import Eader, adversary_loss, localizer_loss, soft_mask


class Tolerance(NamedTuple):
    maps: float  # of the largest value of an array
    masked: float  # the same, after the mask
    number: float  # losses and statistics, relative
    plain: float  # gradients that do not pass the mask, relative
    gradient: float  # gradients that do


TOLERANCES = {  # by mode of the batch norms; after each: what float64 changes
    "bneval": Tolerance(3e-5, 1e-3, 1e-4, 1e-3, 1e-2),  # 7e-6, 6e-7, 1e-5, 1e-4, 0.0015
    "bntrain": Tolerance(1e-3, 5e-3, 1e-3, 2e-2, 0.15),  # 2e-4, 5e-4, 1e-4, 0.004, 0.06
}
ATTENTIONS = ("gcam", "gcam_backward", "cam")
ARCHITECTURES = {"r18": "resnet18", "r50": "resnet50"}


def spec(name: str) -> dict:
    return {"name": name, "output_stride": 32, "freeze_norm": False}


def settings(golden: dict, attention: str, **others) -> dict:
    return {
        "head": "linear",
        "attention": attention,
        "average": "pairs",
        "omega": float(golden["omega"]),
        "sigma": float(golden["sigma"]),
        "adversary": {"backbone": spec("resnet18"), "lr_scale": 1.0},
        **others,
    }


@functools.cache
def golden(name: str) -> dict:
    return load(name)


def method(name: str, arch: str, attention: str) -> Eader:
    data = golden(name)
    config = {"backbone": spec(ARCHITECTURES[arch]), "method": settings(data, attention)}
    built = Eader(config, data["label"].shape[1])
    load_official(built, weights(arch, float(data[f"{arch}_gain"])), KINDS["eader"], "golden")
    return built


@functools.cache
def weights(arch: str, gain: float) -> dict:
    localizer = kaist_weights(f"eader/localizer/{ARCHITECTURES[arch]}", gain=gain)
    adversary = kaist_weights("eader/adversarial/resnet18", "adversarial.", gain)
    return {f"localizer.{k}": v for k, v in localizer.items()} | {f"adversarial.{k}": v for k, v in adversary.items()}


def inputs(data: dict) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (torch.tensor(data["images_u8"]).float() / 255 - mean) / std
    images = images.permute(0, 3, 1, 2).contiguous()
    np.testing.assert_allclose(stats(images), data["input_stats"], rtol=1e-5)
    return images, torch.tensor(data["label"])


def stats(x: torch.Tensor) -> np.ndarray:
    x = x.detach().double()
    return torch.stack([x.mean(), x.std(correction=0), x.norm(), x.min(), x.max()]).numpy()


def same(ours: torch.Tensor, theirs: np.ndarray, share: float) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=share * np.abs(theirs).max())


def sub(x: torch.Tensor, data: dict, key: str) -> torch.Tensor:
    step, offset = int(data[f"{key}_step"]), int(data[f"{key}_offset"])
    return x[..., offset::step, offset::step]


def order(image: torch.Tensor, cls: torch.Tensor, data: dict, key: str, labels: torch.Tensor) -> list[int]:
    """Where the release's pairs are among ours."""
    ours = {pair: place for place, pair in enumerate(zip(image.tolist(), cls.tolist(), strict=True))}
    if f"{key}_pair_image" in data:
        theirs = zip(data[f"{key}_pair_image"].tolist(), data[f"{key}_pair_class"].tolist(), strict=True)
    elif "_cam" in key:  # images in order, classes ascending inside an image
        theirs = ours
    else:  # the first class of every image, then the second, ...
        ranks = (labels.cumsum(1) * labels)[image, cls].tolist()
        theirs = [pair for _, pair in sorted(zip(ranks, ours, strict=True))]
    theirs = list(theirs)
    assert [c for _, c in theirs] == data[f"{key}_pair_class"].tolist()
    return [ours[pair] for pair in theirs]


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_attention(arch, kind):
    data = golden("eader_attention")
    key = f"{arch}_{'cam' if kind == 'cam' else 'gcam'}"
    images, labels = inputs(data)
    by = TOLERANCES["bneval"]
    eader = method("eader_attention", arch, kind).eval()
    image, cls = labels.nonzero(as_tuple=True)
    with torch.no_grad():
        features = eader._features(images)
        same(eader._logits(features), data[f"{arch}_logits"], by.maps)
        same(torch.sigmoid(eader._logits(features)), data[f"{arch}_prob"], by.maps)
        np.testing.assert_allclose(stats(features), data[f"{arch}_feature_stats"], rtol=by.number, atol=by.maps)
        a = eader.attention(features, image, cls, images.shape[2:])
        mask = soft_mask(a, float(data["omega"]), float(data["sigma"]))
        erased = eader.erase(images, a, image)
    pairs = order(image, cls, data, key, labels)
    for ours, name, subsampling, share in (
        (a, "map", "map", by.maps),
        (mask, "mask", "map", by.masked),
        (erased, "erased", "erased", by.masked),
    ):
        plural = "maps" if name == "map" else name
        same(sub(ours[pairs], data, subsampling), data[f"{key}_{plural}"], share)
        for pair, theirs in zip(pairs, data[f"{key}_{name}_stats"], strict=True):
            np.testing.assert_allclose(stats(ours[pair]), theirs, rtol=share * 10, atol=share * 3)


RUNS = sorted(key.removesuffix("_adv_prob") for key in golden("eader_losses") if key.endswith("_adv_prob"))


@pytest.mark.parametrize("run", RUNS)
def test_losses(run):
    data = golden("eader_losses")
    arch, mode, kind = run.split("_")
    images, labels = (values.double() for values in inputs(data))  # so that no processor's rounding decides
    eader = method("eader_losses", arch, kind).double().train(mode == "bntrain")
    image, cls = labels.nonzero(as_tuple=True)
    pairs = order(image, cls, data, run, labels)
    by = TOLERANCES[mode]

    features = eader._features(images)
    logits = eader._logits(features)
    a = eader.attention(features, image, cls, images.shape[2:])
    found = eader.adversary(eader.erase(images, a, image))
    same(torch.sigmoid(logits), data[f"{run}_prob"], by.maps)
    same(torch.sigmoid(found)[pairs], data[f"{run}_adv_prob"], by.masked)
    same(sub(a[pairs], data, "map_sub"), data[f"{run}_maps_sub"], by.maps)
    for pair, theirs in zip(pairs, data[f"{run}_map_stats"], strict=True):
        np.testing.assert_allclose(stats(a[pair]), theirs, rtol=by.number, atol=by.maps)
    if mode == "bntrain":
        check_running(eader.backbone, data, f"{run}_running")
        check_running(eader.adversary.backbone, data, f"{run}_adv_running")

    for setting, alpha, beta in (("default", 0.05, 1e-5), ("unit", 1.0, 1.0)):
        w = {"alpha": alpha, "beta": beta, "average": "pairs"}
        losses = localizer_loss(logits, labels, a, found, cls, w)
        key = f"{run}_{setting}_localizer"
        for term, weight in (("loc", 1.0), ("am", alpha), ("reg", beta)):
            assert losses[term].item() / weight == pytest.approx(data[f"{key}_L_{term}"], rel=by.number)
        total = sum(losses.values())
        assert total.item() == pytest.approx(data[f"{key}_total"], rel=by.number)
        grads = gradients(eader, total, data[f"{arch}_localizer_grad_names"], "")
        check_norms(grads, data[f"{key}_grad_norms"], by.gradient)
        if setting == "default":  # Grad-CAM's weights are constants: no gradient comes through the mask
            tolerance = by.plain if kind == "gcam" else by.gradient
            same(grads["fc.weight"][:, ::8], data[f"{run}_grad_fc_sub"], tolerance)
    key = f"{run}_default_adversary"
    loss = adversary_loss(found, labels, image)["adv"]
    assert loss.item() == pytest.approx(data[f"{key}_L_adv"], rel=by.number)
    grads = gradients(eader, loss, data["adversary_grad_names"], "adversary.")
    check_norms(grads, data[f"{key}_grad_norms"], by.plain)
    same(grads["fc.weight"][:, ::8], data[f"{key}_grad_fc_sub"], by.plain)


def gradients(eader: Eader, loss: torch.Tensor, names, prefix: str) -> dict[str, torch.Tensor]:
    paths = [prefix + (name if name.startswith("fc.") else f"backbone.{name}") for name in names.tolist()]
    parameters = [eader.get_parameter(path) for path in paths]
    return dict(zip(names.tolist(), torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))


def check_norms(grads: dict, theirs: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose([float(g.double().norm()) for g in grads.values()], theirs, rtol=tolerance)


def check_running(network: torch.nn.Module, data: dict, key: str) -> None:
    norms = [network.get_submodule(name) for name in data["running_names"].tolist()]
    for statistic in ("mean", "var"):
        ours = [float(getattr(norm, f"running_{statistic}").double().norm()) for norm in norms]
        np.testing.assert_allclose(ours, data[f"{key}_{statistic}_l2"], rtol=TOLERANCES["bntrain"].number)
