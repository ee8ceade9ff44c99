"""Weights in and out: into a backbone, into a whole method under the official names, and back to official files."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from wsss.backbones.formats import read_state
from wsss.backbones.naming import KINDS, Naming
from wsss.errors import WsssError, choose
from wsss.files import atomic

# Where a backbone may sit in a file, the most likely place first.
PREFIXES = ("", "backbone.", "classifier.backbone.", "resnet50.", "net_main.", "localizer.")
COUNTER = "num_batches_tracked"  # absent from files of torch < 0.4.1, and no norm here uses it


@dataclass(frozen=True)
class Report:
    """What a file lacked that could be spared, and what it held that was not used."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lacked = f"it lacks {len(self.missing)} tensors that are not needed ({_some(self.missing)})"
        unused = f"{len(self.unexpected)} of its tensors are not used ({_some(self.unexpected)})"
        said = [lacked] * bool(self.missing) + [unused] * bool(self.unexpected)
        return "; ".join(said) or "every tensor found its place"


def load_backbone(backbone: nn.Module, path: str | Path) -> Report:
    """Fill ``backbone`` from a file of any known format; heads and other networks in the file are left out."""
    state = read_state(path)
    names = list(backbone.state_dict())
    prefix = max(PREFIXES, key=lambda prefix: sum(prefix + name in state for name in names))
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return load_official(backbone, inside, Naming(lambda name: name), str(path))


def without_weights(value):
    """``value``, a configuration or part of one, without the weights that its networks start training from."""
    if not isinstance(value, dict):
        return value
    config = copy.copy(value)
    for key, inner in value.items():
        config[key] = without_weights(inner)
    if isinstance(config.get("backbone"), dict):
        config["backbone"]["weights"] = None
        if "weights" in config:  # of the whole network around that backbone
            config["weights"] = None
    return config


def initial(config: dict, train: dict) -> dict:
    """``config`` as networks are built for training: without initial weights where ``train.weights`` has them all."""
    return without_weights(config) if train.get("weights") else config


def import_weights(path: str | Path, module: nn.Module, kind: str) -> Report:
    """Fill a method from an official file. ``kind`` is one of :data:`KINDS`.

    A second network inside the method that the file does not hold (OC-CSE's ordinary classifier) keeps its weights.
    Raises one line when a needed tensor is missing or has another shape.
    """
    naming = choose(KINDS, kind, "kind of official weights")
    return load_official(module, read_state(path), naming, f"{path}, read as official weights '{kind}'")


def export_weights(module: nn.Module, kind: str, path: str | Path) -> None:
    """Write a method as an official file of this ``kind``, which the official code loads."""
    naming = choose(KINDS, kind, "kind of official weights")
    own = module.state_dict()
    state = {
        official: own[name].detach().cpu().contiguous() for official, name in official_names(module, naming).items()
    }
    repeated = {alias: value for name, value in state.items() for alias in naming.aliases(name)}
    with atomic(path) as temporary, temporary.open("wb") as stream:  # a stream: its name does not enter the bytes
        torch.save(naming.pack(state | repeated), stream)


def load_official(module: nn.Module, state: dict[str, Tensor], naming: Naming, source: str) -> Report:
    """Copy ``state`` (official names) into ``module``; says what the file lacked or held in vain.

    ``source`` is named in errors.
    """
    own, wanted = module.state_dict(), official_names(module, naming)
    missing = [official for official in wanted if official not in state]
    needed = [official for official in missing if not official.endswith(COUNTER)]
    if needed:
        raise WsssError(_lacking(source, needed, len(wanted), state))
    found = {official: name for official, name in wanted.items() if official in state}
    for official, name in found.items():
        if state[official].shape != own[name].shape:
            there, here = ("×".join(map(str, value.shape)) for value in (state[official], own[name]))
            raise WsssError(
                f"{source}: '{official}' is {there} in the file but {here} here; use weights of the same network"
            )
    with torch.no_grad():
        for official, name in found.items():
            own[name].copy_(state[official])
    unexpected = [name for name in state if name not in wanted and not re.match(naming.redundant, name)]
    return Report(missing, unexpected)


def official_names(module: nn.Module, naming: Naming) -> dict[str, str]:
    """Official name -> our name, for the networks that official files of this kind hold."""
    names = list(module.state_dict())
    others = {name.partition(".backbone.")[0] + "." for name in names if ".backbone." in name} if naming.alone else ()
    return {naming.official(name): name for name in names if not name.startswith(tuple(others))}


def _lacking(source: str, needed: list[str], total: int, state: dict[str, Tensor]) -> str:
    if 2 * len(needed) > total:
        return (
            f"{source}: not weights of this network: {len(needed)} of {total} tensors are missing ({_some(needed)}); "
            f"the file holds {_some(list(state))}"
        )
    return f"{source}: {len(needed)} of {total} tensors are missing: {_some(needed)}; use weights of the same network"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
