"""SEAM: pixel correlation, losses, departures and transformations on small cases."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from wsss.backbones.base import resize
from wsss.methods import seam
from wsss.plan.resolve import method_settings, stand_in

C, SIDE = 5, 64
TINY = {"name": "tiny", "freeze": [], "freeze_norm": False, "dropout": None, "output_stride": None, "weights": None}


def batch(size: int = 4) -> dict:
    generator = torch.Generator().manual_seed(7)
    labels = torch.eye(size, C)
    labels[0, 3] = 1  # two classes in one image
    return {"image": torch.randn(size, 3, SIDE, SIDE, generator=generator), "labels": labels}


def build(**method) -> seam.Seam:
    torch.manual_seed(0)
    config = stand_in(method_settings("seam"), {"resnet38d": TINY})
    config["method"] |= method
    return seam.Seam(config, C)


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
    expected = resize(maps, (33, 20), align_corners=True).mean((2, 3))
    assert torch.allclose(seam.mean_of_resized(maps, (33, 20)), expected, atol=1e-6)


def test_pcm_losses_train_pcm_only():
    method = build()
    losses = method.losses(batch(), "classifier", None)
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
def test_seam_switches(switches, terms):
    method = build(**switches)
    losses = method.losses(batch(), "classifier", None)
    assert losses.keys() == terms
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in method.parameters())
    assert method.eval().localize(batch()["image"], batch()["labels"]).shape[:2] == (4, C)


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


def test_seam_correlates_maps_as_they_are_with_d5():
    maps = torch.randn(1, C + 1, 4, 4)
    plain = build(as_paper=["D5"])
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
