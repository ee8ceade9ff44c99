"""Weight files: every format, both directions, and nothing in a file may run."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import wsss.methods
from wsss.backbones import build, export_weights, import_weights, load_backbone
from wsss.backbones.formats import read_state
from wsss.backbones.mxnet import read_params, resnet38d_name
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import official_names
from wsss.errors import WsssError
from wsss.refine.irn_net import IRNet


@pytest.fixture(autouse=True)
def _sweep(tmp_path):
    """Weight files are large, and pytest keeps folders."""
    yield
    shutil.rmtree(tmp_path)


GOLDEN = Path(os.environ.get("WSSS_GOLDEN", Path(__file__).parent / "golden"))


def golden_keys(network: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an official network, in the order of its state dict."""
    if (GOLDEN / f"{network}.npz").exists():
        with np.load(GOLDEN / f"{network}.npz", allow_pickle=False) as archive:
            entries = json.loads(str(archive["weight_keys_json"]))
    else:
        entries = json.loads((GOLDEN / "keys_eader_occse_aeft_acr.json").read_text())[network]
    return {name: tuple(shape) for name, shape, *_ in entries}


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
    keys = {prefix.strip() + key: s for prefix, name in networks.items() for key, s in golden_keys(name).items()}
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
    keys = golden_keys(name)
    with torch.device("meta"):
        module = network(backbone, {key: shape for key, shape in keys.items() if key.startswith(heads)})
    ours = official_names(module, KINDS["psa"])
    assert {official: tuple(module.state_dict()[own].shape) for official, own in ours.items()} == keys


def irn_cam(seed: int) -> nn.Module:
    keys = golden_keys("irn_cam")
    return fill(network("resnet50", {"fc8.weight": keys["classifier.weight"]}, output_stride=16, dilate=False), seed)


def irn(seed: int) -> nn.Module:
    backbone = build({"name": "resnet50", "output_stride": 16, "dilate": False})
    return fill(IRNet(backbone, {"train_radius": 10, "dp_lr_scale": 10.0}), seed)


@pytest.mark.parametrize(("kind", "make", "name"), [("irn_cam", irn_cam, "irn_cam"), ("irn", irn, "irn_edge_dp")])
def test_irn_files_repeat_tensors_under_several_names(kind, make, name, tmp_path):
    source, target = make(1), make(2)
    export_weights(source, kind, tmp_path / "official.pth")
    state = torch.load(tmp_path / "official.pth", weights_only=True)
    assert {key: tuple(value.shape) for key, value in state.items()} == golden_keys(name)
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
    localizer, adversary = golden_keys("eader/localizer/resnet18"), golden_keys("eader/adversarial/resnet18")
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


def test_heads_in_a_backbone_file_are_reported_as_unused(tmp_path, caplog):
    caplog.set_level("INFO", logger="wsss")
    state = build({"name": "mobilenet_v2"}).state_dict() | {"classifier.1.weight": torch.zeros(1000, 1280)}
    torch.save(state, tmp_path / "imagenet.pth")
    report = load_backbone(build({"name": "mobilenet_v2"}), tmp_path / "imagenet.pth")
    assert report.unexpected == ["classifier.1.weight"]
    assert "classifier.1.weight" in caplog.text
    assert "imagenet.pth" in caplog.text


def one_line(action, *words: str) -> str:
    with pytest.raises(WsssError) as error:
        action()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message


