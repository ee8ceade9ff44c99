"""Processes that load images for trainings and for inference, and the batches that trainings get from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wsss.children import start_child
from wsss.errors import WsssError

if TYPE_CHECKING:
    from wsss.train import Samples

Item = TypeVar("Item")
Result = TypeVar("Result")
Sample = Mapping[str, Any]


def start_loader(parent: int, _: int) -> None:
    """Prepare a loader process: it works in one thread and ends with its parent."""
    torch.set_num_threads(1)
    start_child(parent)


def want_of_memory(loaders: int) -> str:
    """Return the words for what to do when a loader process died."""
    return (
        "probably for want of memory, or of shared memory (df /dev/shm); ask for more memory, or for fewer loader "
        f"processes than {loaders} (--loaders, or snakemake --config loaders=...), and run it again to go on"
    )


def result_or_error(job: Callable[[Item], Result], item: Item) -> Result | WsssError:
    """Return a result, or its error: raised in a loader process, it would come with torch's traceback."""
    try:
        return job(item)
    except WsssError as error:
        return WsssError(str(error))


class Loaded(torch.utils.data.Dataset["Sample | WsssError"]):
    """The samples of a training by (step, place in the batch, index): these and the seed decide all draws."""

    def __init__(self, samples: Samples, seed: int):
        self.samples, self.seed = samples, seed

    def __getitem__(self, key: tuple[int, int, int]) -> Sample | WsssError:
        return result_or_error(self._draw, key)

    def _draw(self, key: tuple[int, int, int]) -> Sample:
        step, slot, index = key
        return self.samples.get(index, np.random.default_rng([self.seed, step, slot]))


def collate(samples: list[Sample | WsssError]) -> dict[str, Any] | WsssError:
    """Stack tensors and arrays; other values (ids) become lists. If a sample is an error, return the first one."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, WsssError):
            return sample
        good.append(sample)
    return {key: _column([sample[key] for sample in good]) for key in good[0]}


def _column(values: list[Any]) -> Tensor | list[Any]:
    if isinstance(values[0], torch.Tensor | np.ndarray):
        return torch.stack([torch.as_tensor(value) for value in values])
    return values
