"""AEFT: gates, pyramid and triplet worked by hand, and what its two phases do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wsss.backbones.base import resize
from wsss.methods import aeft, build
from wsss.methods.aeft import Gate, Output
from wsss.methods.base import max_norm, multilabel_soft_margin
from wsss.plan.resolve import method_settings
from wsss.schedule import Progress

C = 5
TINY = {"name": "tiny", "weights": None, "freeze_norm": True}
PHASE_1, PHASE_2 = Progress(0, 100, 17, 40), Progress(50, 100, 18, 40)
RULE = {"threshold": 0.2, "margin": 0.5, "min_hard": 0}


def method_with(**method) -> aeft.Aeft:
    config = method_settings("aeft")
    torch.manual_seed(0)
    return build(config | {"backbone": TINY, "method": config["method"] | method}, C)


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(1)
    labels = torch.zeros(10, C)
    labels[torch.arange(10), torch.arange(10) % C] = 1
    labels[0, 3] = 1
    return {"image": torch.randn(10, 3, 64, 56), "labels": labels, "id": list("abcdefghij")}


# ---- gated pyramid pooling


def half_open(gate: Gate) -> Gate:
    """Both maps get the weight sigmoid(0) = 1/2 everywhere, so the gate gives (x + y) / 4."""
    for attention in (gate.att_p, gate.att_n):
        torch.nn.init.zeros_(attention[0].weight)
    return gate


def test_a_half_open_gate_averages_both_signs():
    x, y = torch.randn(2, C, 4, 5), torch.randn(2, C, 4, 5)
    assert torch.allclose(half_open(Gate(C))(x, y), (x + y) / 4, atol=1e-6)


def test_a_gate_worked_by_hand():
    gate = half_open(Gate(1))
    gate.att_p[0].weight.data[0, 1, 1, 1] = 1.0  # positive part: the weight of x is sigmoid(ReLU(y))
    gate.att_n[0].weight.data[1, 0, 1, 1] = 2.0  # negative part: the weight of y is sigmoid(2 ReLU(-x))
    x, y = torch.tensor([[[[3.0, -1.0]]]]), torch.tensor([[[[2.0, -4.0]]]])
    first = (3 * torch.tensor(2.0).sigmoid() + 2 * 0.5) / 2
    second = -(1 * 0.5 + 4 * torch.tensor(2.0).sigmoid()) / 2
    assert torch.allclose(gate(x, y).flatten(), torch.stack([first, second]))


def test_pyramid_levels():
    cam = torch.arange(16.0).view(1, 1, 4, 4)
    one, four = aeft.pyramid(cam, [1, 4])
    assert torch.equal(one, torch.full_like(cam, 7.5))
    assert torch.equal(four, cam)
    assert [level.shape for level in aeft.pyramid(torch.rand(2, C, 19, 15), [2, 16])] == [(2, C, 19, 15)] * 2


def test_signed_logits_worked_by_hand():
    cam = torch.tensor([[[[2.0, 3.0, -1.0, -4.0]]]])
    gpp = torch.tensor([[[[5.0, -1.0, 2.0, -0.5]]]])  # agree, differ, differ, agree
    assert aeft.signed_logits(cam, gpp).tolist() == [[(2 * 5 - 4 * 0.5) / 4]]


@pytest.mark.parametrize(
    ("pooling", "weights"),
    [
        ("coarse_to_fine", [1 / 64, 1 / 64, 1 / 16, 1 / 4]),  # of levels 2, 4, 8, 16 with half-open gates
        ("fine_to_coarse", [1 / 4, 1 / 16, 1 / 64, 1 / 64]),
        ("average", [1 / 4] * 4),
        ("single:2", [1, 0, 0, 0]),
        ("single:16", [0, 0, 0, 1]),
    ],
)
def test_order_of_fusion(pooling, weights):
    method = method_with(pooling=pooling)
    gates = [half_open(module) for module in method.modules() if isinstance(module, Gate)]
    assert len(gates) == (3 if "coarse" in pooling else 0)
    cam = torch.randn(2, C, 20, 24)
    levels = aeft.pyramid(cam, [2, 4, 8, 16])
    expected = sum(weight * level for weight, level in zip(weights, levels, strict=True))
    assert torch.allclose(method.pool(cam), expected, atol=1e-6)


# ---- triplet


def test_foreground_is_the_largest_map_of_the_present_classes(batch):
    cam, labels = torch.randn(10, C, 6, 7), batch["labels"]
    dense = (max_norm(resize(F.relu(cam), (48, 56))) * labels[:, :, None, None]).amax(1, keepdim=True)
    fg = aeft.foreground(cam, labels, (48, 56))
    assert torch.equal(fg, dense)
    assert 0.9 < fg.max() < 1


def test_masks_worked_by_hand():
    fg = torch.tensor([0.0, 0.3, 0.59, 0.6, 0.9])
    assert torch.equal(aeft.mask_soft(fg, 0.6), torch.tensor([0.0, 0.3, 0.59, 0, 0]))
    assert torch.equal(aeft.mask_hard(fg, 0.6), torch.tensor([1.0, 1, 1, 0, 0]))


def output(gpp: list[list[float]], logits: torch.Tensor | None = None) -> Output:
    """One cell per map."""
    return Output(None, torch.tensor(gpp)[:, :, None, None], logits)


def test_attract_worked_by_hand():
    labels = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    anchor = output([[4.0, 1, 9], [7, 7, -2]])
    positive = output([[1.0, 2, 3], [5, 1, 2]])
    assert aeft.attract_soft(anchor, positive, labels) == pytest.approx((3 + 1 + 2) / 6)  # the last ReLU(-2) = 0
    assert aeft.attract_soft(anchor, anchor, labels) == 0
    doubled = Output(None, anchor.gpp * 2, None)
    assert aeft.attract_soft_l2(anchor, doubled, labels[:1].expand(2, -1)) == pytest.approx(0, abs=1e-6)
    one, other = output([[1.0, 0, 0]]), output([[0.0, 1, 0]])
    assert aeft.attract_soft_l2(one, other, labels[:1]) == pytest.approx(2)
    logits = torch.randn(2, 3)
    rigid = aeft.attract_rigid(anchor, output([[0.0] * 3] * 2, logits), labels)
    assert torch.equal(rigid, multilabel_soft_margin(logits, labels))


def test_partners_share_no_class_and_each_may_be_drawn():
    torch.manual_seed(0)
    labels = (torch.rand(32, C) < 0.3).float()
    labels[labels.sum(1) == 0, 2] = 1
    possible = labels @ labels.T == 0
    seen = torch.zeros_like(possible)
    for _ in range(400):
        partner = aeft.sample_partner(labels)
        seen[torch.arange(32), partner] = True
    alone = ~possible.any(1)
    assert torch.equal(seen, possible | alone.diag())


def test_an_image_without_partner_is_its_own_and_left_out():
    labels = torch.tensor([[1.0, 1], [1, 0], [0, 1]])  # the first shares a class with both others
    partner = aeft.sample_partner(labels)
    assert partner.tolist() == [0, 2, 1]
    cam, gpp = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    everyone = aeft.repel(cam, gpp, labels, partner, 0.2, 100.0, 0)
    others = aeft.repel(cam[1:], gpp[1:], labels[1:], partner[1:] - 1, 0.2, 100.0, 0)
    assert torch.allclose(everyone, others)
    assert aeft.repel(cam[:1], gpp[:1], labels[:1], torch.tensor([0]), **RULE) == 0


def one_row(values: list[list[float]]) -> torch.Tensor:
    """Maps of one row for two images with one class each: ``2×2×1×w``; the other class is 0."""
    maps = torch.zeros(2, 2, 1, len(values[0]))
    maps[0, 0, 0], maps[1, 1, 0] = (torch.tensor(row) for row in values)
    return maps


def test_repel_worked_by_hand():
    cam = one_row([[0.0, 1, 10, 4], [0, 8, 8, 0]])
    gpp = one_row([[1.0, 2, -4, 3], [2, 2, -1, 1]])
    labels, partner = torch.eye(2), torch.tensor([1, 0])
    # normalised class maps: 0 .1 1 .4 and 0 1 1 0; anchors average G / max |G| where they are below .2
    a = ((1 + 2) / 4 / 2, (2 + 1) / 2 / 2)
    b = ((1 + 2 - 4 + 3) / 4 / 4, (2 + 2 - 1 + 1) / 2 / 4)  # the negatives' averages are over all cells
    d = (a[0] ** 2 + b[1] ** 2, a[1] ** 2 + b[0] ** 2)  # .3906, .5781
    assert aeft.repel(cam, gpp, labels, partner, 0.2, 0.5, 0) == pytest.approx(0.5 - d[0], abs=1e-4)
    assert aeft.repel(cam, gpp, labels, partner, 0.2, 1.0, 0) == pytest.approx(1.0 - sum(d) / 2, abs=1e-4)
    assert aeft.repel(cam, gpp, labels, partner, 0.2, 1.0, 1) == pytest.approx(1.0 - sum(d) / 2, abs=1e-4)
    assert aeft.repel(cam, gpp, labels, partner, 0.2, 1.0, 2) == 0  # not more than two hard pairs
    assert aeft.repel(cam, gpp, labels, partner, 0.2, 0.3, 0) == 0  # no hard pair


def test_repel_lifts_pooled_magnitudes_and_does_not_train_the_threshold():
    torch.manual_seed(0)
    cam = torch.rand(2, 2, 4, 4, requires_grad=True)
    gpp = torch.rand(2, 2, 4, 4, requires_grad=True)
    aeft.repel(cam, gpp, torch.eye(2), torch.tensor([1, 0]), 0.2, 5.0, 0).backward()
    assert cam.grad is None
    assert (gpp.grad[0, 0].sum() < 0) or (gpp.grad[1, 1].sum() < 0)
    assert gpp.grad[0, 1].abs().sum() == 0


# ---- the method


@pytest.mark.parametrize(
    ("cls_images", "train", "seen"),
    [
        (None, {}, 8),  # as many as the batches of phase 1 have
        (None, {"batch_size": 16}, 16),
        (12, {}, 12),
        (None, {"accumulate": 2}, 4),  # of each of the two micro-batches
    ],
)
def test_how_many_images_the_classification_loss_sees(cls_images, train, seen):
    config = method_settings("aeft")
    assert aeft.seen_by_classification(config["method"] | {"cls_images": cls_images}, config["train"] | train) == seen


def counted(method) -> list[torch.Tensor]:
    """The image batches that the backbone of ``method`` sees from now on."""
    seen = []
    method.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    return seen


@pytest.mark.parametrize(
    ("progress", "weights", "terms", "passes"),
    [
        (PHASE_1, {}, {"cls"}, 1),
        (PHASE_2, {}, {"cls", "attract", "repel"}, 2),
        (PHASE_2, {"repel": 0}, {"cls", "attract"}, 2),
        (PHASE_2, {"attract": 0}, {"cls", "repel"}, 1),
        (PHASE_2, {"attract": 0, "repel": 0}, {"cls"}, 1),
    ],
)
def test_phases(progress, weights, terms, passes, batch):
    method = method_with(loss_weights={"cls": 1.0, "attract": 0.2, "repel": 0.15} | weights)
    seen = counted(method)
    losses = method.losses(batch, "classifier", progress)
    assert losses.keys() == terms
    assert len(seen) == passes
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_classification_sees_the_first_images_only(batch):
    method = method_with().eval()
    logits = method(batch["image"]).logits
    expected = multilabel_soft_margin(logits[:8], batch["labels"][:8])
    assert torch.equal(method.losses(batch, "classifier", PHASE_2)["cls"], expected)


def test_the_positive_image_is_the_image_times_the_mask(batch):
    for mask in ("soft", "hard"):
        method = method_with(mask=mask).eval()
        seen = counted(method)
        method.losses(batch, "classifier", PHASE_2)
        images, positive = seen
        fg = aeft.foreground(method(images).cam, batch["labels"], images.shape[2:])
        expected = images * (fg * (fg < 0.6) if mask == "soft" else (fg < 0.6))
        assert torch.allclose(positive, expected, atol=1e-6)
        assert not torch.allclose(positive, images)


@pytest.mark.parametrize("attract", ["soft", "soft_l2", "rigid"])
def test_attract_reaches_the_class_maps_through_the_mask(attract, batch):
    method = method_with(attract=attract, loss_weights={"cls": 0.0, "attract": 1.0, "repel": 0.0}).eval()
    anchor = method(batch["image"])
    cam = anchor.cam.detach().requires_grad_()
    given = Output(cam, anchor.gpp.detach(), anchor.logits.detach())
    loss = aeft.triplet_losses(given, batch["image"], batch["labels"], None, method, method.settings)["attract"]
    gradient = torch.autograd.grad(loss, cam)[0]
    present = batch["labels"][:, :, None, None].expand_as(gradient) > 0
    assert gradient[present].abs().sum() > 0
    assert gradient[~present].abs().sum() == 0


def test_localize_shows_the_class_maps_not_the_pooled_ones(batch):
    method = method_with().eval()
    out = method(batch["image"])
    assert torch.equal(method.localize(batch["image"], batch["labels"]), out.cam)
    assert torch.equal(out.gpp, method.pool(out.cam))
    assert not torch.allclose(out.cam, out.gpp)


def test_new_layers_learn_at_the_rate_of_the_backbone():
    assert {group["lr_scale"] for group in method_with().parameter_groups("classifier")} == {1}
    ten = method_with(new_lr=10.0).parameter_groups("classifier")
    assert [len(group["params"]) for group in ten if group["lr_scale"] == 10] == [2 + 3 * 2]


@pytest.mark.parametrize(
    ("weights", "images"), [({"attract": 0.0, "repel": 0.0}, 8), ({"attract": 0.2, "repel": 0.0}, 10)]
)
def test_without_a_triplet_only_the_images_of_l_cls_are_looked_at(batch, weights, images):
    method = method_with(loss_weights={"cls": 1.0, **weights})
    seen = []
    method.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    method.losses(batch, "classifier", PHASE_2)
    assert seen[0] == images
