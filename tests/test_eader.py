"""EADER: its formulas on small cases, and how its two networks take turns."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from wsss.cam import multi_scale_cam
from wsss.data.transforms import multi_scale
from wsss.methods.eader import ATTENTION, Eader, attention, image_statistics, localizer_loss, soft_mask
from wsss.methods.turns import waiting
from wsss.plan.resolve import method_settings, stand_in
from wsss.schedule import Progress

TINY = {"name": "tiny", "output_stride": None, "weights": None, "freeze_norm": False}
C = 4


def build(cam=None, **method) -> Eader:
    torch.manual_seed(0)
    config = stand_in(method_settings("eader"), dict.fromkeys(("resnet101", "resnet18"), TINY))
    config["method"] |= method
    config["cam"] |= cam or {}
    return Eader(config, C)


def at(step: int) -> Progress:
    return Progress(step, 1000, 0, 10)


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    return {"image": torch.randn(2, 3, 32, 32), "labels": labels, "id": ["a", "b"]}


def test_closed_form_equals_the_backward_pass():
    torch.manual_seed(0)
    features, head = torch.randn(3, 6, 4, 5).relu(), nn.Linear(6, C)
    image, cls = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 3, 1, 0])
    maps = [ATTENTION[kind](features, image, cls, head) for kind in ("gcam", "gcam_backward")]
    torch.testing.assert_close(maps[1] * 20, maps[0])  # the gradient of a mean over 4×5 cells
    with torch.no_grad():  # as in the adversary's phase
        torch.testing.assert_close(ATTENTION["gcam_backward"](features, image, cls, head), maps[1])


def test_only_cam_trains_the_head_through_the_map():
    features, head = torch.rand(1, 6, 4, 4), nn.Linear(6, C)
    pair = torch.tensor([0]), torch.tensor([2])
    assert ATTENTION["cam"](features, *pair, head).requires_grad
    assert not ATTENTION["gcam"](features, *pair, head).requires_grad


def test_attention_spans_zero_to_one_and_keeps_empty_maps():
    a = attention(
        torch.stack([torch.arange(12.0).view(3, 4) - 5, torch.zeros(3, 4), torch.full((3, 4), 7.0)]), (12, 16)
    )
    assert a.shape == (3, 1, 12, 16)
    assert a.amin((1, 2, 3)).tolist() == [0, 0, 0]
    assert a.amax((1, 2, 3)).tolist() == [1, 0, 0]


def test_soft_mask_is_a_step_at_sigma():
    m = soft_mask(torch.tensor([0.0, 0.5, 0.51, 1.0]), 100, 0.5)
    torch.testing.assert_close(m, torch.tensor([0.0, 0.5, 0.731059, 1.0]), atol=1e-6, rtol=0)


def test_localizer_loss_by_hand():
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 0]])
    cls = torch.tensor([0, 1, 1])
    maps = torch.stack([torch.full((1, 2, 2), v) for v in (0.2, 0.4, 0.6)])
    found = torch.zeros(3, C)
    found[0, 0] = found[1, 1] = torch.tensor(3.0).log()  # q = 3/4, 3/4, 1/2
    w = {"alpha": 2.0, "beta": 10.0, "average": "pairs"}
    losses = localizer_loss(torch.zeros(2, C), labels, maps, found, cls, w)
    assert losses["loc"].item() == pytest.approx(torch.tensor(2.0).log().item())
    assert losses["am"].item() == pytest.approx(2 * (0.75 + 0.75 + 0.5) / 3)
    assert losses["reg"].item() == pytest.approx(10 * 0.4)
    slides = localizer_loss(torch.zeros(2, C), labels, maps, found, cls, {**w, "average": "classes"})
    assert slides["am"].item() == pytest.approx(2 * (1.5 / C + 0.5 / C) / 2)
    assert slides["reg"].item() == pytest.approx(10 * (0.6 / C + 0.6 / C) / 2)


def test_phases_alternate_in_blocks():
    eader = build(alternate_steps=[3, 2])
    turns = "".join(eader.active_phases(at(step))[0][0] for step in range(10))
    assert turns == "lllaalllaa"
    alone = build(adversary=None)
    assert alone.phases == ("localizer",)
    assert alone.active_phases(at(250)) == ("localizer",)


def test_without_adversary_only_labels_are_learned(batch):
    assert list(build(adversary=None).losses(batch, "localizer", at(0))) == ["loc"]


def gradients(eader: Eader) -> dict[str, bool]:
    return {name.partition(".")[0]: True for name, p in eader.named_parameters() if p.grad is not None}


def test_each_phase_trains_its_network(batch):
    for phase, trained in (("localizer", {"backbone", "fc"}), ("adversary", {"adversary"})):
        eader = build()
        sum(eader.losses(batch, phase, at(0)).values()).backward()
        assert set(gradients(eader)) == trained
        assert all(p.requires_grad for p in eader.parameters())


def test_attention_mining_reaches_the_localizer(batch):
    eader = build()
    eader.losses(batch, "localizer", at(0))["am"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in eader.backbone.parameters())


@pytest.mark.parametrize("follow", [True, False])
def test_norms_of_the_waiting_network_follow_or_stay(batch, follow):
    for phase, waits in (("localizer", "adversary.backbone"), ("adversary", "backbone")):
        eader = build(follow=follow).train()
        norm = next(m for m in eader.get_submodule(waits).modules() if isinstance(m, nn.BatchNorm2d))
        before = norm.running_mean.clone()
        eader.losses(batch, phase, at(0))
        assert (not torch.equal(norm.running_mean, before)) == follow
        assert all(m.training for m in eader.modules())


def test_psa_variant_has_psas_head_and_rates():
    eader = build(head="psa", adversary={"backbone": TINY, "lr_scale": 0.5})
    assert eader.fc.bias is None
    rates = {id(p): g["lr_scale"] for g in eader.parameter_groups("localizer") for p in g["params"]}
    assert rates[id(eader.fc.weight)] == 10
    assert rates[id(eader.backbone.conv2[0].weight)] == 1
    assert [g["lr_scale"] for g in eader.parameter_groups("adversary")] == [0.5]


def test_localize_gives_the_logits_before_pooling(batch):
    eader = build().eval()
    with torch.no_grad():
        maps = eader.localize(batch["image"], batch["labels"])
        logits = eader.fc(eader.backbone(batch["image"])["conv6"].mean((2, 3)))
    torch.testing.assert_close(maps.mean((2, 3)) + eader.fc.bias, logits)


def test_inference_settings_give_the_attention_of_training():
    eader = build().eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    labels = torch.tensor([[0.0, 1, 0, 1]])
    scores = multi_scale_cam(eader, image, labels[0].numpy(), method_settings("eader")["cam"])
    (x,) = multi_scale(image, [1.0], False, "rgb")
    with torch.no_grad():
        a = eader.attention(eader.backbone(x)["conv6"], *labels.nonzero(as_tuple=True), (40, 56))
    torch.testing.assert_close(scores, a[:, 0])


def test_image_statistics_see_one_image_and_leave_no_trace(batch):
    eader = build({"norm": "image"}).eval()
    before = copy.deepcopy(eader.state_dict())
    with torch.no_grad():
        both = eader.localize(batch["image"], batch["labels"])
        alone = eader.localize(batch["image"][:1], batch["labels"][:1])
        running = build().eval().localize(batch["image"], batch["labels"])
    torch.testing.assert_close(both[:1], alone)
    assert not torch.allclose(both, running)
    assert all(torch.equal(value, before[name]) for name, value in eader.state_dict().items())
    with image_statistics(eader):
        pass
    assert not any(m.training for m in eader.modules())


def test_waiting_restores_what_it_found():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    network[0].bias.requires_grad_(False)
    x = torch.randn(3, 2, requires_grad=True)
    with waiting(network, training=True):
        assert network.training
        y = network(x)
    with waiting(network):
        assert not network.training
    y.square().sum().backward()  # after leaving
    assert x.grad is not None
    assert all(p.grad is None for p in network.parameters())
    assert network.training
    assert network[0].weight.requires_grad
    assert not network[0].bias.requires_grad
