"""One contract for every backbone of the registry, and what is special to some."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsss.backbones import BACKBONES, build
from wsss.backbones.base import TAPS
from wsss.errors import WsssError

SIZE = (61, 70)  # neither divides by any stride
OF_TIMM = ["timm:test_efficientnet", "timm:test_convnext"]  # ConvNeXt has no stride 2, and rounds sizes down
NAMES = [*sorted(name for name in BACKBONES if name != "timm"), *OF_TIMM]


@pytest.fixture(scope="module", params=NAMES)
def backbone(request):
    torch.manual_seed(0)
    return build({"name": request.param})


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_taps_have_the_promised_channels_and_strides(backbone, images):
    with torch.no_grad():
        taps = backbone.eval()(images)
    assert tuple(taps) == TAPS
    for tap, feature in taps.items():
        stride = backbone.strides[tap]
        assert feature.shape == (2, backbone.channels[tap], -(-SIZE[0] // stride), -(-SIZE[1] // stride)), tap
    assert backbone.stride == backbone.strides["conv6"]
    assert backbone.input in ("rgb", "vgg_bgr")


def test_frozen_parts_stay_frozen_and_the_rest_learns(backbone, images):
    first = next(name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    learning = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    unused = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    try:
        assert backbone.fix([first.removeprefix(backbone.prefix)], freeze_norm=True) is backbone
        assert backbone.train() is backbone
        assert backbone.train(True) is backbone
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        before = [norm.running_mean.clone() for norm in norms]
        backbone(images)["conv6"].square().mean().backward()
        frozen = {f"{first}.{name}" for name, _ in backbone.get_submodule(first).named_parameters()}
        norm_names = {name for name, module in backbone.named_modules() if module in set(norms)}
        for name, parameter in backbone.named_parameters():
            still = name in frozen | unused or name.rpartition(".")[0] in norm_names
            assert (parameter.grad is None) == still, name
        assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))
        assert not backbone.get_submodule(first).training
        assert backbone.training
    finally:
        backbone.zero_grad()
        for parameter in learning:
            parameter.requires_grad_(True)
        backbone.fix()


def test_statistics_only_leaves_the_affine_part_free(backbone):
    try:
        backbone.fix(freeze_norm="statistics").train()
        norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(not norm.training and norm.weight.requires_grad for norm in norms)
    finally:
        backbone.fix()


def test_unfrozen_norms_follow_train_and_eval(backbone):
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.training for norm in backbone.train() and norms)
    assert not any(norm.training for norm in backbone.eval() and norms)


def test_edit_sees_every_depth_and_replaces_the_feature(backbone, images):
    seen = []

    def keep(depth, feature):
        seen.append((depth, feature.shape[1]))
        return feature

    with torch.no_grad():
        plain, kept = backbone.eval()(images)["conv6"], backbone(images, edit=keep)["conv6"]
        assert torch.equal(plain, kept)
        assert [depth for depth, _ in seen] == list(range(len(seen)))
        assert seen[0] == (0, 3)
        for depth, _ in seen:
            halved = backbone(images, edit=lambda at, feature, depth=depth: feature / 2 if at == depth else feature)
            assert not torch.equal(plain, halved["conv6"]), depth


def test_saved_weights_build_the_same_network(backbone, images, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({f"backbone.{name}": value for name, value in backbone.state_dict().items()}, path)
    again = build({"name": backbone.name, "weights": str(path)})
    path.unlink()  # some of them are large, and pytest keeps folders
    with torch.no_grad():
        assert torch.equal(backbone.eval()(images)["conv6"], again.eval()(images)["conv6"])


def test_depths_of_resnet38d_are_the_masking_depths_of_occse():
    shapes = {}

    def record(depth, feature):
        shapes[depth] = tuple(feature.shape[1:])
        return feature

    with torch.device("meta"):
        build({"name": "resnet38d"})(torch.empty(1, 3, 64, 96), edit=record)
    channels = (3, 64, 128, 256, 512, 1024, 2048, 4096)
    strides = (1, 1, 2, 4, 8, 8, 8, 8)
    assert shapes == {d: (c, 64 // s, 96 // s) for d, (c, s) in enumerate(zip(channels, strides, strict=True))}


@pytest.mark.parametrize("spec", [
    {"name": "resnet18"}, {"name": "resnet50"}, {"name": "mobilenet_v2"}, {"name": "mobilenet_v2", "tf_padding": True},
    {"name": "timm:resnet18"}, {"name": "timm:test_efficientnet"},
])  # fmt: skip
@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_network_equals_the_strided_one_at_its_cells(spec, stride, images):
    torch.manual_seed(2)
    coarse = build({**spec, "output_stride": 32}).eval()
    fine = build({**spec, "output_stride": stride}).eval()
    fine.load_state_dict(coarse.state_dict())
    step = 32 // stride
    with torch.no_grad():
        expected, actual = coarse(images)["conv6"], fine(images)["conv6"]
    torch.testing.assert_close(actual[..., ::step, ::step], expected, rtol=1e-3, atol=1e-4)


def test_tiny_at_stride_4_equals_stride_8_at_its_cells(images):
    torch.manual_seed(2)
    coarse, fine = build({"name": "tiny"}).eval(), build({"name": "tiny", "output_stride": 4}).eval()
    fine.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        actual = fine(images)["conv6"]
        torch.testing.assert_close(actual[..., ::2, ::2], coarse(images)["conv6"], rtol=1e-4, atol=1e-5)


def test_tf_padding_adds_a_zero_only_right_and_below_even_sizes():
    torch.manual_seed(3)
    network = build({"name": "mobilenet_v2", "tf_padding": True, "output_stride": 32})
    conv = network.features[0][0]
    for size, pad in ((12, (0, 1, 0, 1)), (11, (1, 1, 1, 1))):
        x = torch.randn(1, 3, size, size)
        expected = nn.functional.conv2d(nn.functional.pad(x, pad), conv.weight, stride=2)
        torch.testing.assert_close(conv(x), expected)


def test_resnet_without_dilation_only_drops_the_stride():
    network = build({"name": "resnet50", "output_stride": 16, "dilate": False})
    convs = [module for module in network.layer4.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.stride == (1, 1) and conv.dilation == (1, 1) for conv in convs)
    assert network.layer3[0].conv2.stride == (2, 2)


def test_dropout_acts_in_training_only():
    x = torch.randn(1, 3, 32, 32)
    for name in ("tiny", "mobilenet_v2", "resnet18", "vgg16", *OF_TIMM):
        network = build({"name": name, "dropout": 0.5, "freeze_norm": True}).train()
        with torch.no_grad():
            assert not torch.equal(network(x)["conv6"], network(x)["conv6"]), name
            assert torch.equal(network.eval()(x)["conv6"], network(x)["conv6"]), name


def test_dropout_of_resnet38d_is_one_probability_per_bottleneck():
    with torch.device("meta"):
        networks = [build({"name": "resnet38d", "dropout": p}) for p in (None, 0.2, [0.1, 0.4])]
    assert [(n.b6.dropout_2b1.p, n.b7.dropout_2b2.p) for n in networks] == [(0.3, 0.5), (0.2, 0.2), (0.1, 0.4)]


@pytest.mark.parametrize(("spec", "words"), [
    ({}, ["backbone.name", "resnet38d"]),
    ({"name": "resnet37"}, ["resnet37", "resnet38d"]),
    ({"name": "tiny", "outputstride": 8}, ["backbone.outputstride", "output_stride"]),
    ({"name": "resnet18", "fc6_dilation": 4}, ["backbone.fc6_dilation", "resnet18"]),
    ({"name": "vgg16", "output_stride": 16}, ["backbone.output_stride", "vgg16", "16"]),
    ({"name": "tiny", "freeze": ["conv9"]}, ["backbone.freeze", "conv9", "tiny", "conv2"]),
    ({"name": "tiny", "freeze": [""]}, ["backbone.freeze", "''", "conv2"]),
    ({"name": "tiny", "freeze_norm": "affine"}, ["backbone.freeze_norm", "affine"]),
    ({"name": "tiny", "weights": "nowhere.pth"}, ["nowhere.pth"]),
    ({"name": "tiny", "dropout": 1.5}, ["backbone.dropout", "1.5"]),
    ({"name": "resnet38d", "dropout": [0.1, 0.2, 0.3]}, ["backbone.dropout"]),
])  # fmt: skip
def test_a_wrong_spec_is_one_clear_line(spec, words):
    with pytest.raises(WsssError) as error:
        build(spec)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
