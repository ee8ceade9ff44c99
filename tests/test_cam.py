"""CAM, Grad-CAM and Grad-CAM++ on small cases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from stages import TINY

from wsss.methods import cam
from wsss.plan.resolve import method_settings, stand_in

C, SIDE = 5, 64


def batch(size: int = 4) -> dict:
    generator = torch.Generator().manual_seed(7)
    labels = torch.eye(size, C)
    labels[0, 3] = 1  # two classes in one image
    return {"image": torch.randn(size, 3, SIDE, SIDE, generator=generator), "labels": labels}


def build(**method) -> cam.Cam:
    torch.manual_seed(0)
    config = stand_in(method_settings("cam"), {"resnet38d": TINY})
    config["method"] |= method
    return cam.Cam(config, C)


@pytest.fixture
def classifier():
    return build().eval()


def test_logits_are_the_pooled_class_maps(classifier):
    features = classifier.backbone(batch()["image"])["conv6"]
    assert torch.allclose(classifier.logits(features), classifier.class_maps(features).mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize(("start", "bound"), [("xavier", (6 / (C + 128)) ** 0.5), ("torch", 128**-0.5)])
def test_the_head_starts_as_xavier_or_as_torch_does(start, bound):
    """Both uniform, in different ranges (D4)."""
    weight = build(head_init=start).fc8.weight
    assert weight.shape[:2] == (C, 128)
    assert 0.9 * bound < weight.abs().max() <= bound


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


def test_power_roots_the_class_maps(classifier):
    rooted = build(power=0.5).eval()
    rooted.load_state_dict(classifier.state_dict())
    images, labels = batch()["image"], batch()["labels"]
    assert torch.allclose(rooted.localize(images, labels) ** 2, F.relu(classifier.localize(images, labels)), atol=1e-5)
