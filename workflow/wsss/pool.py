"""Work by several processes or threads, with results in order."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from wsss.children import signals_held, start_child
from wsss.errors import WsssError

QUEUED = 3  # items per process that are worked on or waiting to be taken
AHEAD = 4  # results of threads that are ready before they are needed
Item = TypeVar("Item")
Result = TypeVar("Result")

_job: Callable[[Any], Any]  # of a worker process


def _start(parent: int, job: Callable[[Any], Any]) -> None:
    global _job
    start_child(parent)
    _job = job


def _work(item: Any) -> Any:
    return _job(item)


def _submit(pool: Executor, item: Any) -> Future[Any]:
    with signals_held():  # a process may start here
        return pool.submit(_work, item)


def mapped(job: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield ``job(item)`` of every item, in order, from several processes.

    Each process gets ``job`` once. If a result depends on its item alone, the number of processes changes nothing.

    Args:
        job: the function, which can be pickled.
        items: the items. They are taken a few at a time, so that a bounded number of results waits in memory.
        workers: number of processes. With 1 the work is done in this one.

    Raises:
        WsssError: a process died.
    """
    if workers == 1:
        yield from map(job, items)
        return
    # a fork starts in no time, but would copy torch's threads in whatever state they are
    context = multiprocessing.get_context("spawn" if "torch" in sys.modules else "fork")
    pool = ProcessPoolExecutor(workers, context, _start, (os.getpid(), job))
    try:
        yield from in_order((_submit(pool, item) for item in items), QUEUED * workers - 1)
    except BrokenProcessPool:
        cure = f"give it more, or let fewer than {workers} processes work (--workers, snakemake --config workers=...)"
        raise WsssError(f"a process died, probably for want of memory; {cure}") from None
    except BaseException:  # Ctrl-C, or an error: what they work on is of no use any more
        for process in list(pool._processes.values()):
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(threads: Executor, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``job(item)`` of every item, in order, a few items ahead, to decode images while the network runs."""
    return in_order((threads.submit(job, item) for item in items), AHEAD)


def in_order(futures: Iterable[Future[Result]], n: int) -> Iterator[Result]:
    """Yield the results of ``futures`` in order; at most ``n`` of them wait."""
    waiting: deque[Future[Result]] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) > n:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
