"""ReCAM: formulas worked by hand, what the second head's loss reaches, and where a training starts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from wsss.errors import WsssError
from wsss.methods.cam import Cam
from wsss.methods.recam import ReCam, class_features, single_label_loss, soft_masks
from wsss.plan.resolve import method_settings
from wsss.schedule import Progress
from wsss.train import start_from

C = 4
TINY = {"name": "tiny", "weights": None, "freeze_norm": False}
START = Progress(0, 100, 0, 4)


def recam(**method) -> ReCam:
    config = method_settings("recam")
    config = config | {"backbone": TINY, "method": config["method"] | method}
    torch.manual_seed(0)
    return ReCam(config, C)


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    return {"image": torch.randn(3, 3, 48, 40), "labels": labels, "id": ["a", "b", "c"]}


# ---- formulas


def test_soft_masks_worked_by_hand():
    maps = torch.tensor([[[[4.0, 2.0], [-1.0, 0.0]], [[-3.0, -2.0], [-1.0, -4.0]]]])  # 1 2 2 2
    masks = soft_masks(maps)
    assert masks[0, 0].flatten().tolist() == pytest.approx([1, 0.5, 0, 0], abs=1e-5)
    assert masks[0, 1].flatten().tolist() == [0, 0, 0, 0]  # a class that is nowhere has no mask


def test_class_features_worked_by_hand():
    features = torch.tensor([[[[8.0, 4.0], [2.0, 1.0]], [[0.0, -4.0], [8.0, 4.0]]]])  # 1 2 2 2
    masks = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])  # 1 3 2 2
    assert class_features(features, masks).tolist() == [[[2.5, -0.5], [0.25, 1.0], [0.0, 0.0]]]  # over 4 cells (D3)


def test_class_features_are_the_mean_of_the_masked_features():
    """The release builds B C D h w products (D6)."""
    torch.manual_seed(0)
    features, masks = torch.randn(2, 6, 3, 5), torch.rand(2, C, 3, 5)
    direct = (masks[:, :, None] * features[:, None]).mean((3, 4))
    assert torch.allclose(class_features(features, masks), direct, atol=1e-6)


def test_single_label_loss_worked_by_hand():
    weight = torch.eye(3)  # the features are the logits
    features = torch.zeros(3, 3, 3)
    features[0, 0] = torch.tensor([50.0, 0, 0])  # its own class: nothing to learn
    features[0, 2] = torch.tensor([0.0, 30, 0])  # taken for class 1
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    first, second, empty = (0 + 30) / 2, math.log(3), 0
    assert single_label_loss(features, labels, weight) == pytest.approx((first + second + empty) / 3)


def test_absent_classes_are_competitors_but_no_examples():
    torch.manual_seed(0)
    features, weight = torch.randn(1, 3, 5), torch.randn(3, 5)
    labels = torch.tensor([[0.0, 1, 0]])
    loss = single_label_loss(features, labels, weight)
    other = features.clone()
    other[0, [0, 2]] += 1
    assert torch.equal(single_label_loss(other, labels, weight), loss)
    assert not torch.equal(single_label_loss(features, labels, weight + torch.eye(3, 5)[[2, 0, 1]]), loss)


def test_a_batch_without_any_class_has_a_loss_of_zero_and_a_gradient():
    weight = torch.randn(3, 5, requires_grad=True)
    loss = single_label_loss(torch.randn(2, 3, 5), torch.zeros(2, 3), weight)
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()


# ---- the method


def test_losses_carry_their_weights(batch):
    one, other = recam().eval(), recam(loss_weights={"bce": 0.5, "sce": 0.1}).eval()
    first, second = (method.losses(batch, "classifier", START) for method in (one, other))
    assert second["bce"].item() == pytest.approx(0.5 * first["bce"].item())
    assert second["sce"].item() == pytest.approx(0.1 * first["sce"].item())


def test_the_logits_are_the_means_of_the_first_head_s_maps(batch):
    method = recam().eval()
    logits = method.fc8(method.backbone(batch["image"])["conv6"].mean((2, 3), keepdim=True)).flatten(1)
    expected = F.multilabel_soft_margin_loss(logits, batch["labels"])
    assert method.losses(batch, "classifier", START)["bce"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_second_loss_reaches_both_heads_and_the_network(batch):
    """Nothing is detached: the first head learns through the masks that its maps make (D2)."""
    method = recam().eval()
    method.fc8.weight.data.abs_()  # every class has a mask
    method.losses(batch, "classifier", START)["sce"].backward()
    assert method.predictor.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.backbone.parameters() if p.ndim > 1)
    reached = method.fc8.weight.grad.flatten(1).abs().sum(1) > 0
    assert reached.tolist() == [True, True, False, True]  # the masks of classes that an image has


def test_the_first_loss_leaves_the_second_head_alone(batch):
    method = recam()
    method.losses(batch, "classifier", START)["bce"].backward()
    assert method.predictor.weight.grad is None


def test_maps_are_of_the_head_that_is_shown(batch):
    maps = {}
    for shown in ("product", "classifier", "predictor"):
        method = recam(shown=shown).eval()
        features = method.backbone(batch["image"])["conv6"]
        maps[shown] = method.localize(batch["image"])
        w, v = method.fc8.weight[:, :, 0, 0], method.predictor.weight[:, :, 0, 0]
        weight = {"product": w * v, "classifier": w, "predictor": v}[shown]
        assert torch.allclose(maps[shown], torch.einsum("cd,bdhw->bchw", weight, features), atol=1e-5)
    assert not torch.allclose(maps["product"], maps["classifier"])


def test_the_new_head_learns_faster_than_what_is_trained():
    method = recam()
    rates = {id(p): g["lr_scale"] for g in method.parameter_groups("classifier") for p in g["params"]}
    assert rates.pop(id(method.predictor.weight)) == 10
    assert set(rates.values()) == {1}
    assert {group["lr_scale"] for group in recam(new_lr=1.0).parameter_groups("classifier")} == {1}


# ---- where a training starts


def classifier(path, classes: int = C) -> str:
    """What a training of ``cam`` on the same network writes."""
    torch.manual_seed(5)
    torch.save(Cam(method_settings("cam") | {"backbone": TINY}, classes).state_dict(), path)
    return str(path)


def test_it_starts_from_a_whole_classifier_and_keeps_its_own_second_head(tmp_path):
    method = recam()
    new = method.predictor.weight.clone()
    start_from(method, classifier(tmp_path / "model.pt"))
    held = torch.load(tmp_path / "model.pt", weights_only=True)
    own = method.state_dict()
    assert all(torch.equal(own[name], value) for name, value in held.items())
    assert torch.equal(own["predictor.weight"], new)


def test_it_starts_from_another_recam_with_all_of_it(tmp_path):
    first, second = recam(), recam()
    torch.nn.init.ones_(first.predictor.weight)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    start_from(second, str(tmp_path / "model.pt"))
    assert torch.equal(second.predictor.weight, first.predictor.weight)


def test_a_classifier_of_other_classes_is_a_one_line_error(tmp_path):
    with pytest.raises(WsssError, match=r"other.pt: not a model of this configuration .*'fc8.weight'"):
        start_from(recam(), classifier(tmp_path / "other.pt", classes=7))
