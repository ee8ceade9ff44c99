"""Vision Transformers as backbones (their contract is in test_backbones), and ACR on one."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

from wsss.backbones import build
from wsss.methods import build as build_method
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings
from wsss.schedule import Progress

SMALL = "vit:test_vit"  # 6 blocks of 64 channels, made for images of 160 pixels


@pytest.fixture
def pair(tmp_path):
    """A ViT of timm, and ours with its weights, read from a file that has a classifier, too."""
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", pretrained=False, num_classes=7, dynamic_img_size=True).eval()
    torch.nn.init.normal_(theirs.pos_embed)
    torch.save({"model": theirs.state_dict()}, tmp_path / "deit.pth")
    return theirs, build({"name": SMALL, "weights": str(tmp_path / "deit.pth")}).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [(160, 160), (96, 176)])
def test_tokens_are_timms_also_where_the_position_embedding_is_interpolated(pair, size):
    theirs, ours = pair
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    taps = ours(x)
    grid = (size[0] // 16, size[1] // 16)
    expected = theirs.forward_features(x)[:, 1:].mT.unflatten(2, grid)
    torch.testing.assert_close(taps["conv6"], expected, rtol=1e-4, atol=1e-4)
    _, outputs = theirs.forward_intermediates(x, indices=[1, 2, 4], norm=False)
    for tap, output in zip(("conv3", "conv4", "conv5"), outputs, strict=True):
        torch.testing.assert_close(taps[tap], output, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_odd_sizes_are_filled_with_the_mean_colour(pair):
    _, ours = pair
    x = torch.randn(1, 3, 70, 91, generator=torch.Generator().manual_seed(2))
    assert ours(x)["conv6"].shape == (1, 64, 5, 6)
    assert torch.equal(ours(x)["conv6"], ours(F.pad(x, (0, 5, 0, 10)))["conv6"])


def test_the_class_token_of_one_pass_is_no_part_of_the_next(pair):
    _, ours = pair
    one, two = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        alone = ours(two)["conv6"]
        ours(one)
        assert torch.equal(ours(two)["conv6"], alone)


def test_deit_s_is_the_default():
    with torch.device("meta"):
        network = build({"name": "vit"})
    assert len(network.blocks) == 12
    assert network.channels["conv6"] == 384
    assert network.stride == 16
    names = set(timm.create_model("deit_small_patch16_224", pretrained=False, num_classes=0).state_dict())
    assert set(network.state_dict()) == names


@pytest.mark.parametrize(("spec", "words"), [
    ({"name": "vit:nothing"}, ["backbone.name", "vit:nothing", "no network of timm"]),
    ({"name": "vit:vit_tiny_r_s16_p8_224"}, ["backbone.name", "no plain ViT with patches of 16"]),
    ({"name": "vit:deit_tiny_distilled_patch16_224"}, ["backbone.name", "no plain ViT"]),
    ({"name": "vit", "output_stride": 8}, ["backbone.output_stride", "16", "8"]),
    ({"name": "tiny:big"}, ["backbone.variant", "tiny"]),
])  # fmt: skip
def test_a_wrong_spec_is_one_clear_line(spec, words, one_line):
    one_line(lambda: build(spec), *words)


@pytest.fixture
def acr():
    torch.manual_seed(0)
    over = {
        "backbone": {"name": SMALL, "dropout": None},
        "method": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]},
        "train": {"crop": 64},
    }
    return build_method(overlay(method_settings("acr"), Layer("test", over)), 5)


def test_acr_trains_both_networks_on_a_vit_and_localizes_odd_sizes(acr):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    batch = {"image": images, "labels": torch.eye(5)[[0, 3]], "id": ["a", "b"]}
    for phase in ("reconstructor", "classifier"):
        optimizer = torch.optim.SGD(
            [{"params": g["params"], "lr": 0.1 * g["lr_scale"]} for g in acr.parameter_groups(phase)]
        )
        losses = acr.losses(batch, phase, Progress(0, 10, 0, 40))
        assert {"cls", "t", "nt"} <= losses.keys()
        before = {name: p.detach().clone() for name, p in acr.named_parameters()}
        sum(losses.values()).backward()
        optimizer.step()
        moved = {name.split(".")[0] for name, p in acr.named_parameters() if not torch.equal(p, before[name])}
        assert moved == {phase}
        network = acr.get_submodule(phase).backbone
        assert network.cls_token.grad.abs().sum() > 0
        assert network.patch_embed.proj.weight.grad.abs().sum() > 0
        optimizer.zero_grad()
    with torch.no_grad():
        maps = acr.eval().localize(torch.randn(1, 3, 45, 62), torch.eye(5)[:1])
    assert maps.shape == (1, 5, 3, 4)
    assert maps.isfinite().all()
