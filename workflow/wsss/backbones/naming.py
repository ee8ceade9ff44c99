"""The names of tensors in official weight files, and how they map to our modules.

A weight file is official if the authors of a method, or of a network, published it.

A method has ``backbone`` and, beside it, its heads under their official names. So in most files
``backbone.conv1a.weight`` is ``conv1a.weight``, and ``fc8.weight`` is ``fc8.weight``. Files of ACR, EADER and IRN have
other prefixes: ``KINDS``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Both official networks of ACR are objects of one Python class; the classifier uses only a part of it.
_ACR_UNUSED = r"net_main\.(dr1|dr2|fc_recon|genUnet)\."


def _none(name: str) -> Iterator[str]:
    yield from ()


def _bare(state: dict[str, Tensor]) -> dict[str, Any]:
    return OrderedDict(state)


@dataclass(frozen=True)
class Naming:
    """The names that a family of official files gives to the tensors of our modules."""

    official: Callable[[str], str]  # our name -> official name
    aliases: Callable[[str], Iterator[str]] = _none  # official name -> further names of the same tensor
    redundant: str = r"(?!)"  # official names that repeat others or serve training only
    pack: Callable[[dict[str, Tensor]], dict[str, Any]] = _bare  # flat official state -> what the file holds
    alone: bool = False  # the file holds one network; a second one inside the method (OC-CSE) is no part of it


def _plain(name: str) -> str:
    """Turn ``backbone.conv1a.weight`` into ``conv1a.weight``; heads keep their names."""
    return name.removeprefix("backbone.")


def _acr(name: str) -> str:
    name = name.replace(".backbone.", ".")
    return re.sub(r"^reconstructor\.", "net_recon.", re.sub(r"^classifier\.", "net_main.", name))


def _acr_checkpoint(state: dict[str, Tensor]) -> dict[str, Any]:
    """Pack a Lightning checkpoint. Both official networks have all parts, though no classifier uses its decoder."""
    unused = {name.replace("net_recon.", "net_main."): value for name, value in state.items()}
    unused = {name: value for name, value in unused.items() if re.match(_ACR_UNUSED, name)}
    return {"state_dict": OrderedDict(unused | state)}


def _aeft_state(state: dict[str, Tensor]) -> dict[str, Any]:
    """Add the batch norm that the official network owns and never uses."""
    width = len(state["fc8.weight"])
    zeros, ones = torch.zeros(width), torch.ones(width)
    unused = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
    counter = {"bn8.num_batches_tracked": torch.tensor(0)}
    return OrderedDict({f"bn8.{name}": value for name, value in unused.items()} | counter | state)


def _eader(name: str) -> str:
    name = name.removeprefix("backbone.").replace(".backbone.", ".")
    if name.startswith("adversary."):
        return "adversarial." + name.removeprefix("adversary.")
    return "localizer." + name.removeprefix("localizer.")


def _eader_checkpoint(state: dict[str, Tensor]) -> dict[str, Any]:
    """Pack EADER's ``checkpoint.pth.tar``, without the optimizers."""
    parts: dict[str, Any] = {"epoch": 0}
    for part in ("localizer", "adversarial"):
        own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        parts |= {part: OrderedDict(own) or None, f"{part}_optimizer": None}
    return parts


def _irn(name: str) -> str:
    return re.sub(r"^fc8\.", "classifier.", re.sub(r"^backbone\.", "resnet50.", name))


# Place of a child of IRN's ResNet-50 in its stages: name -> (stage, place), stages counted from 1.
_CAM_STAGES = {"conv1": "1.0", "bn1": "1.1", "layer1": "1.4", "layer2": "2.0", "layer3": "3.0", "layer4": "4.0"}
_IRN_STAGES = {"conv1": "1.0", "bn1": "1.1", "layer1": "2.0", "layer2": "3.0", "layer3": "4.0", "layer4": "5.0"}


def _irn_aliases(stages: dict[str, str]) -> Callable[[str], Iterator[str]]:
    """Make a function that lists the further names under which IRN's files repeat a tensor.

    They do so because modules of IRN sit in several lists."""

    def aliases(name: str) -> Iterator[str]:
        top, _, rest = name.partition(".")
        if top == "resnet50":
            child, _, rest = rest.partition(".")
            stage, _, place = stages[child].partition(".")
            yield f"stage{stage}.{place}.{rest}"
            yield f"backbone.{int(stage) - 1}.{place}.{rest}"
        elif top == "classifier":
            yield f"newly_added.0.{rest}"
        elif top == "mean_shift":
            yield from (f"fc_dp7.4.{rest}", f"dp_layers.6.4.{rest}")
        elif match := re.fullmatch(r"fc_(edge|dp)(\d)", top):
            yield f"{match[1]}_layers.{int(match[2]) - 1}.{rest}"

    return aliases


_IRN_REPEATED = r"(stage\d|backbone|newly_added|edge_layers|dp_layers)\.|fc_dp7\.4\.|path_indices\d+$|disp_target$"
_PLAIN = Naming(_plain, alone=True)

KINDS = {
    "psa": _PLAIN,  # res38_cls.pth, vgg16_cls.pth, resnet38_aff.pth, vgg16_aff.pth; torchvision's names are plain, too
    "seam": _PLAIN,  # resnet38_SEAM.pth
    "occse": _PLAIN,  # *net_er.pth
    "aeft": Naming(_plain, redundant=r"bn8\.", pack=_aeft_state, alone=True),  # *net_main.pth; bn8 is never used
    "acr": Naming(_acr, redundant=_ACR_UNUSED, pack=_acr_checkpoint),  # Lightning *.ckpt
    "eader": Naming(_eader, pack=_eader_checkpoint),  # checkpoint.pth.tar
    "irn_cam": Naming(_irn, _irn_aliases(_CAM_STAGES), _IRN_REPEATED),  # res50_cam.pth
    "irn": Naming(_irn, _irn_aliases(_IRN_STAGES), _IRN_REPEATED),  # res50_irn.pth
}
