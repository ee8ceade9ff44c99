"""Any weight file as one flat ``name -> tensor`` dict. Nothing in a file can run: see :func:`_load_torch`."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from wsss.backbones import mxnet
from wsss.errors import WsssError

# Entries of a checkpoint that hold a state dict, and the prefix their tensors get: Lightning (ACR), EADER.
NESTED = {"state_dict": "", "model": "", "localizer": "localizer.", "adversarial": "adversarial."}


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read a weight file of any known format; the format is recognised by its content.

    Known: torch files (old and zip) with a state dict, Lightning checkpoints (ACR), EADER's checkpoints (names get the
    prefix ``localizer.`` or ``adversarial.``), MXNet ``.params`` of ResNet38d (names become those of its torch files).
    The wrapper prefix ``module.`` is removed; whatever is not a tensor is dropped. Errors: one line naming the file.
    """
    path = Path(path)
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
    return state


class Inert:
    """Stands in for every class or function a checkpoint names beside tensors and containers. It does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _load_torch(path: Path) -> object:
    """Unpickle with torch's restricted unpickler, which imports nothing.

    Checkpoints of training frameworks name further globals (``argparse.Namespace``, callbacks). They are listed by
    disassembling the file and admitted as :class:`Inert`, so nothing of them is ever imported or called. Lightning's
    ``AttributeDict`` is read as the dictionary it is. torch refuses globals of ``os``, ``sys`` and ``posix`` anyway.
    Files of torch < 1.6 are no zip archives; there any global beside tensors and containers is refused.
    """
    try:
        foreign = get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        stand_ins = [(OrderedDict if name.endswith(".AttributeDict") else Inert, name) for name in foreign]
        with safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unusual pickle protocol is no news to the user
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can fail in any way; none of them may show a traceback
        raise WsssError(f"{path}: not a weight file that can be read safely ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """The one informative sentence of torch's long messages."""
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
            state.update({prefix + key: value for key, value in checkpoint[name].items()})
    entries = state or checkpoint
    return {str(key): value.detach() for key, value in entries.items() if isinstance(value, Tensor)}
