"""IRNet: pairs and paths, losses, networks on other backbones."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from stages import changed
from toys import random_map

from wsss import backbones
from wsss.backbones.weights import export_weights, import_weights
from wsss.errors import WsssError
from wsss.plan.resolve import method_settings
from wsss.refine import irn_net
from wsss.refine.labels import PairMarks, pair_marks
from wsss.refine.losses import cross_entropy_terms, displacement_terms
from wsss.refine.paths import half_disc, pair_difference, pairs_within, path_affinity, straight_path
from wsss.stores import IGNORE

TINY = {"name": "tiny", "output_stride": None, "dilate": None}


def settings(**over) -> dict:
    return changed(method_settings("cam")["irn_train"], {"backbone": TINY, **over})


def net_on(backbone: dict) -> irn_net.IRNet:
    torch.manual_seed(0)
    return irn_net.build(settings(backbone={"output_stride": None, "dilate": None, **backbone}))


# ---- pairs and paths


def test_offsets_in_order():
    reach = {1: 4, 2: 4, 3: 3, 4: 2}
    rows = [(dy, dx) for dy, most in reach.items() for dx in range(-most, most + 1)]
    assert half_disc(5) == [(0, 1), (0, 2), (0, 3), (0, 4), *rows]
    assert len(half_disc(10)) == 152


HISTOGRAMS = {
    5: "2:2 3:2 4:4 5:2 6:4 7:2 8:8 10:6 11:4",
    10: "2:2 3:2 4:4 5:2 6:6 7:4 8:10 9:2 10:12 11:4 12:12 13:2 14:8 15:8 16:22 18:16 19:6 20:20 21:4 22:6",
}


@pytest.mark.parametrize("radius", HISTOGRAMS)
def test_path_lengths(radius: int):
    lengths = [len(pair.path) for pair in pairs_within(radius)]
    expected = {int(k): int(v) for k, v in (entry.split(":") for entry in HISTOGRAMS[radius].split())}
    assert Counter(lengths) == expected


def test_paths_lead_from_end_to_end():
    for dy, dx in half_disc(10):
        path = set(straight_path(dy, dx))
        assert {(0, 0), (dy, dx)} <= path
        assert path == {(dy - y, dx - x) for y, x in path}  # the same path backwards
    assert set(straight_path(0, 3)) == {(0, 0), (0, 1), (0, 2), (0, 3)}
    assert set(straight_path(1, -1)) == {(0, 0), (0, -1), (1, 0), (1, -1)}


def test_affinity_sees_the_highest_boundary_on_the_way():
    boundary = torch.zeros(1, 9, 17)
    boundary[0, :, 8] = 0.75  # a wall
    affinity = path_affinity(boundary, 5)[0]  # sources: rows 0 to 4, columns 4 to 12
    for p, pair in enumerate(pairs_within(5)):
        for column in range(4, 13):
            crosses = min(column, column + pair.dx) <= 8 <= max(column, column + pair.dx)
            expected = 0.25 if crosses else 1.0
            assert (affinity[p, :, column - 4] == expected).all(), (pair, column)


def test_gradient_of_affinity_is_that_of_the_maximum():
    boundary = random_map(2, 6, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: path_affinity(b, 4), boundary, fast_mode=True)


def test_map_too_small_for_the_radius():
    with pytest.raises(WsssError, match="4×4"):
        path_affinity(torch.zeros(1, 4, 4), 5)


# ---- losses


def test_marks_of_pairs():
    label = torch.full((1, 9, 17), 3)
    label[0, :, 8:] = 0
    label[0, 0] = IGNORE
    marks = pair_marks(label, 5)
    assert not any(mark[0, :, 0].any() for mark in marks)  # sources in the ignored row
    total = sum(mark.int() for mark in marks)
    assert total.max() == 1  # every pair is of one kind
    assert total[0, :, 1:].all()  # all other pairs count: their ends lie in rows 1 to 8
    right = next(p for p, pair in enumerate(pairs_within(5)) if (pair.dy, pair.dx) == (0, 1))
    assert marks.neg[0, right, 1].nonzero().flatten().tolist() == [7 - 4]


def test_losses_vanish_for_perfect_outputs():
    """Two squares on background: displacements to their centres and a boundary that separates them."""
    label, dp, boundary = torch.zeros(1, 24, 24), torch.zeros(1, 2, 24, 24), torch.zeros(1, 24, 24)
    for top, left in ((2, 2), (12, 12)):
        square = (slice(top, top + 8), slice(left, left + 8))
        label[0][square] = 1
        ring = torch.ones(10, 10)
        ring[1:-1, 1:-1] = 0
        boundary[0, top - 1 : top + 9, left - 1 : left + 9] += ring
        axes = torch.meshgrid(*(torch.arange(8.0) for _ in "yx"), indexing="ij")
        for axis, place in enumerate(axes):
            dp[0, axis][square] = 3.5 - place
    boundary = boundary.clamp(max=1)
    label[boundary > 0.5] = IGNORE
    marks = pair_marks(label, 5)
    difference = pair_difference(dp, 5)
    inside = PairMarks(marks.bg, marks.fg & (path_affinity(boundary, 5) == 1), marks.neg)
    terms = displacement_terms(difference, inside, 5)
    assert terms["dp_fg"] < 1e-6
    assert terms["dp_bg"] == 0
    assert cross_entropy_terms(path_affinity(boundary, 5), inside)["neg"] < 1e-4
    assert displacement_terms(-difference, inside, 5)["dp_fg"] > 1


# ---- network


@pytest.mark.parametrize(
    "backbone",
    [{"name": "resnet18"}, {"name": "tiny"}, {"name": "mobilenet_v2"}, {"name": "mobilenet_v2", "output_stride": 32}],
    ids=lambda spec: "-".join(map(str, spec.values())),
)
@torch.no_grad()
def test_any_backbone_gives_maps_at_stride_4(backbone: dict):
    net = net_on(backbone).eval()
    edge, dp = net(torch.zeros(2, 3, 75, 101))
    assert edge.shape == (2, 19, 26)
    assert dp.shape == (2, 2, 19, 26)


def test_backbone_without_a_tap_at_stride_4():
    coarse = backbones.build({"name": "tiny"})
    coarse.strides = {**coarse.strides, "conv3": 8}
    with pytest.raises(WsssError, match="tap conv3 has stride 4"):
        irn_net.IRNet(coarse, settings())


def test_only_the_branches_learn():
    net = net_on({"name": "tiny"}).train()
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    labels = torch.zeros(2, 16, 16, dtype=torch.uint8)
    labels[:, 4:12, 4:12] = 1
    losses = net.losses({"image": random_map(2, 3, 64, 64), "label": labels, "id": ["a", "b"]}, "irn", None)
    assert set(losses) == {"boundary_bg", "boundary_fg", "boundary_neg", "dp_fg", "dp_bg"}
    sum(losses.values()).backward()
    groups = net.parameter_groups("irn")
    assert [group["lr_scale"] for group in groups] == [1, 10]
    learning = {id(p) for group in groups for p in group["params"]}
    assert learning == {id(p) for p in net.parameters() if p.grad is not None}
    assert all(torch.equal(value, before[name]) for name, value in net.backbone.state_dict().items())


@torch.no_grad()
def test_large_images_are_not_cut():
    net = net_on({"name": "tiny"}).eval()
    edge, dp = irn_net.boundary_and_displacement(net, [random_map(3, 90, 133)], crop=64)
    assert edge.shape == (1, 23, 34)
    assert dp.shape == (1, 2, 23, 34)
    assert edge[0, -1].std() > 0  # the last row is computed, not filled
    mirrored, _ = irn_net.boundary_and_displacement(net, [random_map(3, 90, 132).flip(-1)], crop=64)
    straight, _ = irn_net.boundary_and_displacement(net, [random_map(3, 90, 132)], crop=64)
    torch.testing.assert_close(mirrored.flip(-1), straight)


@torch.no_grad()
def test_official_file_is_a_model(tmp_path):
    spec = {"backbone": {"name": "resnet50", "output_stride": 16, "dilate": False}}
    torch.manual_seed(1)
    net = irn_net.build(settings(**spec)).eval()
    net.mean_shift.running_mean += torch.tensor([1.0, -2.0])
    export_weights(net, "irn", tmp_path / "res50_irn.pth")
    again = irn_net.build(settings(**spec)).eval()
    import_weights(tmp_path / "res50_irn.pth", again, "irn")
    image = random_map(1, 3, 40, 40)
    for ours, theirs in zip(net(image), again(image), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(WsssError, match=r"res50_irn\.pth: not a model of this configuration \(IRNet on tiny\)"):
        irn_net.load(settings(), tmp_path / "res50_irn.pth")
