"""The released optimiser: SGD whose momentum is the weight decay's value, with polynomial decay."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch
from golden import load

from wsss.loop import build_optimizer, poly, scale_learning_rates

SCALES = ((1, 1), (2, 0), (10, 1), (20, 0))  # learning rate and decay factor of the released groups


def replay(starts, grads, lr, decay, max_step):
    """Parameters and learning rates after every step of the given gradients."""
    params = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    groups = [{"params": [p], "lr_scale": a, "decay_scale": b} for p, (a, b) in zip(params, SCALES, strict=True)]
    optimizer = build_optimizer(groups, {"lr": lr, "momentum": decay, "weight_decay": decay, "poly_power": 0.9})
    after, rates = [], []
    for step, step_grads in enumerate(grads):
        for parameter, gradient in zip(params, step_grads, strict=True):
            parameter.grad = torch.tensor(gradient)
        scale_learning_rates(optimizer, poly(step, max_step, 0.9))
        optimizer.step()
        after.append([p.detach().numpy().copy() for p in params])
        rates.append([group["lr"] for group in optimizer.param_groups])
    return after, np.array(rates), [group["momentum"] for group in optimizer.param_groups]


def test_psa_seam_irn():
    g = load("poly_optimizer")
    after, rates, momentum = replay(
        g["init"], g["grads"], float(g["base_lr"]), float(g["weight_decay"]), int(g["max_step"])
    )
    assert np.abs(rates - g["lr_used_f64"]).max() <= 1e-12
    assert np.abs(np.array(after) - g["params_after_step"]).max() <= 1e-4
    assert momentum == g["effective_momentum_f64"].tolist()


def test_kaist():
    g = load("poly_sgd")
    shapes = [ast.literal_eval(str(shape)) for shape in g["shapes"]]
    ends = np.cumsum([np.prod(shape) for shape in shapes])

    def cut(flat):
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    decay = float(g["weight_decay"])
    grads = [cut(row) for row in g["grads"]]
    after, rates, momentum = replay(cut(g["w0"]), grads, float(g["lr"]), decay, int(g["max_step"]))
    flat = np.array([np.concatenate([p.ravel() for p in step]) for step in after])
    assert rates == pytest.approx(g["lrs"], rel=1e-12)
    assert np.abs(flat - g["weights"]).max() <= 1e-6
    assert momentum == g["momentum"].tolist()
