"""MXNet ``.params`` files without MXNet: the format of the published ImageNet weights of ResNet38d.

Layout, little endian: uint64 magic 0x112, uint64 0, uint64 count, the arrays, uint64 count, the names (uint64 length,
bytes). An array begins in one of three ways: with uint32 0xF993FAC9 or ...CA and an int32 storage type; with uint32
0xF993FAC8; in files of 2016 and 2017 with neither. The number of axes (uint32) and the sizes follow (int64; uint32 in
the old files), then device type, device id and element type (int32 each), and the data.
"""

from __future__ import annotations

import re
from pathlib import Path
from struct import Struct

import numpy as np
import torch
from torch import Tensor

from wsss.errors import WsssError

MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64")
LEAVES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}


def is_params(head: bytes) -> bool:
    """Tell whether the first eight bytes of a file say that it is a ``.params`` file."""
    return head[:8] == MAGIC.to_bytes(8, "little")


def read_params(path: str | Path) -> dict[str, Tensor]:
    """Return all arrays under their MXNet names, without the ``arg:`` and ``aux:`` prefixes."""
    stream = _Stream(path)
    magic, _, count = stream.take("QQQ")
    if magic != MAGIC:
        raise WsssError(f"{path}: not an MXNet .params file")
    arrays = [_array(stream) for _ in range(count)]
    names = [stream.raw(stream.take("Q")[0]).decode(errors="backslashreplace") for _ in range(stream.take("Q")[0])]
    if len(names) != len(arrays):
        raise WsssError(f"{path}: {len(arrays)} arrays but {len(names)} names; download it again")
    return {name.partition(":")[2] or name: array for name, array in zip(names, arrays, strict=True)}


def resnet38d_name(name: str) -> str:
    """Return the torch name of an MXNet name, for example ``bn4b2_branch2a_gamma`` -> ``b4_2.bn_branch2a.weight``."""
    if unit := re.fullmatch(r"(res|bn)(\d)(?:a|b(\d))_branch([^_]+)_(\w+)", name):
        kind, stage, index, branch, leaf = unit.groups()
        layer = f"b{stage}{'_' + index if index else ''}.{'conv' if kind == 'res' else 'bn'}_branch{branch}"
    elif single := re.fullmatch(r"(conv1a|bn7)_(\w+)", name):
        layer, leaf = single.groups()
    else:
        return name
    return f"{layer}.{LEAVES.get(leaf, leaf)}"


class _Stream:
    """Reads little-endian fields; running past the end is an error that names the file."""

    def __init__(self, path: str | Path):
        self.path, self.data, self.at = path, Path(path).read_bytes(), 0

    def raw(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise WsssError(f"{self.path}: ends too early; download it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def take(self, fields: str) -> tuple[int, ...]:
        struct = Struct("<" + fields)
        return struct.unpack(self.raw(struct.size))


def _array(stream: _Stream) -> Tensor:
    (head,) = stream.take("I")
    if head in (V2, V3) and stream.take("i")[0] != 0:
        raise WsssError(f"{stream.path}: holds a sparse array; only dense ones are known")
    axes = stream.take("I")[0] if head in (V1, V2, V3) else head
    if axes > 8:
        raise WsssError(f"{stream.path}: an array with {axes} axes; not a weight file or damaged")
    shape = stream.take(f"{axes}{'I' if head == axes else 'q'}")
    if axes == 0:
        return torch.empty(0)
    _, _, flag = stream.take("iii")  # device type, device id, element type
    if not 0 <= flag < len(TYPES) or min(shape) < 1:
        raise WsssError(f"{stream.path}: unknown element type {flag} or size below 1; not a weight file or damaged")
    dtype = np.dtype(TYPES[flag]).newbyteorder("<")
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    return torch.from_numpy(np.frombuffer(stream.raw(size), dtype).reshape(shape).copy())
