"""Read any weight file as one flat ``name -> tensor`` dict. Nothing in a file can run: see :func:`_load_torch`."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from wsss.backbones import efficientnet, mxnet
from wsss.backbones.models import is_plain
from wsss.errors import WsssError
from wsss.files import INSTALLED

# Entries of a checkpoint that hold a state dict, and the prefix their tensors get: Lightning (ACR), EADER.
NESTED = {"state_dict": "", "model": "", "localizer": "localizer.", "adversarial": "adversarial."}
SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".params")  # of weight files in packages


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a weight file of any known format; the format is recognised by its content.

    Known: torch files (old and zip) with a state dict, Lightning checkpoints (ACR), EADER's checkpoints (names get the
    prefix ``localizer.`` or ``adversarial.``), MXNet ``.params`` of ResNet38d (names become those of its torch files),
    EfficientNets of their first port (names become timm's). ``package:<name>`` is the file that an installed package
    carries. The wrapper prefix ``module.`` is removed; whatever is not a tensor is dropped.

    Raises:
        WsssError: the file is absent, damaged or no weight file; the message names it.
    """
    path = located(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise WsssError(
            f"{path}: cannot be read ({error.strerror}); put the weights there or correct the path"
        ) from None
    if mxnet.is_params(head):
        return {mxnet.resnet38d_name(name): array for name, array in mxnet.read_params(path).items()}
    state = _flatten(_load_torch(path))
    if not state:
        raise WsssError(f"{path}: holds no tensors; not a weight file")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if efficientnet.is_port(state):
        names = efficientnet.timm_names(state)
        state = {names[name]: tensor for name, tensor in state.items()}
    return state


def located(path: str | Path) -> Path:
    """Return the path of a weight file; ``package:<name>`` is the one file in an installed package.

    The package is imported, so that the record of a job names its version.

    Raises:
        WsssError: the package is not installed, or carries no or several weight files.
    """
    if not str(path).startswith(INSTALLED):
        return Path(path)
    name = str(path).removeprefix(INSTALLED).replace("-", "_")
    try:
        module = import_module(name) if name.isidentifier() else None
    except ImportError:
        module = None
    folders = list(getattr(module, "__path__", ()))
    if not folders:
        raise WsssError(f"{path}: no such package is installed; install it, for example with the extra wsss[weights]")
    files = sorted(file for folder in folders for file in Path(folder).rglob("*") if file.suffix in SUFFIXES)
    if len(files) != 1:
        raise WsssError(f"{path}: the package carries {len(files)} weight files, not one; name a file instead")
    return files[0]


class Inert:
    """Stands in for every class or function a checkpoint names besides tensors and containers. It does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _load_torch(path: Path) -> object:
    """Unpickle with torch's restricted unpickler, which imports nothing.

    Checkpoints of training frameworks name further globals (``argparse.Namespace``, callbacks). They are listed by
    disassembling the file and admitted as :class:`Inert`, so nothing of them is ever imported or called. Lightning's
    ``AttributeDict`` is read as the dictionary it is. torch refuses globals of ``os``, ``sys`` and ``posix`` anyway.
    Files of torch < 1.6 are no zip archives; there any global besides tensors and containers is refused.
    """
    try:
        foreign = get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        stand_ins: list[Any] = [(OrderedDict if name.endswith(".AttributeDict") else Inert, name) for name in foreign]
        with safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unusual pickle protocol is no news to the user
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can fail in any way; none of them may show a traceback
        raise WsssError(f"{path}: {_fault(path, error)}") from None


def _fault(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that torch could not read, and what helps."""
    with path.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    if not head:
        return "is empty; download it again"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights; download it in a browser, where the page asks for a confirmation"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not weights; fetch the file with git lfs pull"
    if head.startswith(b"pk\x03\x04") and not zipfile.is_zipfile(path):
        return "ends too early; download it again"
    return f"not a weight file that can be read safely ({_reason(error)}); download it again or name another"


def _reason(error: Exception) -> str:
    """Return the one informative sentence of torch's long messages."""
    text = str(error)
    text = text.partition("WeightsUnpickler error:")[2] or text.partition("\n\n")[2] or text
    sentence = re.split(r"\. |\n", text.strip())[0].strip(". ")
    return sentence[:200] or type(error).__name__


def _flatten(checkpoint: object) -> dict[str, Tensor]:
    if not isinstance(checkpoint, dict):
        return {}
    state = {}
    for name, prefix in NESTED.items():
        if isinstance(checkpoint.get(name), dict):
            state.update({f"{prefix}{key}": value for key, value in checkpoint[name].items()})
    entries = state or checkpoint
    return {str(key): value.detach() for key, value in entries.items() if is_plain(value)}
