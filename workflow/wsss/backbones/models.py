"""``model.pt``: the state dict of a trained network, as our trainings write it and every later stage reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from wsss.errors import WsssError
from wsss.files import atomic

Network = TypeVar("Network", bound=nn.Module)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write tensors with ``torch.save``; through a stream, because a file name would become part of the bytes."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())  # a node that crashes after the renaming must not leave an empty file


def save_model(network: nn.Module, path: Path) -> Path:
    """Write the state dict of ``network``; returns ``path``.

    Raises:
        WsssError: a value is no finite number, as after an update that was too large.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    if (name := _not_finite(state)) is not None:
        raise WsssError(
            f"{path}: not written, because '{name}' is not all finite numbers; train with a smaller learning rate "
            "(optimizer.lr of this training), or give other weights"
        )
    save_state(state, path)
    return path


def _not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that is not all finite numbers."""
    return next((name for name, value in state.items() if not torch.isfinite(value).all()), None)


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Tell whether a part of a file is a tensor with a number at each place: neither sparse, quantised nor ``meta``."""
    if not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def load_model(network: Network, path: str | Path, expected: str) -> Network:
    """Fill ``network`` from ``path``; returns it in evaluation mode and channels-last, which is fastest on a CPU, too.

    Raises:
        WsssError: see :func:`fill`.
    """
    filled = fill(network, path, expected).eval()
    filled.to(memory_format=torch.channels_last)
    return filled


def fill(network: Network, path: str | Path, expected: str, new: tuple[str, ...] = ()) -> Network:
    """Fill ``network`` from a ``model.pt``, every tensor but those of ``new`` parts that the file lacks; returns it.

    Raises:
        WsssError: the file cannot be read, holds things other than tensors, its tensors are not those of ``network``,
            or not all finite numbers; the line describes the network by ``expected``.
    """
    own, state = network.state_dict(), _read(path)
    needed = [name for name in own if name in state or not name.startswith(new)]
    wrong = [name for name in needed if name not in state or state[name].shape != own[name].shape]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise WsssError(
            f"{path}: not a model of this configuration ({expected}): {len(wrong)} tensors differ, first "
            f"'{wrong[0]}'; train it with these settings, or use the settings it was trained with"
        )
    if (name := _not_finite(state)) is not None:
        raise WsssError(
            f"{path}: '{name}' is not all finite numbers, so its training went wrong; train it again with a smaller "
            "learning rate"
        )
    network.load_state_dict({**own, **state})
    return network


def _read(path: str | Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WsssError(f"{path}: no such model; train it first") from None
    except Exception as error:  # a damaged file can fail in any way; the cure is the same
        reason = " ".join(str(error).split())[:120]
        cure = "give the model.pt of a training, or make it anew"
        raise WsssError(f"{path}: not a readable model ({reason}); {cure}") from None
    if not isinstance(state, dict) or not all(is_plain(value) for value in state.values()):
        raise WsssError(f"{path}: not a model: it holds more than named tensors; give the model.pt of a training")
    return state
