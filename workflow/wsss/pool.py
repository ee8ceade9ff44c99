"""Work on the CPU by several processes, with results in order."""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from wsss.errors import WsssError

QUEUED = 3  # items per process that are worked on or waiting to be taken
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
    waiting: deque = deque()
    try:
        with ProcessPoolExecutor(workers, context, _start, (job,)) as pool:
            for item in items:
                waiting.append(pool.submit(_work, item))
                if len(waiting) >= QUEUED * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WsssError(f"a process died, probably for want of memory; lower --workers from {workers}") from None
