"""AffinityNet: confident labels, pairs, the loss and its memory, training on a toy data set."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from stages import train
from torch.autograd.graph import saved_tensors_hooks

from wsss.backbones import build as build_backbone
from wsss.backbones import export_weights, import_weights
from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.refine import affinity_net
from wsss.refine.affinity_net import AffinityNet, pair_affinity
from wsss.refine.labels import AffinitySamples, clamp_radius, confident_labels, pair_marks, pool
from wsss.refine.losses import cross_entropy_terms
from wsss.refine.paths import half_disc
from wsss.stores import write_scores

CONFIG = {
    "seed": 0,
    "backbone": {"name": "tiny", "weights": None, "output_stride": None, "dropout": None, "freeze_norm": True},
    "crf": {"alphas": [4, 24]},
    "affinity": {
        "low_alpha": 4,
        "high_alpha": 24,
        "radius": 5,
        "dropout_until": None,
        "backbone": {"name": None, "weights": None},
        "train": {
            "weights": None,
            "start": None,
            "epochs": 8,
            "steps": 30,
            "batch_size": 4,
            "drop_last": True,
            "accumulate": 1,
            "may_skip": 0.0,
            "crop": 64,
            "flip": 0.5,
            "jitter": [0.1, 0.1, 0.1, 0.0],
            "precision": "float32",
            "optimizer": {
                "lr": 0.1,
                "momentum": 0.0005,
                "weight_decay": 0.0005,
                "poly_power": 0.9,
                "poly_epochs": None,
            },
        },
    },
}


def test_34_offsets():
    offsets = half_disc(5)
    assert len(offsets) == 34
    assert offsets[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, -4)]


@pytest.mark.parametrize(("h", "w", "radius"), [(56, 56, 5), (11, 40, 5), (10, 40, 4), (7, 7, 3), (2, 9, 1), (1, 1, 1)])
def test_small_maps_have_a_smaller_radius(h, w, radius):
    assert clamp_radius(5, h, w) == radius


def test_confident_labels_by_hand():
    one, stride = torch.eye(3), 2

    def planes(*cells) -> torch.Tensor:
        """``3×2×12``: one cell of 2×2 pixels after the other."""
        return torch.stack(cells, 1)[:, None].repeat_interleave(2, 1).repeat_interleave(2, 2)

    zero = torch.zeros(3)
    low = planes(one[0], one[0], one[1], one[1], zero, one[2])
    high = planes(one[0], one[1], one[1], one[0], zero, one[2])
    assert confident_labels(low, high, stride).tolist() == [[0, 255, 1, 0, 255, 2]]


def test_pooling_fills_the_last_cells_with_zeros():
    pooled = pool(torch.ones(1, 5, 9), 4)
    assert pooled.tolist() == [[[1, 1, 1 / 4], [1 / 4, 1 / 4, 1 / 16]]]


def all_pairs(labels: np.ndarray, radius: int) -> dict[str, int]:
    """Counts by the definition, cell by cell."""
    h, w = labels.shape
    counts = dict.fromkeys(("bg", "fg", "neg"), 0)
    for y in range(h - radius + 1):
        for x in range(radius - 1, w - radius + 1):
            for dy, dx in half_disc(radius):
                a, b = labels[y, x], labels[y + dy, x + dx]
                if 255 not in (a, b):
                    counts["neg" if a != b else "fg" if a else "bg"] += 1
    return counts


def test_pair_marks_follow_the_definition():
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (2, 9, 12), p=[0.5, 0.2, 0.1, 0.2])
    marks = pair_marks(torch.from_numpy(labels), 4)
    for n in range(2):
        assert {k: int(v[n].sum()) for k, v in marks._asdict().items()} == all_pairs(labels[n], 4)


def gathered(features: torch.Tensor, radius: int) -> torch.Tensor:
    """Affinities by index tables and autograd, as in the releases."""
    (_, _, h, w), margin = features.shape, radius - 1
    cells = torch.arange(h * w).view(h, w)
    source = cells[: h - margin, margin : w - margin].flatten()
    flat = features.flatten(2)
    pairs = [torch.exp(-(flat[:, :, source] - flat[:, :, source + dy * w + dx]).abs().mean(1))
             for dy, dx in half_disc(radius)]  # fmt: skip
    return torch.stack(pairs, 1)


def test_shifted_views_equal_index_tables_in_value_and_gradient():
    torch.manual_seed(0)
    ours = torch.randn(2, 6, 11, 13, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    weights = torch.randn(2, 34, 7 * 5, dtype=torch.float64)
    a, b = pair_affinity(ours, 5).flatten(2), gathered(theirs, 5)
    torch.testing.assert_close(a, b)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def saved_floats(function, features: torch.Tensor) -> int:
    """Numbers that autograd keeps for the backward pass."""
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.numel()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        function(features, 5)
    return total


def test_backward_keeps_the_features_once():
    features = torch.randn(1, 64, 20, 20, requires_grad=True)
    assert saved_floats(pair_affinity, features) < 2 * features.numel()
    assert saved_floats(gathered, features) > 10 * features.numel()


def test_loss_by_hand():
    labels = torch.tensor([[[0, 0, 1, 255, 1]]], dtype=torch.uint8).expand(1, 3, 5).clone()
    labels[:, 1:] = 255  # radius 2 leaves the pairs (0,1), (1,-1), (1,0), (1,1) of the three inner cells of two rows
    marks = pair_marks(labels, 2)
    assert [int(m.sum()) for m in marks] == [0, 0, 1]
    affinity_ = torch.full((1, len(half_disc(2)), 2, 3), 0.25)
    terms = cross_entropy_terms(affinity_, pair_marks(labels, 2))
    assert terms["bg"] == terms["fg"] == 0
    assert terms["neg"].item() == pytest.approx(-math.log(0.75) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("spec", "stride"),
    [
        ({"name": "tiny"}, 8),
        ({"name": "tiny", "output_stride": 4}, 4),
        ({"name": "mobilenet_v2", "output_stride": 16}, 8),
        ({"name": "vgg16"}, 8),
    ],
    ids=lambda value: "_".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_features_of_every_kind_of_backbone(spec, stride):
    net = AffinityNet(build_backbone(spec), 5).eval()
    assert net.stride == stride
    with torch.no_grad():
        assert net(torch.randn(1, 3, 8 * 7 + 3, 8 * 9)).shape == (1, 448, -(-59 // stride), 72 // stride)
    assert any("gn8_3" in name for name in net.state_dict()) == (spec["name"] == "vgg16")


def test_new_layers_learn_faster_and_biases_do_not_decay():
    net = AffinityNet(build_backbone({"name": "vgg16", "freeze": ["conv1_1"]}), 5)
    weights, biases, new = net.parameter_groups("affinity")
    assert (new["lr_scale"], biases["lr_scale"], biases["decay_scale"]) == (10, 2, 0)
    assert len(new["params"]) == 4
    parameters = weights["params"] + biases["params"] + new["params"]
    assert {id(p) for p in parameters} == {id(p) for p in net.parameters() if p.requires_grad}
    assert len(parameters) == len({id(p) for p in parameters}) == len(list(net.parameters())) - 2


def toy(folder, n: int = 6) -> Dataset:
    """A bright square on dark ground, and CRF results that know it."""
    rng, records = np.random.default_rng(0), []
    with write_scores(folder / "crf.npz") as store:
        for i in range(n):
            image = rng.normal(60, 10, (72, 80, 3))
            top, left = rng.integers(4, 36, 2)
            image[top : top + 32, left : left + 32] += 120
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
            records.append(Record(str(i), f"{i}.png", None, ("train",), ("cat",), 80, 72, "", None))
            inside = np.zeros((72, 80))
            inside[top : top + 32, left : left + 32] = 1
            for alpha in CONFIG["crf"]["alphas"]:
                store.put(f"{i}@{alpha}", [0, 1], np.stack([1 - inside, inside]))
    return Dataset("toy", ["cat"], folder, records)


def test_training_separates_the_square_from_the_ground(tmp_path):
    images = toy(tmp_path)
    path = train("affinity", CONFIG, images, tmp_path / "out", scores=[tmp_path / "crf.npz"])
    net = affinity_net.load(CONFIG, path)
    samples = AffinitySamples(images, [tmp_path / "crf.npz"], CONFIG, net.stride, net.backbone.input)
    same, different = [], []
    for i in range(len(samples)):
        sample = samples.get(i, np.random.default_rng(i))
        with torch.no_grad():
            a = pair_affinity(net(sample["image"][None]), 3)
        marks = pair_marks(sample["label"][None], 3)
        same += a[marks.bg | marks.fg].tolist()
        different += a[marks.neg].tolist()
    assert np.mean(different) < np.mean(same) - 0.15  # 0.02 before training


def test_coarse_taps_stay_where_they_are_in_the_image(monkeypatch):
    """Features that are the x coordinates of their cells' centres; the width is no multiple of the coarse strides."""
    config = {**CONFIG, "backbone": {"name": "resnet18", "output_stride": 32}}
    net, width = affinity_net.build(config).eval(), 136
    strides, channels = net.backbone.strides, net.backbone.channels
    assert strides["conv4"] < strides["conv5"] < strides["conv6"]

    def coordinates(images: torch.Tensor) -> dict[str, torch.Tensor]:
        centres = {tap: (torch.arange(-(-width // stride)) + 0.5) * stride for tap, stride in strides.items()}
        return {tap: x.expand(1, channels[tap], len(x), len(x)) for tap, x in centres.items()}

    monkeypatch.setattr(net.backbone, "forward", coordinates)
    for name, tap, _, _ in affinity_net.HEADS:
        torch.nn.init.constant_(getattr(net, f"f{name}").weight, 1 / channels[tap])
    seen = []
    net.f9.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.zeros(1, 3, width, width))
    x = (torch.arange(seen[0].shape[-1]) + 0.5) * net.stride
    inside = (x > strides["conv6"] / 2) & (x < width - strides["conv6"] / 2)  # interpolated, not extrapolated
    assert inside.sum() > 2
    torch.testing.assert_close(seen[0][0, :, 0, inside], x[inside].expand(seen[0].shape[1], -1))


def test_official_files_are_read(tmp_path):
    net = affinity_net.build(CONFIG)
    export_weights(net, "psa", tmp_path / "aff.pth")
    read = affinity_net.build(CONFIG)
    import_weights(tmp_path / "aff.pth", read, "psa")
    for name, value in net.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name


def test_a_file_of_another_network_is_refused(tmp_path):
    other = affinity_net.build({**CONFIG, "backbone": {"name": "mobilenet_v2", "output_stride": 8}})
    torch.save(other.state_dict(), tmp_path / "model.pt")
    with pytest.raises(WsssError, match=r"model\.pt: not a model of this configuration \(AffinityNet on tiny\)"):
        affinity_net.load(CONFIG, tmp_path / "model.pt")


def test_what_is_missing_is_named_before_training(tmp_path):
    images = toy(tmp_path, 2)
    wrong = {**CONFIG, "affinity": {**CONFIG["affinity"], "high_alpha": 32}}
    with pytest.raises(WsssError, match=r"affinity.high_alpha: 32 is not in crf.alphas \(4, 24\)"):
        train("affinity", wrong, images, tmp_path / "out", scores=[tmp_path / "crf.npz"])
    more = Dataset("toy", ["cat"], tmp_path, [*images.records, Record("9", "9.png", None, (), (), 1, 1, "", None)])
    with pytest.raises(WsssError, match="no CRF result '9@4'"):
        train("affinity", CONFIG, more, tmp_path / "out", scores=[tmp_path / "crf.npz"])


def test_affinitynet_may_stand_on_another_network(tmp_path):
    torch.manual_seed(5)
    start = affinity_net.build(CONFIG)
    torch.save(start.backbone.state_dict(), tmp_path / "other.pth")
    again = {
        **CONFIG,
        "affinity": {**CONFIG["affinity"], "backbone": {"name": None, "weights": tmp_path / "other.pth"}},
    }
    found, own = affinity_net.build(again).backbone.state_dict(), start.backbone.state_dict()
    assert all(torch.equal(found[name], own[name]) for name in own)
    other = {"name": "resnet18", "weights": None, "freeze": None}
    config = {**CONFIG, "affinity": {**CONFIG["affinity"], "backbone": other}}
    net = affinity_net.build(config)
    assert net.f8_5.weight.shape[1] == net.backbone.channels["conv6"] == 512
    torch.save(net.state_dict(), tmp_path / "model.pt")
    assert torch.equal(affinity_net.load(config, tmp_path / "model.pt").f9.weight, net.f9.weight)
    with pytest.raises(WsssError, match=r"model\.pt: not a model of this configuration \(AffinityNet on tiny\)"):
        affinity_net.load(CONFIG, tmp_path / "model.pt")


def test_a_crop_without_pairs_is_refused(tmp_path):
    images, settings = toy(tmp_path, 1), CONFIG["affinity"]
    for crop, refused in ((32, True), (33, False)):
        config = {**CONFIG, "affinity": {**settings, "train": {**settings["train"], "crop": crop}}}
        if refused:
            with pytest.raises(WsssError, match=r"affinity\.train\.crop: 32 pixels hold no pairs; give 40"):
                AffinitySamples(images, [tmp_path / "crf.npz"], config, 8, "rgb")
        else:
            label = AffinitySamples(images, [tmp_path / "crf.npz"], config, 8, "rgb").get(0, np.random.default_rng(0))
            assert pair_marks(label["label"][None], clamp_radius(5, 5, 5)).bg.shape == (1, 4, 4, 3)


def test_scores_of_another_size_are_refused(tmp_path):
    images = toy(tmp_path, 2)
    Image.new("RGB", (40, 40)).save(tmp_path / "1.png")
    samples = AffinitySamples(images, [tmp_path / "crf.npz"], CONFIG, 8, "rgb")
    with pytest.raises(WsssError, match=r"image '1' is 40×40 pixels, .* 80×72"):
        samples.get(1, np.random.default_rng(0))
