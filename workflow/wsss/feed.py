"""The inputs of a network, made while it runs: by threads, or by processes, so that a GPU need not wait for them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from wsss.children import Disarmed, Watched
from wsss.errors import WsssError
from wsss.loaders import result_or_error, start_loader, want_of_memory
from wsss.pool import ahead

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Made(Dataset[Any], Generic[Item, Result]):
    def __init__(self, job: Callable[[Item], Result], items: Sequence[Item]):
        self.job, self.items = job, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Result | WsssError:
        return result_or_error(self.job, self.items[index])


def _as_it_is(value: Any) -> Any:
    return value


def fed(
    job: Callable[[Item], Result], items: Sequence[Item], loaders: int = 0, threads: int = 1, pin: bool = False
) -> Iterator[Result]:
    """Yield ``job(item)`` of every item, in order, made a few items ahead.

    Args:
        job: the function.
        items: the items.
        loaders: number of loader processes, which changes no result. With 0, threads of this process do the work;
            they share the GIL with the network.
        threads: number of these threads.
        pin: put tensors into memory that a GPU reads without waiting.

    Raises:
        ChildDied: a process died.
        WsssError: the first one that ``job`` raised.
    """
    if not loaders:
        with ThreadPoolExecutor(threads) as executor:
            yield from ahead(executor, job, items)
        return
    loader = DataLoader(
        _Made(job, items),
        batch_size=None,
        num_workers=loaders,
        collate_fn=_as_it_is,
        worker_init_fn=functools.partial(start_loader, os.getpid()),
        pin_memory=pin,
        multiprocessing_context="fork",  # ``job`` need not be pickled; CUDA is not touched there
    )
    with Watched("a process that loads images", want_of_memory(loaders)), Disarmed():
        for made in loader:
            if isinstance(made, WsssError):
                raise made
            yield made
