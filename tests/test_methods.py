"""One contract for every method, on three backbones, and the formulas that they share."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from wsss.errors import WsssError
from wsss.groups import poly_groups
from wsss.methods import METHODS, base, build
from wsss.plan.resolve import method_settings, stand_in
from wsss.schedule import Progress

C, SIDE = 5, 64
OPEN = {"freeze": [], "freeze_norm": False, "dropout": None, "output_stride": None, "weights": None}
BACKBONES = {name: {"name": name, **OPEN} for name in ("tiny", "mobilenet_v2", "vit:test_vit")}
PAPER_NETWORKS = ("resnet38d", "resnet101", "resnet50", "resnet18", "vgg16")
SMALLER = {"acr": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]}}  # made for crops of 256
EVERYWHERE = [Progress(step, 1000, epoch, 40) for step, epoch in ((0, 0), (250, 10), (500, 20), (999, 39))]

present = [name for name, where in METHODS.items() if find_spec(where.partition(":")[0])]


def settings(name: str, backbone: str, tmp_path, **method) -> dict:
    """The released settings with a small backbone, and what a method needs from an earlier training."""
    config = stand_in(method_settings(name), dict.fromkeys(PAPER_NETWORKS, BACKBONES[backbone]))
    config["method"].update(SMALLER.get(name, {}) | method)
    config["train"]["crop"] = SIDE
    if "ordinary" in config["method"]:
        teacher = settings("cam", backbone, tmp_path)
        torch.save(build(teacher, C).state_dict(), tmp_path / "ordinary.pt")
        config["method"]["ordinary"]["weights"] = str(tmp_path / "ordinary.pt")
    return config


def batch(size: int = 4) -> dict:
    generator = torch.Generator().manual_seed(7)
    labels = torch.zeros(size, C)
    labels[torch.arange(size), torch.arange(size) % C] = 1
    labels[0, 3] = 1  # two classes in one image
    image = torch.randn(size, 3, SIDE, SIDE, generator=generator)
    return {"image": image, "labels": labels, "id": [str(i) for i in range(size)]}


@pytest.mark.parametrize("name", present)
@pytest.mark.parametrize("empty", [1, 4])
def test_images_without_a_class_are_negatives(name, empty, tmp_path):
    torch.manual_seed(0)
    method = build(settings(name, "tiny", tmp_path), C)
    given = batch()
    given["labels"][:empty] = 0
    for phase in method.active_phases(EVERYWHERE[1]):
        losses = method.losses(given, phase, EVERYWHERE[1])
        total = sum(losses.values())
        assert torch.isfinite(total), losses
        total.backward()


@pytest.fixture(params=[(name, backbone) for name in present for backbone in BACKBONES], ids="-".join)
def method(request, tmp_path):
    torch.manual_seed(0)
    return build(settings(*request.param, tmp_path), C)


def all_losses(method) -> dict[tuple, torch.Tensor]:
    """Every term of every phase at points all over the schedule."""
    return {
        (progress.step, phase, term): value
        for progress in EVERYWHERE
        for phase in method.active_phases(progress)
        for term, value in method.losses(batch(), phase, progress).items()
    }


# ---- the contract


def test_losses_are_named_finite_scalars_in_every_phase(method):
    losses = all_losses(method)
    assert {phase for _, phase, _ in losses} == set(method.phases)
    for key, value in losses.items():
        assert value.shape == (), key
        assert value.isfinite(), key


def test_losses_stay_float32_in_mixed_precision(method):
    with torch.autocast("cpu", torch.bfloat16):
        losses = all_losses(method)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_gradients_reach_what_a_phase_trains_and_nothing_frozen(method):
    for phase in method.phases:
        groups = method.parameter_groups(phase)
        assert all(group["params"] and {"lr_scale", "decay_scale"} <= set(group) for group in groups)
        trained = [parameter for group in groups for parameter in group["params"]]
        method.zero_grad(set_to_none=True)
        for progress in EVERYWHERE:
            if phase in method.active_phases(progress):
                sum(method.losses(batch(), phase, progress).values()).backward()
        unreached = [name for name, p in method.named_parameters() if any(p is q for q in trained) and p.grad is None]
        assert not unreached, phase
        assert any(p.grad.abs().sum() > 0 for p in trained), phase
        assert all(p.grad is None for p in method.parameters() if not p.requires_grad), phase


def test_every_parameter_that_trains_is_in_one_group_of_one_phase(method):
    placed = [id(p) for phase in method.phases for group in method.parameter_groups(phase) for p in group["params"]]
    assert len(placed) == len(set(placed))
    assert set(placed) == {id(p) for p in method.parameters() if p.requires_grad}


def test_localize_gives_one_map_per_class_and_leaves_no_trace(method):
    method.eval()
    images, labels = batch(2)["image"], batch(2)["labels"]
    before = images.clone(), {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        maps, again = method.localize(images, labels), method.localize(images, labels)
    assert maps.shape[:2] == (2, C)
    assert maps.ndim == 4
    assert maps.isfinite().all()
    assert not maps.requires_grad
    assert torch.equal(maps, again)
    assert torch.equal(images, before[0])
    assert all(torch.equal(value, before[1][name]) for name, value in method.state_dict().items())


def test_classify_gives_the_logits_that_the_loss_sees(method, monkeypatch):
    method.eval()  # no dropout
    seen = []

    def spy(logits, labels, *others):
        seen.append(logits.detach())
        return base.multilabel_soft_margin(logits, labels, *others)

    monkeypatch.setattr(sys.modules[type(method).__module__], "multilabel_soft_margin", spy)
    start = EVERYWHERE[0]
    for phase in method.active_phases(start):
        method.losses(batch(), phase, start)
    with torch.no_grad():
        logits = method.classify(batch()["image"])
    assert any(torch.allclose(logits[: len(given)], given, rtol=1e-4, atol=1e-5) for given in seen)


def test_images_of_a_batch_are_localized_as_one_by_one(method):
    method.eval()
    images, labels = batch(3)["image"], batch(3)["labels"]
    with torch.no_grad():
        together = method.localize(images, labels)
        alone = torch.cat([method.localize(images[i : i + 1], labels[i : i + 1]) for i in range(3)])
    shown = labels.bool()  # maps of other classes are not used
    torch.testing.assert_close(together[shown], alone[shown], rtol=1e-3, atol=1e-4)


def test_same_seed_same_losses(request, method):
    twin = build(settings(*request.node.callspec.params["method"], request.getfixturevalue("tmp_path")), C)
    twin.load_state_dict(method.state_dict())
    phase, progress = method.phases[0], EVERYWHERE[0]
    values = []
    for network in (method, twin):
        torch.manual_seed(3)
        values.append(network.losses(batch(), phase, progress))
    assert values[0].keys() == values[1].keys()
    assert all(torch.equal(values[0][term], values[1][term]) for term in values[0])


def test_an_unknown_method_is_an_error_that_names_the_others():
    with pytest.raises(WsssError, match="unknown method 'cams': choose one of acr, aeft, cam"):
        build({"method": {"name": "cams"}}, C)


# ---- shared formulas


def test_parameter_groups_follow_the_rule_of_psa():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
    backbone[2].requires_grad_(False)
    head = nn.Conv2d(4, 2, 1)
    groups = poly_groups((10.0, [head]), (1.0, [backbone, head]), norm_decay=0.25)
    rates = {id(p): (g["lr_scale"], g["decay_scale"]) for g in groups for p in g["params"]}
    assert rates == {
        id(backbone[0].weight): (1, 1),
        id(backbone[0].bias): (2, 0),
        id(backbone[1].weight): (1, 0.25),
        id(backbone[1].bias): (1, 0.25),
        id(head.weight): (10, 1),
        id(head.bias): (20, 0),
    }


def test_max_norm_of_a_map_worked_by_hand():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    assert torch.allclose(base.max_norm(maps), torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]]), atol=1e-5)
    assert torch.equal(base.max_norm(torch.full((1, 1, 2, 2), 3.0)), torch.zeros(1, 1, 2, 2))
