"""Official weights: names of every network, both directions, reports and errors."""

from __future__ import annotations

import re
import shutil
from collections import OrderedDict
from pathlib import Path

import golden
import pytest
import torch
import yaml
from torch import nn

import wsss.methods
from wsss.backbones import build, export_weights, import_weights, load_backbone
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import official_names
from wsss.refine.irn_net import IRNet


@pytest.fixture(autouse=True)
def _sweep(tmp_path):
    """Weight files are large, and pytest keeps folders."""
    yield
    shutil.rmtree(tmp_path)


def attach(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Give ``module`` a parameter ``a.b.c``, making the modules on the way."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_parameter(leaf, nn.Parameter(torch.empty(shape)))


def network(backbone: str, heads: dict[str, tuple[int, ...]], **options) -> nn.Module:
    """A module laid out like our methods: ``backbone`` and the heads beside it."""
    module = nn.Module()
    module.backbone = build({"name": backbone, **options})
    for name, shape in heads.items():
        attach(module, name, shape)
    return module


def fill(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator))
    return module


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


PARTS = ("localizer", "adversarial")  # of EADER's checkpoint

# Official structures. The layout is checked on the meta device, which has shapes but no memory.


def released(method: str) -> nn.Module:
    """A method with its released settings and 20 classes, without memory."""
    folder = Path(wsss.methods.__file__).parent
    config = yaml.safe_load((folder / f"{method}.yaml").read_text())
    config["method"]["name"] = method
    config.setdefault("train", {}).setdefault("start", None)
    with torch.device("meta"):
        return wsss.methods.build(config, 20)


@pytest.mark.parametrize(("method", "kind", "networks"), [
    ("cam", "psa", {"": "psa_resnet38_cls"}),
    ("seam", "seam", {"": "seam_forward"}),
    ("aeft", "aeft", {"": "aeft/net_main(Net_gpp)"}),
    ("acr", "acr", {"": "acr/net_main", " ": "acr/net_recon"}),
    ("eader", "eader", {"localizer.": "eader/localizer/resnet101", "adversarial.": "eader/adversarial/resnet18"}),
])  # fmt: skip
def test_methods_map_to_the_official_names(method, kind, networks):
    module, naming = released(method), KINDS[kind]
    ours = {official: module.state_dict()[own] for official, own in official_names(module, naming).items()}
    keys = {prefix.strip() + key: s for prefix, name in networks.items() for key, s in golden.shapes(name).items()}
    needed = {key: shape for key, shape in keys.items() if not re.match(naming.redundant, key)}
    assert {official: tuple(value.shape) for official, value in ours.items()} == needed

    packed = naming.pack(ours)  # what an exported file holds has all official entries, the unused ones, too
    parts = {"": packed.get("state_dict", packed)} if kind != "eader" else {f"{p}.": packed[p] for p in PARTS}
    assert {prefix + key: tuple(v.shape) for prefix, part in parts.items() for key, v in part.items()} == keys


@pytest.mark.parametrize(("name", "backbone", "heads"), [
    ("psa_affinity", "resnet38d", ("f8_", "f9.")),
    ("psa_vgg16_cls", "vgg16", ("fc8.",)),
    ("psa_vgg16_aff", "vgg16", ("f8_", "gn8_", "f9.")),
    ("occse/net_er", "resnet38d", ("fc8.",)),
])  # fmt: skip
def test_plain_networks_map_to_the_official_names(name, backbone, heads):
    keys = golden.shapes(name)
    with torch.device("meta"):
        module = network(backbone, {key: shape for key, shape in keys.items() if key.startswith(heads)})
    ours = official_names(module, KINDS["psa"])
    assert {official: tuple(module.state_dict()[own].shape) for official, own in ours.items()} == keys


def irn_cam(seed: int) -> nn.Module:
    keys = golden.shapes("irn_cam")
    return fill(network("resnet50", {"fc8.weight": keys["classifier.weight"]}, output_stride=16, dilate=False), seed)


def irn(seed: int) -> nn.Module:
    backbone = build({"name": "resnet50", "output_stride": 16, "dilate": False})
    return fill(IRNet(backbone, {"radius": 10, "dp_lr_scale": 10.0}), seed)


@pytest.mark.parametrize(("kind", "make", "name"), [("irn_cam", irn_cam, "irn_cam"), ("irn", irn, "irn_edge_dp")])
def test_irn_files_repeat_tensors_under_several_names(kind, make, name, tmp_path):
    source, target = make(1), make(2)
    export_weights(source, kind, tmp_path / "official.pth")
    state = torch.load(tmp_path / "official.pth", weights_only=True)
    assert {key: tuple(value.shape) for key, value in state.items()} == golden.shapes(name)
    assert len({value.untyped_storage().data_ptr() for value in state.values()}) == len(source.state_dict())

    training_only = {"path_indices0": torch.zeros(2, 2, 5, dtype=torch.long), "disp_target": torch.zeros(1, 2, 9, 1)}
    torch.save(state | training_only, tmp_path / "trained.pth")
    report = import_weights(tmp_path / "trained.pth", target, kind)
    assert (report.missing, report.unexpected) == ([], [])
    assert same(source, target)
    assert load_backbone(build({"name": "resnet50"}), tmp_path / "trained.pth").missing == []


def eader(seed: int) -> nn.Module:
    module = network("resnet18", {"fc.weight": (20, 512), "fc.bias": (20,)})
    module.adversary = network("resnet18", {"fc.weight": (20, 512), "fc.bias": (20,)})
    return fill(module, seed)


