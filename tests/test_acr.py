"""ACR: decoder, losses and strategies on small cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from wsss.backbones.base import resize
from wsss.backbones.models import save_model
from wsss.errors import WsssError
from wsss.methods.acr import Acr, class_map, classifier_loss, draw_cells, draw_target, judged_maps, reconstructor_loss
from wsss.methods.unet import UNet
from wsss.plan import Plan
from wsss.plan.resolve import method_settings, stand_in
from wsss.plan.runs import Run
from wsss.schedule import Progress
from wsss.train import start_from

ROOT = Path(__file__).parent.parent
TINY = {"name": "tiny", "dropout": None, "weights": None, "freeze_norm": False}
C, SIDE = 4, 32


def build(backbone=TINY, crop=SIDE, start=None, **method) -> Acr:
    torch.manual_seed(0)
    config = stand_in(method_settings("acr"), {"resnet38d": backbone})
    config["method"] |= {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8], "hidden": 16, **method}
    config["train"] |= {"crop": crop, "start": start}
    return Acr(config, C)


def at(step: int, epoch: int = 0) -> Progress:
    return Progress(step, 90, epoch, 40)


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    return {"image": torch.randn(2, 3, SIDE, SIDE), "labels": labels, "id": ["a", "b"]}


# ---- decoder


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_decoder_keeps_the_size(depth):
    net = UNet(6, 3, depth, width=2)
    assert net(torch.randn(1, 6, 32, 64)).shape == (1, 3, 32, 64)
    assert len([name for name, _ in net.named_children() if name.startswith("down")]) == depth


def test_released_decoder_has_its_size():
    with torch.device("meta"):
        net = UNet(448)
    assert sum(p.numel() for p in net.parameters()) == 54_857_091  # 54.86 M, as released


def test_decoder_names_the_key_when_the_size_does_not_fit():
    with pytest.raises(WsssError, match=r"method\.unet_depth: 3 halvings need sides .* multiples of 8, not 32×36"):
        UNet(6, 3, 3, 2)(torch.randn(1, 6, 32, 36))
    with pytest.raises(WsssError, match=r"train\.crop: .* 36 must be a multiple of 8"):
        build(crop=36)


# ---- draws and maps


def test_targets_are_present_classes_uniformly():
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, 0, 0, 1]]).expand(4000, -1)
    target = draw_target(labels)
    assert set(target.tolist()) == {0, 3}
    assert (target == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_cells_have_their_share():
    torch.manual_seed(0)
    cells = draw_cells(20, 16, 0.3, "cpu")
    assert cells.shape == (20, 1, 16, 16)
    assert cells.mean().item() == pytest.approx(0.3, abs=0.03)
    assert draw_cells(1, 16, 1.0, "cpu").min() == 1


def test_class_map_of_an_absent_class_is_zero():
    cam = torch.randn(2, C, 4, 4)
    labels = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    c_t = class_map(cam, labels, torch.tensor([0, 0]), (8, 8))
    assert c_t.shape == (2, 1, 8, 8)
    assert 0 <= c_t.min() < c_t[0].max() <= 1
    assert c_t[1].max() == 0


def test_judged_maps_by_hand():
    cam = torch.tensor([[[[3.0, 1.0]], [[2.0, 2.0]]]])  # class 0 wins the left cell
    c_t = torch.tensor([[[[0.75, 0.0]]]])
    e_t, e_nt = judged_maps(cam, c_t, torch.tensor([0]))
    assert e_t.flatten().tolist() == [0, 1]
    assert e_nt.flatten().tolist() == [0.75, 0]
    assert judged_maps(cam, c_t, torch.tensor([1]))[1].flatten().tolist() == [0, 0]


# ---- losses


RECON = {"cls": 1.0, "full": 1.0, "t": 1.0, "nt": 1.0, "min_fed": 2}


def test_reconstructor_loss_by_hand():
    """A decoder that shows what it is fed: what is hidden is lost there."""
    images = torch.ones(1, 3, 2, 2)
    c_t = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    g = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    losses = reconstructor_loss(images, torch.zeros(1, C), torch.zeros(1, C), images, lambda x: x, c_t, g, RECON)
    assert losses["full"].item() == 0
    assert losses["t"].item() == pytest.approx((1 * 1 + 0.5 * 0.5) / 4)  # error u, weight u
    assert losses["nt"].item() == pytest.approx((0.5 * 0.5 + 1 * 1) / 4)  # v = 0, .5, 1, 0


def test_an_image_that_feeds_nothing_is_left_out():
    images = torch.ones(2, 3, 2, 2)
    c_t, g = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)]), torch.ones(2, 1, 2, 2)
    arguments = torch.zeros(2, C), torch.zeros(2, C), images, lambda x: 0 * x
    assert reconstructor_loss(images, *arguments, c_t, g, RECON)["t"].item() == 0  # the other has u = 0
    assert reconstructor_loss(images, *arguments, c_t, g, {**RECON, "min_fed": -1})["t"].item() == 0.5
    none = reconstructor_loss(images, *arguments, torch.ones_like(c_t), g, RECON)["t"]
    assert none.item() == 0


def test_whole_reconstruction_trains_the_decoder_alone():
    features = torch.randn(1, 3, 4, 4, requires_grad=True)
    shift = torch.tensor(0.1, requires_grad=True)
    images, c_t = torch.randn(1, 3, 4, 4), torch.rand(1, 1, 4, 4)
    zeros = torch.zeros(1, C)
    losses = reconstructor_loss(images, zeros, zeros, features, lambda x: x + shift, c_t, torch.ones_like(c_t), RECON)
    assert torch.autograd.grad(losses["full"], features, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(losses["full"], shift, retain_graph=True)[0] != 0
    assert torch.autograd.grad(losses["t"], features)[0].abs().sum() > 0


def test_classifier_opposes_reconstruction():
    """The better the reconstruction outside the class map, the higher the loss; terms of weight 0 are not made."""
    torch.manual_seed(0)
    images, cam = torch.randn(2, 3, 8, 8), torch.randn(2, C, 4, 4, requires_grad=True)
    labels, target = torch.ones(2, C), torch.tensor([0, 2])
    common = images, torch.zeros(2, C), labels, cam, target, images
    w = {"cls": 1.0, "t": 0.8, "nt": 0.3}
    good = classifier_loss(*common, lambda x: images, w)
    bad = classifier_loss(*common, lambda x: images + 1, w)
    assert good["t"].item() == good["nt"].item() == 0
    assert bad["t"].item() < 0
    assert bad["nt"].item() < 0
    assert set(classifier_loss(*common, lambda x: x, {**w, "t": 0})) == {"cls", "nt"}
    assert set(classifier_loss(*common, lambda x: x, {**w, "t": 0, "nt": 0})) == {"cls"}
    losses = classifier_loss(*common, lambda x: F.avg_pool2d(x, 3, 1, 1), w)  # it sees beyond the pixel
    assert torch.autograd.grad(losses["t"], cam)[0].abs().sum() > 0


# ---- phases


def trained(acr: Acr, batch: dict, phase: str, progress: Progress) -> set[str]:
    sum(acr.losses(batch, phase, progress).values()).backward()
    return {name.partition(".")[0] for name, p in acr.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("phase", ["reconstructor", "classifier"])
def test_each_phase_trains_its_network(batch, phase):
    acr = build().train()
    assert acr.active_phases(at(0)) == ("reconstructor", "classifier")
    assert trained(acr, batch, phase, at(0)) == {phase}
    assert all(p.requires_grad for p in acr.parameters())
    assert all(m.training for m in acr.modules())


def test_both_phases_of_a_step_draw_the_same_class(batch, monkeypatch):
    drawn = []
    monkeypatch.setattr("wsss.methods.acr.draw_target", lambda *a: drawn.append(draw_target(*a)) or drawn[-1])
    acr = build()
    batch = {**batch, "labels": torch.ones(2, C)}
    for step in range(8):
        torch.manual_seed(step)  # as the loop does
        acr.losses(batch, "reconstructor", at(step))
        acr.losses(batch, "classifier", at(step))
    assert all(torch.equal(a, b) for a, b in zip(drawn[::2], drawn[1::2], strict=True))
    assert len({tuple(d.tolist()) for d in drawn}) > 1


def test_hidden_share_grows_with_the_epoch(batch, monkeypatch):
    shares = []
    monkeypatch.setattr("wsss.methods.acr.draw_cells", lambda *a: shares.append(a[2]) or draw_cells(*a))
    acr = build(srf={"grid": 4, "share": 0.2, "per_epoch": 0.01})
    for epoch in (0, 30):
        acr.losses(batch, "reconstructor", at(0, epoch))
    assert shares == [pytest.approx(0.2), pytest.approx(0.5)]
    build(srf=None).losses(batch, "reconstructor", at(0))
    assert len(shares) == 2


@pytest.mark.parametrize("phase", ["reconstructor", "classifier"])
def test_a_strategy_of_one_network_leaves_the_other_as_it_is(batch, phase):
    acr = build(start="run:other", strategy=phase).train()
    assert acr.phases == acr.active_phases(at(0)) == (phase,)
    assert trained(acr, batch, phase, at(0)) == {phase}


def test_a_strategy_of_one_network_needs_the_other_trained():
    with pytest.raises(WsssError, match=r"train\.start: method\.strategy 'classifier' freezes the other network"):
        build(strategy="classifier")


def test_the_pretrained_strategy_is_three_trainings_one_on_the_other(tmp_path):
    """The classifier alone, the reconstructor on it, the classifier against that: each from the one before."""
    alone = build(classifier={"cls": 1.0, "t": 0.0, "nt": 0.0})
    save_model(alone, tmp_path / "alone.pt")
    second = build(start="alone", strategy="reconstructor")
    start_from(second, tmp_path / "alone.pt")
    for name, value in alone.classifier.state_dict().items():
        torch.testing.assert_close(second.classifier.state_dict()[name], value)
    save_model(second, tmp_path / "second.pt")
    third = build(start="second", strategy="classifier", hidden=16)
    start_from(third, tmp_path / "second.pt")
    for name, value in second.state_dict().items():
        torch.testing.assert_close(third.state_dict()[name], value)


def test_the_rows_of_the_poster_have_three_whole_schedules():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    plan = Plan(config, ROOT / "workflow" / "papers")
    for srf in ("", "_srf"):
        runs = ["baseline", f"reconstructor{srf}", f"pretrained{srf}"]
        settings = [plan.resolve(Run("voc12", "acr", run))["train"] for run in runs]
        assert [one["epochs"] for one in settings] == [40, 40, 40]
        assert [one["steps"] for one in settings] == [None, None, None]
        assert [one["start"] for one in settings] == [None, "run:acr/baseline", f"run:acr/reconstructor{srf}"]


def test_baseline_has_no_reconstructor(batch):
    acr = build(classifier={"cls": 1.0, "t": 0.0, "nt": 0.0})
    assert acr.phases == ("classifier",)
    assert not any("reconstructor" in name for name in acr.state_dict())
    assert set(acr.losses(batch, "classifier", at(0))) == {"cls"}


def test_transposed_convolutions_learn_ten_times_faster():
    acr = build()
    rates = {id(p): g["lr_scale"] for g in acr.parameter_groups("reconstructor") for p in g["params"]}
    decoder = acr.reconstructor.genUnet
    assert rates[id(decoder.up1.model[0].weight)] == 10
    assert rates[id(decoder.down1.model[0].weight)] == 1
    assert rates[id(decoder.final[1].bias)] == 2


def test_taps_of_different_resolution_are_joined_at_the_finest(batch):
    acr = build({**TINY, "name": "mobilenet_v2", "output_stride": 16})
    taps = acr.reconstructor.backbone(batch["image"])
    features = acr.reconstructor.features(taps)
    assert features.shape == (2, 16, SIDE // 8, SIDE // 8)
    torch.testing.assert_close(features[:, 8:], resize(acr.reconstructor.fc_recon(taps["conv6"]), (4, 4)))


def test_classifier_is_the_backbone_that_localizes(batch):
    acr = build().eval()
    assert acr.backbone is acr.classifier.backbone
    with torch.no_grad():
        maps, (_, logits) = acr.localize(batch["image"], batch["labels"]), acr.classifier(batch["image"])
    torch.testing.assert_close(maps.mean((2, 3)), logits)
