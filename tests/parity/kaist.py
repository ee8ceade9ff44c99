"""What the parity tests of the OC-CSE, AEFT and ACR family share: their input, gradients and how close is close.

The rule: both sides compute in float32, so each bound is about ten times the deviation that float32 itself explains
(measured against the same computation in float64). A map, a gradient or a vector may deviate at each entry by that
share of its own largest magnitude, a loss or a norm by that share of itself:
"""

from __future__ import annotations

import numpy as np
import torch

from wsss.loop import build_optimizer

UNIT = 1e-5  # formulas on given tensors: some float32 roundings
NETWORK = 1e-4  # what ResNet38d says: 38 layers of them
GRADIENT = 2e-3  # gradients through ResNet38d and the mask, and updates: ReLUs near zero switch, golden to float64 2e-4


def network_input(images: np.ndarray) -> torch.Tensor:
    """``B×H×W×3`` uint8 -> ``B×3×H×W`` float32, normalised in float64."""
    pixels = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))


def statistics(tensor: torch.Tensor) -> np.ndarray:
    """Mean, standard deviation, Euclidean norm, minimum, maximum in float64."""
    x = tensor.detach().double().numpy()
    return np.array([x.mean(), x.std(), np.sqrt((x**2).sum()), x.min(), x.max()])


def close(actual, expected, what: str, relative: float) -> None:
    """Every entry within ``relative`` of the largest magnitude of ``expected``."""
    actual = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, what
    atol = relative * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=what)


def close_each(actual, expected, what: str, relative: float) -> None:
    """Every entry within ``relative`` of itself: losses and norms, whose magnitudes differ."""
    actual = [float(value.detach() if isinstance(value, torch.Tensor) else value) for value in actual]
    np.testing.assert_allclose(actual, np.atleast_1d(expected), rtol=relative, atol=0, err_msg=what)


def sub(x: torch.Tensor, step, offset) -> torch.Tensor:
    return x[..., int(offset) :: int(step), int(offset) :: int(step)]


def norms(tensors) -> list[float]:
    return [float(tensor.double().norm()) for tensor in tensors]


def named_params(method, official_names) -> dict[str, torch.nn.Parameter]:
    """Parameters under their official names, which have no ``backbone.``."""
    own = dict(method.named_parameters())
    return {name: own[name] if name in own else own[f"backbone.{name}"] for name in map(str, official_names)}


def update_norms(task, phase: str, params: dict, gradients: list, golden: dict) -> list[float]:
    """Weight-change norms of the first step of a fresh optimizer, which works on copies of the parameters."""
    settings = {"lr": float(golden["lr"]), "weight_decay": float(golden["weight_decay"])}
    settings["momentum"] = float(golden["group_momentum"][0])
    copies = {param: param.detach().clone().requires_grad_() for param in params.values()}
    for copy, gradient in zip(copies.values(), gradients, strict=True):
        copy.grad = gradient.clone()
    groups = [
        {**group, "params": [copies[p] for p in group["params"] if p in copies]}
        for group in task.parameter_groups(phase)
    ]
    assert sum(len(group["params"]) for group in groups) == len(params)
    build_optimizer(groups, settings).step()
    return norms(copy.detach() - param.detach() for param, copy in copies.items())


def check_groups(groups: list[dict], golden: dict) -> None:
    """Tensors and elements at 1, 2, 10 and 20 times the learning rate; biases (2 and 20 times) do not decay."""
    for i, scale in enumerate((1, 2, 10, 20)):
        params = [p for group in groups if group["lr_scale"] == scale for p in group["params"]]
        assert len(params) == golden["group_sizes"][i], scale
        assert sum(p.numel() for p in params) == golden["group_numel"][i], scale
    assert all(group["decay_scale"] == (group["lr_scale"] in (1, 10)) for group in groups)
