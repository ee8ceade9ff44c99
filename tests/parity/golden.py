"""Golden vectors: numbers the official implementations computed.

``WSSS_GOLDEN`` points the tests at another folder. What that folder lacks is taken from the project's own.
"""

from __future__ import annotations

import json
import os
import zlib
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch

OWN = Path(__file__).parent.parent / "golden"
FOLDER = Path(os.environ.get("WSSS_GOLDEN", OWN))


def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of ``<name>.npz``."""
    path = FOLDER / f"{name}.npz"
    with np.load(path if path.exists() else OWN / path.name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an official network, in the order of its state dict."""
    if (FOLDER / f"{network}.npz").exists():
        entries = json.loads(str(load(network)["weight_keys_json"]))
    else:
        entries = json.loads((FOLDER / "keys_eader_occse_aeft_acr.json").read_text())[network]
    return {name: tuple(shape) for name, shape, *_ in entries}


def weights_of(golden: dict, key: str = "weight_keys_json") -> dict[str, torch.Tensor]:
    """The documented weights of a PSA, SEAM or IRN network (README_seam_psa_irn, section 2), under official names."""
    entries = json.loads(str(golden[key]))
    return {
        name: _seam_tensor(tuple(shape), kind, canonical, scale)
        for name, shape, _, kind, canonical, scale in entries
        if kind != "constant"
    }


def _seam_tensor(shape, kind, canonical, scale) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(canonical.encode()))
    draw = {
        "conv_weight": lambda: rng.standard_normal(shape) * sqrt(2 / prod(shape[1:])) * scale,
        "conv_bias": lambda: 0.05 * rng.standard_normal(shape),
        "norm_weight": lambda: rng.uniform(0.5, 1.5, shape),
        "norm_bias": lambda: 0.1 * rng.standard_normal(shape),
        "running_mean": lambda: 0.1 * rng.standard_normal(shape),
        "running_var": lambda: rng.uniform(0.5, 1.5, shape),
        "counter": lambda: np.zeros(shape),
    }[kind]()
    return torch.tensor(draw, dtype=torch.long if kind == "counter" else torch.float32)


def kaist_weights(network: str, prefix: str = "", gain: float = 0.7, names=None) -> dict[str, torch.Tensor]:
    """The documented weights of an EADER, OC-CSE, AEFT or ACR network (README_eader_occse_aeft_acr, section 2).

    ``names`` are those of the tensors that are needed, all by default.
    """
    named = shapes(network)
    return {
        name: _kaist_tensor(prefix + name, named[name], _is_norm(name, named), gain)
        for name in (named if names is None else names)
    }


def _is_norm(name: str, shapes: dict) -> bool:
    return len(shapes.get(name.rpartition(".")[0] + ".weight", [])) == 1


def _kaist_tensor(seed: str, shape, is_norm: bool, gain: float) -> torch.Tensor:
    leaf = seed.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.zeros((), dtype=torch.long)
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    if leaf == "running_mean" or (leaf == "bias" and is_norm):
        draw = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var" or (leaf == "weight" and is_norm):
        draw = rng.uniform(0.5, 1.5, shape)
    elif leaf == "bias":
        draw = 0.05 * rng.standard_normal(shape)
    else:
        draw = rng.standard_normal(shape) * (sqrt(2 / prod(shape[1:])) * gain)
    return torch.tensor(draw, dtype=torch.float32)
