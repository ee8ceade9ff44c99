"""Formats of weight files: what is read from each, and that nothing in a file runs."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from wsss.backbones import build
from wsss.backbones.formats import read_state
from wsss.backbones.mxnet import read_params, resnet38d_name
from wsss.backbones.weights import load_backbone
from wsss.errors import WsssError

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


def test_os_globals_are_refused_by_name(tmp_path, one_line):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Runs(os.system, "true")}, path)
    one_line(lambda: read_state(path), str(path), "system")


NO_WEIGHTS = {
    b"": "empty",
    b"\n<!DOCTYPE html><title>Google Drive - Quota exceeded</title>": "web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "git lfs pull",
    b"PK\x03\x04 cut off": "ends too early; download it again",
    b"\x80\x02}q\x00.": "download it again or name another",
    b"\x00\x01\x02": "download it again or name another",
}


@pytest.mark.parametrize("content", NO_WEIGHTS)
def test_a_file_that_is_no_weight_file_is_one_line_with_a_cure(content, tmp_path, one_line):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    one_line(lambda: read_state(path), str(path), NO_WEIGHTS[content])


def test_a_cut_download_is_one_line(tmp_path, one_line):
    path = tmp_path / "weights.pth"
    torch.save(build({"name": "tiny"}).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    one_line(lambda: read_state(path), str(path), "ends too early")
    one_line(lambda: read_state(tmp_path / "absent.pth"), "absent.pth")
    torch.save({"epoch": 3}, path)
    one_line(lambda: read_state(path), str(path), "no tensors")


@pytest.mark.parametrize("key", ["state_dict", "model", "localizer"])
def test_tensors_are_named_by_text_whatever_names_them_in_the_file(tmp_path, key):
    torch.save({key: {0: torch.ones(2)}}, tmp_path / "weights.pth")
    prefix = "localizer." if key == "localizer" else ""
    assert list(read_state(tmp_path / "weights.pth")) == [f"{prefix}0"]


def test_tensors_without_values_are_dropped(tmp_path, one_line):
    torch.save({"w": torch.ones(2, device="meta")}, tmp_path / "weights.pth")
    one_line(lambda: read_state(tmp_path / "weights.pth"), "weights.pth: holds no tensors")


# MXNet


def params(names: list[str], array_of: Callable[[str], np.ndarray], version: str) -> Iterator[bytes]:
    """A ``.params`` file as MXNet writes it, piece by piece."""
    yield struct.pack("<QQQ", 0x112, 0, len(names))
    for array in map(array_of, names):
        if version in ("v2", "v3"):
            yield struct.pack("<Ii", {"v2": 0xF993FAC9, "v3": 0xF993FACA}[version], 0)
        if version == "v1":
            yield struct.pack("<I", 0xF993FAC8)
        yield struct.pack("<I", array.ndim)
        yield struct.pack(f"<{array.ndim}{'I' if version == 'legacy' else 'q'}", *array.shape)
        flag = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"].index(array.dtype.name)
        yield struct.pack("<iii", 1, 0, flag)
        yield array.tobytes()
    yield struct.pack("<Q", len(names))
    for name in names:
        yield struct.pack("<Q", len(name)) + name.encode()


def params_bytes(arrays: dict[str, np.ndarray], version: str) -> bytes:
    return b"".join(params(list(arrays), arrays.__getitem__, version))


@pytest.mark.parametrize("version", ["legacy", "v1", "v2", "v3"])
def test_mxnet_params_of_all_versions(version, tmp_path, one_line):
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


@pytest.mark.parametrize("shape", [(0, 2**62), (2**62, 4), (0,), (-1, 3)])
def test_an_mxnet_array_of_an_absurd_shape_is_one_line(tmp_path, one_line, shape):
    head = struct.pack("<QQQII", 0x112, 0, 1, 0xF993FAC8, len(shape))
    sizes = struct.pack(f"<{len(shape)}qiii", *shape, 1, 0, 0)
    (tmp_path / "w.params").write_bytes(head + sizes + struct.pack("<QQ", 1, 1) + b"a")
    one_line(lambda: read_state(tmp_path / "w.params"), "w.params: ")


def test_an_mxnet_name_of_another_encoding_is_a_name_like_others(tmp_path):
    content = params_bytes({"arg:a": np.ones(2, np.float32)}, "v2")
    (tmp_path / "w.params").write_bytes(content.replace(b"arg:a", b"arg:\xff"))
    assert list(read_state(tmp_path / "w.params")) == ["\\xff"]


def test_every_tensor_of_resnet38d_has_an_mxnet_name():
    with torch.device("meta"):
        names = [name for name in build({"name": "resnet38d"}).state_dict() if "num_batches" not in name]
    assert len(names) == 43 + 37 * 4
    assert [resnet38d_name(mxnet_name(name)) for name in names] == names
    assert mxnet_name("b7.conv_branch2b2.weight") == "res7a_branch2b2_weight"


def test_a_whole_mxnet_file_fills_resnet38d(tmp_path):
    """The published ImageNet network: what its classifier of 1000 classes has is all that finds no place."""
    with torch.device("meta"):
        empty = build({"name": "resnet38d"})
    named = {name: tuple(v.shape) for name, v in empty.state_dict().items() if "num_batches" not in name}
    sides = {name: "aux" if "running" in name else "arg" for name in named}
    shapes = {f"{sides[name]}:{mxnet_name(name)}": shape for name, shape in named.items()}
    shapes |= {"arg:linear1000_weight": (1000, 4096), "arg:linear1000_bias": (1000,)}

    def drawn(name: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(name.encode())).random(shapes[name], np.float32)

    path = tmp_path / "rna-a1.params"
    with path.open("wb") as stream:
        stream.writelines(params(list(shapes), drawn, "legacy"))
    state = build({"name": "resnet38d", "weights": str(path)}).state_dict()
    report = load_backbone(empty, path)
    path.unlink()  # 450 MB
    assert report.unexpected == ["linear1000_weight", "linear1000_bias"]
    assert report.missing == [name for name in state if "num_batches" in name]
    for name in named:
        assert np.array_equal(state[name].numpy(), drawn(f"{sides[name]}:{mxnet_name(name)}")), name
