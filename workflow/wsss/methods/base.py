"""What every method promises, and the few formulas that all of them share.

B batch, C foreground classes, D channels, H W image size, h w size of a feature map.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsss import backbones

if TYPE_CHECKING:
    from wsss.train import Progress


EPS = 1e-5  # the constant of PSA and all its heirs in normalisations


class Method(nn.Module):
    """A classifier of image-level labels that can localize. See ``docs/architecture.md``, Task and Method.

    ``backbone`` is the network the class maps come from. Subclasses read their settings from ``config["method"]``
    and need to define ``parameter_groups``, ``losses`` and ``localize``.
    """

    phases: tuple[str, ...] = ("classifier",)  # one optimizer each
    weights_kind: str  # of the authors' weight files, see backbones.naming.KINDS

    def __init__(self, config: dict, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        self.backbone = backbones.build(config["backbone"])

    def parameter_groups(self, phase: str) -> list[dict]:
        """What ``phase`` trains: ``[{"params", "lr_scale", "decay_scale"}]``; see ``poly_groups``."""
        raise NotImplementedError

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """The phases that update at this step, in order."""
        return self.phases

    def losses(self, batch: dict, phase: str, progress: Progress) -> dict[str, Tensor]:
        """Named, already weighted scalars whose sum ``phase`` minimises.

        ``batch["image"]`` is ``B×3×H×W``, normalised as ``backbone.input`` says, ``batch["labels"]`` ``B×C`` of 0, 1.
        """
        raise NotImplementedError

    def complete(self) -> Method:
        """Itself, with all networks that official weight files hold, also those it was trained without."""
        return self

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Raw class maps ``B×C×h×w``, before ReLU and normalisation, of any resolution.

        ``images`` is ``B×3×H×W``, ``labels`` ``B×C``; maps of classes that are absent from ``labels`` are not used.
        """
        raise NotImplementedError


def head(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv2d:
    """A 1×1 convolution without bias, Xavier-uniform as the ``fc8`` of PSA and its heirs."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.xavier_uniform_(conv.weight, gain)
    return conv


def multilabel_soft_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of ``B×C`` logits, mean over images and classes."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def max_norm(maps: Tensor, eps: float = EPS) -> Tensor:
    """ReLU(v - min - eps) / (max - min + eps) of each map of ``B×C×h×w``; the gradient flows through min and max."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return F.relu(maps - low - eps) / (high - low + eps)


def resize(maps: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """``B×D×h×w`` -> ``B×D×H×W``, bilinear."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=align_corners)


def poly_groups(
    pretrained: Iterable[nn.Module], new: Iterable[nn.Module] = (), new_scale: float = 10.0, norm_decay: float = 0.0
) -> list[dict]:
    """PSA's parameter groups, kept by SEAM, OC-CSE, AEFT and ACR.

    | parameters                      | learning rate          | decay          |
    | weights                         | 1 (new: ``new_scale``) | 1              |
    | biases                          | 2 (new: twice that)    | 0              |
    | batch norm, unless it is frozen | 1 (new: ``new_scale``) | ``norm_decay`` |

    PSA and its heirs freeze every batch norm; IRN trains and decays the affine parameters (``norm_decay`` 1).
    Frozen parameters are in no group, and a module that contains another does not count the other's twice.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for scale, modules in ((new_scale, new), (1.0, pretrained)):  # new first: they may lie inside a pretrained one
        for module in (inner for outer in modules for inner in outer.modules()):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter in seen or not parameter.requires_grad:
                    continue
                seen.add(parameter)
                if isinstance(module, _BatchNorm):
                    key = (scale, norm_decay)
                else:
                    key = (2 * scale, 0.0) if name == "bias" else (scale, 1.0)
                groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr_scale": lr, "decay_scale": decay} for (lr, decay), params in sorted(groups.items())]
