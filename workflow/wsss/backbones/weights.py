"""Read and write weights: into a backbone, into a whole method under the official names, and back to official files."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsss.backbones.base import Backbone
from wsss.backbones.formats import located, read_state
from wsss.backbones.models import fill
from wsss.backbones.naming import KINDS, Naming
from wsss.errors import WsssError, choose
from wsss.files import atomic

# Where a backbone may sit in a file, the most likely place first.
PREFIXES = ("", "backbone.", "classifier.backbone.", "resnet50.", "net_main.", "localizer.")
COUNTER = "num_batches_tracked"  # absent from files of torch < 0.4.1, and no norm here uses it


@dataclass(frozen=True)
class Report:
    """The tensors that a file lacked and that were not needed, and those that it held and that were not used."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lacked = f"it lacks {len(self.missing)} tensors that are not needed ({_some(self.missing)})"
        unused = f"{len(self.unexpected)} of its tensors are not used ({_some(self.unexpected)})"
        said = [lacked] * bool(self.missing) + [unused] * bool(self.unexpected)
        return "; ".join(said) or "every tensor found its place"


def load_backbone(backbone: Backbone, path: str | Path) -> Report:
    """Fill ``backbone`` from a file of any known format; heads and other networks in the file are left out.

    Raises:
        WsssError: the file cannot be read, or lacks a tensor, or holds one of another shape.
    """
    state = read_state(path)
    naming = Naming(lambda name: name.removeprefix(backbone.prefix))
    names = official_names(backbone, naming)
    places = PREFIXES + tuple(outer + backbone.prefix for outer in PREFIXES if backbone.prefix)
    prefix = max(places, key=lambda prefix: _held(state, (prefix + name for name in names)))
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return load_official(backbone, inside, naming, str(path))


def load_whole(module: nn.Module, path: str | Path, kind: str | None, new: tuple[str, ...] = ()) -> Report | None:
    """Fill ``module``, heads included, from a ``model.pt`` of ours or from an official file of this ``kind``.

    The names of its tensors tell which of the two a file is. Returns the tensors that an official file lacked, and
    those of it that were not used; None for a ``model.pt``, in which every tensor has its place.

    Args:
        module: a method or another network that is trained.
        path: the file, or ``package:<name>``.
        kind: one of :data:`KINDS`; None where no official format is known.
        new: names of parts that the file may lack. They keep their weights.

    Raises:
        WsssError: the file cannot be read, or its tensors differ from those of ``module`` in name or shape; the line
            names the first one.
    """
    state = read_state(path)
    own = _held(state, module.state_dict())
    if kind and own < _held(state, official_names(module, choose(KINDS, kind, "kind of official weights"))):
        return import_weights(path, module, kind, new)
    fill(module, located(path), f"the start of a training of {type(module).__name__}", new)
    return None


def _held(state: Mapping[str, Tensor], names: Iterable[str]) -> int:
    """Count the ``names`` that a file holds."""
    return sum(name in state for name in names)


def without_weights(value: Any) -> Any:
    """Copy a configuration or part of one without the weights that its networks start training from."""
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


def initial(config: Any, train: Any) -> Any:
    """Return the ``config`` to build networks from for a training.

    It names no initial weights if ``train["weights"]`` holds all weights.
    """
    return without_weights(config) if train.get("weights") else config


def import_weights(path: str | Path, module: nn.Module, kind: str, new: tuple[str, ...] = ()) -> Report:
    """Fill a method from an official file of a ``kind`` of :data:`KINDS`. The file may lack the method's ``new`` parts.

    A second network inside the method that the file does not hold (OC-CSE's ordinary classifier) keeps its weights.

    Raises:
        WsssError: a needed tensor is missing or has another shape.
    """
    naming = choose(KINDS, kind, "kind of official weights")
    return load_official(module, read_state(path), naming, f"{path}, read as official weights '{kind}'", new)


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


def load_official(
    module: nn.Module, state: dict[str, Tensor], naming: Naming, source: str, new: tuple[str, ...] = ()
) -> Report:
    """Copy ``state`` into ``module``; return the tensors that the file lacked, and those of it that were not used.

    Args:
        module: a method, or another network that is trained.
        state: official name -> tensor.
        naming: from our names to the official ones.
        source: the file, for errors.
        new: names of parts of ``module`` that the file may lack.

    Raises:
        WsssError: a needed tensor is missing or has another shape.
    """
    own, wanted = module.state_dict(), official_names(module, naming)
    missing = [official for official in wanted if official not in state]
    needed = [name for name in missing if not name.endswith(COUNTER) and not wanted[name].startswith(new)]
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
    """Map official names to ours, for the networks that official files of this kind hold."""
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
