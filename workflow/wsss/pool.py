"""Work by several processes or threads, with results in order."""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from wsss.errors import WsssError

QUEUED = 3  # items per process that are worked on or waiting to be taken
AHEAD = 4  # results of threads that are ready before they are asked for
Item, Result = TypeVar("Item"), TypeVar("Result")

_job: Callable  # of a worker process


def _start(job: Callable) -> None:
    global _job
    _job = job


def _work(item):
    return _job(item)


def mapped(job: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``job(item)`` of every item, in order, by ``workers`` processes; a bounded number of results waits in memory.

    Each process gets ``job`` once. Where the result of an item depends on it alone, the number of processes changes
    nothing.

    Raises:
        WsssError: a process died.
    """
    if workers == 1:
        yield from map(job, items)
        return
    # a fork starts in no time, but would copy torch's threads in whatever state they are
    context = multiprocessing.get_context("spawn" if "torch" in sys.modules else "fork")
    try:
        with ProcessPoolExecutor(workers, context, _start, (job,)) as pool:
            yield from in_order((pool.submit(_work, item) for item in items), QUEUED * workers - 1)
    except BrokenProcessPool:
        raise WsssError(f"a process died, probably for want of memory; lower --workers from {workers}") from None


def ahead(threads: Executor, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map(job, items)``, a few items ahead of what is asked for: images are decoded while the network is busy."""
    return in_order((threads.submit(job, item) for item in items), AHEAD)


def in_order(futures: Iterable[Future], n: int) -> Iterator:
    """The results of ``futures`` in order, of which at most ``n`` wait."""
    waiting: deque[Future] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) > n:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
