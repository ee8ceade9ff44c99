"""Two networks that are trained alternately: one learns, the other is held still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def waiting(network: Network, training: bool = False) -> Iterator[Network]:
    """Hold ``network`` in evaluation mode (unless ``training``) in the block, with its parameters as constants.

    A gradient passes through to its input. A graph that was recorded in the block stays valid after it.
    """
    before = network.training
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.train(training and before)
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield network
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        network.train(before)
