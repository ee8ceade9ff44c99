"""OC-CSE: formulas worked by hand, and what the frozen ordinary classifier may and may not do."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from wsss import backbones
from wsss.data.transforms import normalise
from wsss.errors import WsssError
from wsss.methods import build
from wsss.methods.occse import convert, erased_logits, erasing_loss, erasing_mask, sample_target
from wsss.plan.resolve import method_settings
from wsss.schedule import Progress

C = 4
TINY = {"name": "tiny", "weights": None, "freeze_norm": False}
START = Progress(0, 100, 0, 15)


def classifier_file(path, spec: dict = TINY, prefix: str = "backbone.", classes: int = C) -> str:
    """Weights of a classifier as training ``cam`` writes them; without the prefix, as PSA does."""
    torch.manual_seed(5)
    backbone = backbones.build(spec)
    state = {prefix + name: value for name, value in backbone.state_dict().items()}
    state["fc8.weight"] = torch.randn(classes, backbone.channels["conv6"], 1, 1) * 0.1
    torch.save(state, path)
    return str(path)


def occse(weights: str, **method):
    config = method_settings("occse")
    ordinary = {"backbone": method.pop("ordinary_backbone", TINY), "weights": weights}
    config = config | {"backbone": TINY, "method": config["method"] | {"ordinary": ordinary} | method}
    torch.manual_seed(0)
    return build(config, C)


@pytest.fixture
def weights(tmp_path) -> str:
    return classifier_file(tmp_path / "cam.pt")


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 1, 1, 1]])
    return {"image": torch.randn(3, 3, 48, 40), "labels": labels, "id": ["a", "b", "c"]}


# ---- formulas


def test_the_target_is_one_present_class_and_each_is_drawn_alike():
    torch.manual_seed(0)
    labels = (torch.rand(64, 20) < 0.15).float()
    labels[labels.sum(1) == 0, 7] = 1
    for _ in range(20):
        target = sample_target(labels)
        assert target.shape == (64,)
        assert (labels.gather(1, target[:, None]) == 1).all()
    counts = sample_target(torch.tensor([[0.0, 1, 0, 1, 1]]).repeat(3000, 1)).bincount(minlength=5)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert all(abs(int(n) - 1000) < 150 for n in counts[[1, 3, 4]])


def test_mask_worked_by_hand():
    cam = torch.tensor([[9.0, 2.0], [4.0, -1.0]]).view(2, 2, 1, 1)  # targets' maps: 2 and 4
    target = torch.tensor([1, 0])
    shared = erasing_mask(cam, target, (1, 1))
    assert shared.shape == (2, 1, 1, 1)
    assert shared.flatten().tolist() == pytest.approx([2 / 4, 1], abs=1e-5)
    assert erasing_mask(cam, target, (1, 1), "image").flatten().tolist() == pytest.approx([1, 1], abs=1e-5)
    assert erasing_mask(cam, torch.tensor([1, 1]), (1, 1)).flatten().tolist() == pytest.approx([1, 0], abs=1e-5)


def test_a_class_that_is_nowhere_erases_nothing():
    assert torch.equal(erasing_mask(-torch.rand(2, 3, 4, 4), torch.tensor([0, 2]), (9, 9)), torch.zeros(2, 1, 9, 9))


def test_mask_lies_in_the_unit_interval_and_its_maximum_is_the_batch_s():
    torch.manual_seed(0)
    cam = torch.randn(5, 3, 6, 7) * torch.tensor([1.0, 2, 30, 4, 5]).view(5, 1, 1, 1)
    m = erasing_mask(cam, torch.tensor([0, 1, 2, 1, 0]), (48, 56))
    assert m.shape == (5, 1, 48, 56)
    assert m.min() >= 0
    assert 0.99 < m.amax((1, 2, 3))[2] < 1
    assert (m.amax((1, 2, 3))[[0, 1, 3, 4]] < 0.9).all()


def test_erasing_loss_worked_by_hand():
    labels, target = torch.tensor([[1.0, 1, 0]]), torch.tensor([1])
    gone_and_kept = torch.tensor([[50.0, -50, -50]])  # the target unseen, the other class seen: nothing to learn
    assert erasing_loss(gone_and_kept, labels, target) == pytest.approx(0, abs=1e-6)
    still_there = torch.tensor([[50.0, 30, -50]])
    assert erasing_loss(still_there, labels, target) == pytest.approx(30 / 3)
    both_gone = torch.tensor([[-60.0, -50, -50]])
    assert erasing_loss(both_gone, labels, target) == pytest.approx(60 / 3)
    assert erasing_loss(torch.zeros(1, 3), labels, target) == pytest.approx(math.log(2))
    assert labels.tolist() == [[1, 1, 0]]


def test_masking_happens_at_one_depth_with_a_mask_of_that_size():
    cam, images = torch.rand(2, C, 4, 5), torch.rand(2, 3, 32, 40)
    sizes = {0: (32, 40), 1: (16, 20), 2: (4, 5)}
    for depth in sizes:
        kept = {}

        def ordinary(x, edit, kept=kept):
            for at, size in sizes.items():
                kept[at] = edit(at, torch.ones(2, 3, *size))
            return kept

        target = torch.tensor([3, 1])
        erased_logits(images, cam, target, ordinary, depth)
        for at, feature in kept.items():
            expected = 1 - erasing_mask(cam, target, sizes[at]) if at == depth else torch.ones(1)
            assert torch.equal(feature, expected.expand_as(feature))


@pytest.mark.parametrize(("source", "target"), [("rgb", "vgg_bgr"), ("vgg_bgr", "rgb"), ("rgb", "rgb")])
def test_pixels_convert_as_the_loader_makes_them(source, target):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    there, here = (torch.from_numpy(as_chw(normalise(image, kind)))[None] for kind in (source, target))
    assert torch.allclose(convert(there, source, target), here, atol=1e-4)


def as_chw(image: np.ndarray) -> np.ndarray:
    """``normalise`` is free to give either layout."""
    return image if image.shape[0] == 3 else np.ascontiguousarray(image.transpose(2, 0, 1))


# ---- the method


def test_weight_of_the_erasing_loss_rises_by_epoch(weights, batch):
    method = occse(weights).eval()
    assert [method.erase_weight(epoch) for epoch in (0, 1, 14)] == pytest.approx([0.3, 0.35, 1.0])
    target = torch.tensor([0, 1, 2])
    first, last = (method.terms(batch["image"], batch["labels"], target, epoch) for epoch in (0, 14))
    assert float((last["erase"] / first["erase"]).detach()) == pytest.approx(1 / 0.3, rel=1e-5)
    assert torch.equal(first["cls"], last["cls"])


def test_the_ordinary_classifier_stays_as_it_is(weights, batch):
    method = occse(weights)
    before = copy.deepcopy(method.ordinary.state_dict())
    method.train()
    assert method.backbone.training
    assert not any(module.training for module in method.ordinary.modules())
    groups = method.parameter_groups("classifier")
    optimizer = torch.optim.SGD([p for group in groups for p in group["params"]], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(method.losses(batch, "classifier", START).values()).backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in method.ordinary.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.ordinary.state_dict().items())
    assert method.fc8.weight.grad.abs().sum() > 0


def test_the_erasing_loss_trains_the_target_s_map_and_no_other(weights, batch):
    method = occse(weights).eval()
    erase = method.terms(batch["image"], batch["labels"], torch.tensor([0, 1, 1]), 0)["erase"]
    gradient = torch.autograd.grad(erase, method.fc8.weight)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [True, True, False, False]


def test_the_classifier_reads_files_of_this_project_and_of_psa(weights, tmp_path, batch):
    official = classifier_file(tmp_path / "res38_cls.pth", prefix="")
    ours, theirs = (occse(path).ordinary(batch["image"]) for path in (weights, official))
    assert torch.equal(ours, theirs)


def test_every_masking_depth_masks(weights, batch):
    """The unmasked logits differ from all others, which differ among each other."""
    target, logits = torch.tensor([3, 1, 2]), []
    for depth in range(6):
        method = occse(weights, masking_depth=depth).eval()
        cam = torch.rand(3, C, 6, 5, generator=torch.Generator().manual_seed(2))
        logits.append(erased_logits(batch["image"], cam, target, method.ordinary, depth))
    logits.append(method.ordinary(batch["image"]))
    assert all(not torch.allclose(a, b) for i, a in enumerate(logits) for b in logits[:i])


def test_a_classifier_with_other_pixels_and_another_stride(tmp_path, batch):
    spec = {"name": "vgg16", "freeze_norm": True}
    method = occse(classifier_file(tmp_path / "vgg.pt", spec), ordinary_backbone=spec)
    losses = method.losses(batch, "classifier", START)
    assert losses.keys() == {"cls", "erase"}
    sum(losses.values()).backward()
    assert method.fc8.weight.grad.isfinite().all()
    direct = method.ordinary.backbone(convert(batch["image"], "rgb", "vgg_bgr"))["conv6"]
    assert torch.allclose(method.ordinary(batch["image"]), method.ordinary.fc8(direct).mean((2, 3)), atol=1e-5)


def test_new_layers_learn_at_the_rate_of_the_backbone(weights):
    assert {group["lr_scale"] for group in occse(weights).parameter_groups("classifier")} == {1}
    ten = occse(weights, new_lr=10.0).parameter_groups("classifier")
    assert [len(group["params"]) for group in ten if group["lr_scale"] == 10] == [1]


def test_bad_settings_are_one_line_errors(weights, tmp_path):
    with pytest.raises(WsssError, match=r"method.ordinary.weights: name a trained classifier"):
        occse("").parameter_groups("classifier")
    with pytest.raises(WsssError, match=r"method.masking_depth: this ordinary classifier has 0 to 5, not 9"):
        occse(weights, masking_depth=9)
    with pytest.raises(WsssError, match=r"other.pt: 'fc8.weight' is 7×128×1×1 in the file but 4×128×1×1 here"):
        occse(classifier_file(tmp_path / "other.pt", classes=7))