@pytest.mark.parametrize("zipped", [True, False])
def test_eader_checkpoint_with_optimizer_state(tmp_path, zipped):
    localizer, adversary = golden.shapes("eader/localizer/resnet18"), golden.shapes("eader/adversarial/resnet18")
    module, target = eader(1), eader(2)
    path = tmp_path / "checkpoint.pth.tar"
    export_weights(module, "eader", path)
    parts = torch.load(path, weights_only=True)
    for part, keys in (("localizer", localizer), ("adversarial", adversary)):
        assert {key: tuple(value.shape) for key, value in parts[part].items()} == keys
        optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
        parts[f"{part}_optimizer"] = optimizer
    torch.save(parts, path, _use_new_zipfile_serialization=zipped)

    report = import_weights(path, target, "eader")
    assert (report.missing, report.unexpected) == ([], [])
    assert same(target, module)
    assert same(build({"name": "resnet18", "weights": str(path)}), module.backbone)


def test_acr_checkpoint_roundtrip(tmp_path):
    def acr(seed):
        module = nn.Module()
        module.classifier = network("tiny", {"fc9.weight": (20, 8, 1, 1)})
        module.reconstructor = network("tiny", {"genUnet.up.weight": (4, 4), "fc9.weight": (20, 8, 1, 1)})
        return fill(module, seed)

    source, target = acr(1), acr(2)
    export_weights(source, "acr", tmp_path / "epoch=9.ckpt")
    state = torch.load(tmp_path / "epoch=9.ckpt", weights_only=True)["state_dict"]
    parts = [{n.removeprefix(p) for n in state if n.startswith(p)} for p in ("net_main.", "net_recon.")]
    assert parts[0] == parts[1]  # both official networks are of one class
    report = import_weights(tmp_path / "epoch=9.ckpt", target, "acr")
    assert (report.missing, report.unexpected) == ([], [])
    assert same(source, target)
    backbone = build({"name": "tiny", "weights": tmp_path / "epoch=9.ckpt"})
    assert same(backbone, source.classifier.backbone)


@pytest.mark.parametrize("kind", ["psa", "seam", "occse", "aeft"])
def test_single_network_roundtrip_leaves_a_second_network_alone(kind, tmp_path):
    def method(seed):
        module = network("tiny", {"fc8.weight": (20, 128, 1, 1)})
        module.ordinary = network("tiny", {"fc8.weight": (20, 128, 1, 1)})
        return fill(module, seed)

    source, target = method(1), method(2)
    ordinary = {name: value.clone() for name, value in target.ordinary.state_dict().items()}
    export_weights(source, kind, tmp_path / "official.pth")
    state = torch.load(tmp_path / "official.pth", weights_only=True)
    assert "fc8.weight" in state
    assert ("bn8.running_var" in state) == (kind == "aeft")
    assert not any(name.startswith(("backbone.", "ordinary.")) for name in state)
    assert import_weights(tmp_path / "official.pth", target, kind).missing == []
    assert torch.equal(target.fc8.weight, source.fc8.weight)
    assert same(target.backbone, source.backbone)
    assert all(torch.equal(value, ordinary[name]) for name, value in target.ordinary.state_dict().items())


def test_exporting_twice_gives_the_same_bytes(tmp_path):
    module = fill(network("tiny", {"fc8.weight": (3, 128, 1, 1)}), 1)
    for name in ("one.pth", "two.pth"):
        export_weights(module, "psa", tmp_path / name)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()


# Reports and errors


def test_old_files_without_counters_and_wrapper_prefixes(tmp_path):
    source = fill(build({"name": "tiny"}), 1)
    state = {f"module.{k}": v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(OrderedDict(state), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    target = fill(build({"name": "tiny"}), 2)
    report = load_backbone(target, tmp_path / "old.pth")
    assert report.missing
    assert all(name.endswith("num_batches_tracked") for name in report.missing)
    assert same(source, target)


def test_heads_in_a_backbone_file_are_reported_as_unused(tmp_path):
    state = build({"name": "mobilenet_v2"}).state_dict() | {"classifier.1.weight": torch.zeros(1000, 1280)}
    torch.save(state, tmp_path / "imagenet.pth")
    report = load_backbone(build({"name": "mobilenet_v2"}), tmp_path / "imagenet.pth")
    assert report.unexpected == ["classifier.1.weight"]


def test_a_file_of_another_backbone_is_one_line(tmp_path, one_line):
    path = tmp_path / "resnet18.pth"
    torch.save(build({"name": "resnet18"}).state_dict(), path)
    one_line(
        lambda: build({"name": "tiny", "weights": path}), str(path), "not weights of this network", "conv2.0.weight"
    )
    one_line(lambda: import_weights(path, build({"name": "tiny"}), "res38"), "res38", "seam")


def test_a_missing_tensor_and_another_shape_are_named(tmp_path, one_line):
    path = tmp_path / "cls.pth"
    state = dict(build({"name": "tiny"}).state_dict())
    torch.save(state | {"fc8.weight": torch.zeros(20, 128, 1, 1)}, path)
    target = fill(network("tiny", {"fc8.weight": (21, 128, 1, 1)}), 0)
    untouched = {name: value.clone() for name, value in target.state_dict().items()}
    one_line(lambda: import_weights(path, target, "seam"), str(path), "fc8.weight", "20×128×1×1", "21×128×1×1")
    assert all(torch.equal(value, untouched[name]) for name, value in target.state_dict().items())
    target = network("tiny", {"fc8.weight": (20, 128, 1, 1), "f9.weight": (4, 4, 1, 1)})
    one_line(lambda: import_weights(path, target, "seam"), str(path), "f9.weight", "missing")
