"""One contract for every method, on three backbones, and what is special about CAM and SEAM."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsss.errors import WsssError
from wsss.methods import METHODS, base, build, cam, seam
from wsss.plan.resolve import method_settings, stand_in
from wsss.train import Progress, poly_groups

C, SIDE = 5, 64
OPEN = {"freeze": [], "freeze_norm": False, "dropout": None, "output_stride": None, "weights": None}
BACKBONES = {name: {"name": name, **OPEN} for name in ("tiny", "mobilenet_v2", "vit:test_vit")}
PAPER_NETWORKS = ("resnet38d", "resnet101", "resnet50", "resnet18", "vgg16")
SMALLER = {"acr": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]}}  # made for crops of 256
EVERYWHERE = [Progress(step, 1000, epoch, 40) for step, epoch in ((0, 0), (250, 10), (500, 20), (999, 39))]

present = [name for name, where in METHODS.items() if find_spec(f"wsss.methods.{where.split(':')[0]}")]


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


# ---- CAM, Grad-CAM, Grad-CAM++


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(0)
    return build(settings("cam", "tiny", tmp_path), C).eval()


def test_logits_are_the_pooled_class_maps(classifier):
    features = classifier.backbone(batch()["image"])["conv6"]
    assert torch.allclose(classifier.logits(features), classifier.class_maps(features).mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("weights", cam.ATTENTION.values(), ids=cam.ATTENTION)
def test_closed_gradient_equals_autograd(classifier, weights):
    images, labels = batch()["image"], batch()["labels"]
    closed = classifier.grad_maps(images, labels, weights, "conv6", closed=True)
    differentiated = classifier.grad_maps(images, labels, weights, "conv6", closed=False)
    assert closed.abs().max() > 0
    assert torch.allclose(closed, differentiated, rtol=1e-4, atol=1e-7)


def test_grad_cam_at_the_last_feature_map_is_cam_over_its_cells(classifier):
    images, labels = batch()["image"], batch()["labels"]
    maps = classifier.localize(images, labels) * labels[:, :, None, None]
    classifier.shown["attention"] = "gradcam"
    grad_cam = classifier.localize(images, labels) * maps[0, 0].numel()
    assert (grad_cam - maps).abs().max() < 1e-6 * maps.abs().max()  # sums of the same terms, rounded elsewhere


@pytest.mark.parametrize("attention", cam.ATTENTION)
@pytest.mark.parametrize("tap", ["conv4", "conv6"])
def test_grad_cam_works_at_any_tap_inside_inference(classifier, attention, tap):
    classifier.shown |= {"attention": attention, "tap": tap}
    images, labels = batch(2)["image"], batch(2)["labels"]
    with torch.no_grad():
        maps = classifier.localize(images, labels)
    assert maps.shape[2:] == classifier.backbone(images)[tap].shape[2:]
    assert (maps.abs().amax((2, 3)) > 0).equal(labels.bool())
    assert not maps.requires_grad


def test_grad_cam_pp_weights_worked_by_hand():
    """Grad-CAM++, Eq. (19): alpha = g^2 / (2 g^2 + g^3 sum F); a = sum alpha ReLU(g)."""
    features = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])
    g = torch.tensor([[[[0.5, 0.5]], [[-0.75, 0.25]]]])
    alpha = g**2 / (2 * g**2 + g**3 * features.sum((2, 3), keepdim=True))
    expected = (alpha * F.relu(g)).sum((2, 3))
    assert torch.allclose(cam.grad_cam_pp_weights(features, g), expected)


def test_power_roots_the_class_maps(tmp_path, classifier):
    rooted = build(settings("cam", "tiny", tmp_path, power=0.5), C).eval()
    rooted.load_state_dict(classifier.state_dict())
    images, labels = batch()["image"], batch()["labels"]
    assert torch.allclose(rooted.localize(images, labels) ** 2, F.relu(classifier.localize(images, labels)), atol=1e-5)


# ---- SEAM


def test_columns_of_the_affinity_sum_to_one_and_chunks_do_not_matter():
    torch.manual_seed(0)
    q, f = torch.rand(2, 4, 5, 7), torch.randn(2, 6, 5, 7)
    ones = seam.pixel_correlation(torch.ones_like(q), f)
    assert torch.allclose(ones, torch.ones_like(q), atol=1e-4)
    assert torch.allclose(seam.pixel_correlation(q, f, columns=8), seam.pixel_correlation(q, f), atol=1e-6)
    loop = torch.zeros_like(q).flatten(2)
    for b, j in ((b, j) for b in range(2) for j in range(35)):
        similar = F.relu(F.cosine_similarity(f[b].flatten(1).T, f[b].flatten(1)[:, j][None]))
        loop[b, :, j] = (q[b].flatten(1) * similar).sum(1) / similar.sum()
    assert torch.allclose(seam.pixel_correlation(q, f), loop.view_as(q), atol=1e-4)


def test_er_is_zero_for_equal_maps_and_ignores_the_background():
    maps = torch.rand(1, 3, 4, 4)
    other = maps.clone()
    other[:, 0] += 1
    assert seam.er_loss(maps, other) == 0
    assert seam.er_loss(maps, maps + 0.25).item() == pytest.approx(0.5)  # two classes


def test_ecr_pulls_the_revised_map_only_and_keeps_its_inputs():
    revised, maps = torch.rand(1, 3, 4, 4, requires_grad=True), torch.rand(1, 3, 4, 4, requires_grad=True)
    kept = maps.detach().clone()
    seam.ecr_loss(revised, maps, 3, 0.2).backward()
    assert maps.grad is None
    assert (revised.grad != 0).sum() == int(0.2 * 48)
    assert torch.equal(maps, kept)


def test_ecr_of_one_pixel_worked_by_hand():
    maps = torch.tensor([0.0, 0.3, 0.6]).view(1, 3, 1, 1)  # target: background 1 - .6, class 1 suppressed, class 2
    revised = torch.tensor([0.1, 0.1, 0.1]).view(1, 3, 1, 1)  # gaps .3 .1 .5
    assert seam.ecr_loss(revised, maps, 3, None).item() == pytest.approx(0.3)
    assert seam.ecr_loss(revised, maps, 3, 0.34).item() == pytest.approx(0.5)
    assert seam.ecr_loss(revised, maps, 3, 1.0, per_pixel=True).item() == pytest.approx(0.3)


def test_rvmin_takes_the_least_active_pixels_of_the_strongest_present_class():
    revised = torch.tensor([[9.0, 9, 9, 9], [0.1, 0.2, 0.3, 0.4], [5.0, 5, 5, 5]]).view(1, 3, 2, 2)
    y = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)
    assert seam.rvmin_loss(revised, y, 0.5).item() == pytest.approx(0.15)


@pytest.mark.parametrize("switches", [{}, {"ohem": None}, {"as_paper": ["D4"]}, {"ohem": 0.9}])
def test_absent_channels_change_no_loss(switches):
    labels = torch.tensor([[0.0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    full = [torch.rand(3, 6, 8, 8, requires_grad=True) for _ in range(4)]
    config = {**method_settings("seam")["method"], **switches}

    def losses(channels):
        index = channels[:, :, None, None].expand(-1, -1, 8, 8)
        maps = [value.gather(1, index) for value in full]
        views = [{"logits": torch.zeros(3, 5), "cam": maps[k], "revised": maps[2 + k]} for k in (0, 1)]
        y = F.pad(labels, (1, 0), value=1.0).gather(1, channels)[:, :, None, None]
        terms = seam.seam_losses(tuple(views), labels, y, lambda x: x, config)
        return terms, torch.autograd.grad(sum(terms.values()), full)

    every, all_gradients = losses(torch.arange(6).expand(3, -1))
    shown = seam.present_channels(labels)
    assert shown.tolist() == [[0, 2, 5], [0, 3, 1], [0, 1, 2]]
    some, gradients = losses(shown)
    for term in every:
        assert torch.allclose(every[term], some[term], atol=1e-7), term
    for ours, expected in zip(gradients, all_gradients, strict=True):
        assert torch.allclose(ours, expected, atol=1e-7)


def test_mean_of_resized():
    maps = torch.rand(2, 3, 5, 7)
    expected = base.resize(maps, (33, 20), align_corners=True).mean((2, 3))
    assert torch.allclose(seam.mean_of_resized(maps, (33, 20)), expected, atol=1e-6)


def test_pcm_losses_train_pcm_only(tmp_path):
    method = build(settings("seam", "tiny", tmp_path), C)
    losses = method.losses(batch(), "classifier", EVERYWHERE[0])
    names, parameters = zip(*method.named_parameters(), strict=True)
    for terms, reached in ((("ecr", "rvmin"), {"f8_3", "f8_4", "f9"}), (("cls", "er"), {"backbone", "fc8"})):
        total = sum(losses[term] for term in terms)
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        got = {name.split(".")[0] for name, g in zip(names, gradients, strict=True) if g is not None and g.any()}
        assert got == reached, terms


@pytest.mark.parametrize(
    ("switches", "terms"),
    [
        ({"pcm": False}, {"cls", "er"}),
        ({"pcm": False, "er": False}, {"cls"}),
        ({"ohem": None}, {"cls", "er", "ecr", "rvmin"}),
        ({"as_paper": ["D2", "D4"]}, {"cls", "er", "ecr", "rvmin"}),
        ({"as_paper": ["D5", "D6"]}, {"cls", "er", "ecr", "rvmin"}),
        ({"flip": 0.5, "rotation": 20.0, "translation": 15}, {"cls", "er", "ecr", "rvmin"}),
    ],
)
def test_seam_switches(switches, terms, tmp_path):
    method = build(settings("seam", "tiny", tmp_path, **switches), C)
    losses = method.losses(batch(), "classifier", EVERYWHERE[0])
    assert losses.keys() == terms
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in method.parameters())
    assert method.eval().localize(batch()["image"], batch()["labels"]).shape[:2] == (4, C)


def test_as_paper_departures_are_checked(tmp_path):
    with pytest.raises(WsssError, match=r"method\.as_paper: D9: choose from D2, D4, D5, D6"):
        build(settings("seam", "tiny", tmp_path, as_paper=["D9"]), C)


def seam_terms(views: tuple[dict, dict], labels: torch.Tensor, *as_paper: str) -> dict[str, torch.Tensor]:
    """Losses of given maps of all channels, whose second view is as large as the first, with departures undone."""
    chosen = method_settings("seam")["method"] | {"as_paper": list(as_paper), "ohem": None}
    y = F.pad(labels, (1, 0), value=1.0)[:, :, None, None]
    return seam.seam_losses(views, labels, y, lambda maps: maps, chosen)


def test_seam_compares_maps_as_they_are_with_d5():
    """|A(F(I)) - F(A(I))| of Eq. 9 itself: no normalisation, absent classes too."""
    views = tuple({"logits": torch.randn(2, C), "cam": torch.randn(2, C + 1, 6, 6)} for _ in range(2))
    views = tuple(view | {"revised": torch.randn(2, C + 1, 6, 6)} for view in views)
    labels = batch(2)["labels"]
    one, other = (view["cam"][:, 1:].relu() for view in views)
    assert torch.isclose(seam_terms(views, labels, "D5")["er"], (one - other).abs().mean())
    target = seam.keep_strongest(seam.with_background(views[1]["cam"].relu()))
    revised = views[0]["revised"].relu()
    swapped = seam.keep_strongest(seam.with_background(views[0]["cam"].relu()))
    expected = (target - revised).abs().mean() + (swapped - views[1]["revised"].relu()).abs().mean()
    assert torch.isclose(seam_terms(views, labels, "D5")["ecr"], expected)
    assert not torch.isclose(seam_terms(views, labels)["er"], (one - other).abs().mean())


def test_seam_correlates_maps_as_they_are_with_d5(tmp_path):
    maps = torch.randn(1, C + 1, 4, 4)
    plain = build(settings("seam", "tiny", tmp_path, as_paper=["D5"]), C)
    assert torch.equal(plain.correlated(maps), seam.keep_strongest(seam.with_background(maps.relu())))
    assert plain.compared_channels(batch()["labels"]).tolist() == [list(range(C + 1))] * 4


def test_seam_revised_background_follows_eq_11_with_d6():
    """Then it does not matter what the background channel of the revised map is."""
    views = [{"logits": torch.randn(2, C), "cam": torch.randn(2, C + 1, 6, 6)} for _ in range(2)]
    revised = torch.randn(2, C + 1, 6, 6)
    others = torch.cat([torch.rand(2, 1, 6, 6), revised[:, 1:]], 1)
    labels = batch(2)["labels"]
    for departures, same in ((("D6",), True), ((), False)):
        ecr = [
            seam_terms(tuple(view | {"revised": maps} for view in views), labels, *departures)["ecr"]
            for maps in (revised, others)
        ]
        assert torch.isclose(*ecr) == same


def transform(size: tuple[int, int], **moves) -> seam.EquivariantTransform:
    still = {"rescale": 1.0, "flip": 0.0, "rotation": 0.0, "translation": 0}
    return seam.EquivariantTransform(size, 2, still | moves)


def test_transform_flips_exactly():
    maps = torch.rand(2, 1, 6, 9)
    assert torch.allclose(transform((6, 9), flip=1.0)(maps), maps.flip(3), atol=1e-5)


def test_transform_translates_by_whole_pixels_in_each_axis():
    maps = F.pad(torch.rand(2, 1, 20, 30) + 0.1, (4, 4, 4, 4))
    moved = transform((28, 38), translation=3)(maps)
    for one, other in zip(maps, moved, strict=True):
        shifts = [(dy, dx) for dy in (-3, 3) for dx in (-3, 3)]
        assert any(torch.allclose(one.roll(shift, (1, 2)), other, atol=1e-4) for shift in shifts)


def test_transform_turns_without_distortion():
    """A disc beside the centre of a wide image stays a disc at the same distance from the centre."""
    yy, xx = torch.meshgrid(torch.arange(61.0) - 30, torch.arange(101.0) - 50, indexing="ij")
    disc = ((xx - 20) ** 2 + yy**2 < 64).float().expand(2, 1, -1, -1)
    torch.manual_seed(1)
    turned = transform((61, 101), rotation=20.0)(disc)
    for one in turned[:, 0]:
        y, x = (one * yy).sum() / one.sum(), (one * xx).sum() / one.sum()
        assert one.sum().item() == pytest.approx(disc[0].sum().item(), rel=0.02)
        assert math.hypot(x, y) == pytest.approx(20, abs=0.2)
        assert 0.1 < abs(math.degrees(math.atan2(y, x))) < 20.1


def test_rescaling_alone_is_plain_interpolation():
    images = torch.rand(2, 3, 40, 50)
    A = transform((40, 50), rescale=0.3)
    assert torch.equal(A(images), F.interpolate(images, scale_factor=0.3, mode="bilinear", align_corners=True))


def test_pixel_correlation_keeps_its_precision():
    q, features = torch.rand(1, 3, 5, 5), torch.randn(1, 8, 5, 5)
    plain = seam.pixel_correlation(q, features)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = seam.pixel_correlation(q, features)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)
