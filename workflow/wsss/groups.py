"""Sort the parameters of a network into groups with their own learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class ParameterGroup(TypedDict):
    """Parameters, and the factors on the optimizer's learning rate and weight decay for them."""

    params: list[nn.Parameter]
    lr_scale: float
    decay_scale: float


def poly_groups(*scaled: tuple[float, Iterable[nn.Module]], norm_decay: float | None = 0.0) -> list[ParameterGroup]:
    """Make PSA's parameter groups, which SEAM, OC-CSE, AEFT, ACR and most DeepLabs keep.

    ``scaled`` are pairs of a factor on the base learning rate and of modules: in PSA 1 for pretrained layers, 10 for
    new ones. A parameter goes with the first pair whose modules have it. So name a module before one that contains it.

    | parameters                      | learning rate | decay          |
    | weights                         | 1             | 1              |
    | biases                          | 2             | 0              |
    | batch norm, unless it is frozen | 1             | ``norm_decay`` |

    PSA and its heirs freeze every batch norm; IRN trains and decays the affine parameters (``norm_decay`` 1).
    With ``norm_decay`` None, parameters of batch norms are in no group. Frozen parameters never are.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for scale, modules in scaled:
        for module in (inner for outer in modules for inner in outer.modules()):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter in seen or not parameter.requires_grad:
                    continue
                seen.add(parameter)
                if isinstance(module, _BatchNorm):
                    if norm_decay is None:
                        continue
                    key = (scale, norm_decay)
                else:
                    key = (2 * scale, 0.0) if name == "bias" else (scale, 1.0)
                groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr_scale": lr, "decay_scale": decay} for (lr, decay), params in sorted(groups.items())]