def test_a_file_of_another_backbone_is_one_line(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(build({"name": "resnet18"}).state_dict(), path)
    one_line(
        lambda: build({"name": "tiny", "weights": path}), str(path), "not weights of this network", "conv2.0.weight"
    )
    one_line(lambda: import_weights(path, build({"name": "tiny"}), "res38"), "res38", "seam")


def test_a_missing_tensor_and_another_shape_are_named(tmp_path):
    path = tmp_path / "cls.pth"
    state = dict(build({"name": "tiny"}).state_dict())
    torch.save(state | {"fc8.weight": torch.zeros(20, 128, 1, 1)}, path)
    target = network("tiny", {"fc8.weight": (21, 128, 1, 1)})
    untouched = {name: value.clone() for name, value in target.state_dict().items()}
    one_line(lambda: import_weights(path, target, "seam"), str(path), "fc8.weight", "20×128×1×1", "21×128×1×1")
    assert all(torch.equal(value, untouched[name]) for name, value in target.state_dict().items())
    target = network("tiny", {"fc8.weight": (20, 128, 1, 1), "f9.weight": (4, 4, 1, 1)})
    one_line(lambda: import_weights(path, target, "seam"), str(path), "f9.weight", "missing")


# Files that hold more than tensors


class AttributeDict(dict):
    """Like Lightning's: a dictionary subclass."""


class Callback:
    """Lightning keys the state of its callbacks by their class."""


class Runs:
    """Pickles as a call of ``function(argument)``."""

    def __init__(self, function, argument):
        self.call = (function, (argument,))

    def __reduce__(self):
        return self.call


def test_lightning_checkpoint_with_foreign_objects(tmp_path):
    path = tmp_path / "epoch=1.ckpt"
    checkpoint = {
        "epoch": 1,
        "state_dict": {"net_main.fc8.weight": torch.ones(2, 3)},
        "hyper_parameters": argparse.Namespace(lr=0.1, names=["a"]),
        "hparams": AttributeDict(args=argparse.Namespace(W=[0.3])),
        "callbacks": {Callback: {"best": torch.tensor(1.0), "score": np.float64(0.5)}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
    }
    torch.save(checkpoint, path)
    assert list(read_state(path)) == ["net_main.fc8.weight"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, exec, os.execv, print, pickle.loads])
def test_nothing_in_a_file_runs(function, zipped, tmp_path, capfd):
    marker = tmp_path / "ran"
    argument = {os.system: f"touch {marker}", os.mkdir: str(marker), print: "ran"}.get(
        function, f"__import__('pathlib').Path({str(marker)!r}).touch()"
    )
    if function is pickle.loads:
        argument = pickle.dumps(Runs(os.mkdir, str(marker)))
    path = tmp_path / "evil.ckpt"
    checkpoint = {"state_dict": {"w": torch.ones(1)}, "x": Runs(function, argument)}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    try:
        outcome = read_state(path)["w"].tolist()
    except WsssError as error:
        outcome = str(error)
    assert outcome == [1.0] or (str(path) in outcome and "\n" not in outcome)
    assert not marker.exists()
    assert "ran" not in capfd.readouterr().out


def test_the_payloads_above_are_live(tmp_path):
    """Plain unpickling would run them; otherwise the test above could not fail."""
    for number, function in enumerate((os.mkdir, eval)):
        marker = tmp_path / f"ran{number}"
        argument = str(marker) if function is os.mkdir else f"__import__('os').mkdir({str(marker)!r})"
        pickle.loads(pickle.dumps(Runs(function, argument)))
        assert marker.exists()


def test_os_globals_are_refused_by_name(tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Runs(os.system, "true")}, path)
    one_line(lambda: read_state(path), str(path), "system")


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_weight_file_is_one_line(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    one_line(lambda: read_state(path), str(path))


def test_a_cut_download_is_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(build({"name": "tiny"}).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    one_line(lambda: read_state(path), str(path))
    one_line(lambda: read_state(tmp_path / "absent.pth"), "absent.pth")
    torch.save({"epoch": 3}, path)
    one_line(lambda: read_state(path), str(path), "no tensors")


# MXNet


def params_bytes(arrays: dict[str, np.ndarray], version: str) -> bytes:
    """A ``.params`` file as MXNet writes it."""
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if version == "v2":
            out += struct.pack("<Ii", 0xF993FAC9, 0)
        if version == "v1":
            out += struct.pack("<I", 0xF993FAC8)
        out += struct.pack("<I", array.ndim)
        out += struct.pack(f"<{array.ndim}{'I' if version == 'legacy' else 'q'}", *array.shape)
        flag = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"].index(array.dtype.name)
        out += struct.pack("<iii", 1, 0, flag) + array.tobytes()
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        out += struct.pack("<Q", len(name)) + name.encode()
    return out


@pytest.mark.parametrize("version", ["legacy", "v1", "v2"])
def test_mxnet_params_of_all_versions(version, tmp_path):
    rng = np.random.default_rng(5)
    arrays = {
        "arg:conv1a_weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "arg:bn7_gamma": rng.standard_normal(5).astype(np.float16),
        "aux:bn4b2_branch2a_moving_var": rng.standard_normal(6),
        "arg:linear1000_bias": np.arange(7),
    }
    path = tmp_path / "rna-a1.params"
    path.write_bytes(params_bytes(arrays, version))
    state = read_state(path)
    names = ["conv1a.weight", "bn7.weight", "b4_2.bn_branch2a.running_var", "linear1000_bias"]
    assert list(state) == names
    for value, array in zip(state.values(), arrays.values(), strict=True):
        np.testing.assert_array_equal(value.numpy(), array)
    assert list(read_params(path)) == [name.partition(":")[2] for name in arrays]
    for size in (12, 40, 300, len(path.read_bytes()) - 1):
        path.write_bytes(params_bytes(arrays, version)[:size])
        one_line(lambda: read_state(path), str(path))


def mxnet_name(name: str) -> str:
    """The inverse of the mapping, from the table of names: ``b4_2.bn_branch2a.weight`` -> ``bn4b2_branch2a_gamma``."""
    *unit, layer, leaf = name.split(".")
    kind = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    if not unit:
        return f"{layer}_{kind[leaf] if layer == 'bn7' else leaf}"
    stage, _, index = unit[0].removeprefix("b").partition("_")
    place = f"{stage}b{index}" if index else f"{stage}a"
    if layer.startswith("conv"):
        return f"res{place}_{layer.removeprefix('conv_')}_{leaf}"
    return f"bn{place}_{layer.removeprefix('bn_')}_{kind[leaf]}"


def test_every_tensor_of_resnet38d_has_an_mxnet_name():
    with torch.device("meta"):
        names = [name for name in build({"name": "resnet38d"}).state_dict() if "num_batches" not in name]
    assert len(names) == 43 + 37 * 4
    assert [resnet38d_name(mxnet_name(name)) for name in names] == names
    assert mxnet_name("b7.conv_branch2b2.weight") == "res7a_branch2b2_weight"
