"""Child processes: they end with their parent, and the parent does not wait for one that died."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import TracebackType

from wsss.errors import ChildDied, WsssError
from wsss.provenance import ledger

PR_SET_PDEATHSIG = 1  # sys/prctl.h
LOOK_EVERY = 0.05  # seconds between two looks; a child that dies before the first look is never known
SOON = 2.0  # seconds within which a child that broke a connection is dead
PATIENCE = 20.0  # seconds in which a parent may end by itself after a child died; it may hang, waiting for it


def start_child(parent: int) -> None:
    """Make this process end with its parent, and leave signals to the parent.

    A cluster and a terminal send SIGTERM and SIGINT to all processes of a job. The parent answers them, and needs its
    children while it does.

    Args:
        parent: the parent's process id.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Keep SIGTERM and SIGINT from children that are started in this block, even before they call :func:`start_child`.

    A signal that comes meanwhile reaches this process at the end of the block.
    """
    resource_tracker.ensure_running()  # it lets signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, in whatever way. Only Linux can do that."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the kernel was told
            os._exit(1)


class Disarmed:
    """Remove torch's handler of SIGCHLD at the end of a block that is nested in a :class:`Watched` one.

    When a loader dies, the handler raises wherever the main thread is. If that were in the ``__exit__`` of ``Watched``,
    it could not turn the error into one line any more.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _disarm()


def _disarm() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Watched:
    """Watch the children of this process in a block, and end the block with one line when one of them dies.

    A parent may wait for ever for a child that died while it held a lock. If the parent has not ended ``PATIENCE``
    seconds later, it is ended from here.

    Args:
        what: the words for a child.
        cure: what to do when one dies.
    """

    def __init__(self, what: str, cure: str) -> None:
        self._what, self._cure = what, cure
        self._seen: set[BaseProcess] = set()
        self._others: set[BaseProcess] = set(multiprocessing.active_children())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="children")

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._over.set()
            return
        _disarm()
        how = self._death() if isinstance(error, WsssError) else self._death_within(SOON)
        self._kill()  # they leave signals to this process, which would wait for them on its way out
        self._over.set()
        if how and isinstance(error, Exception) and not isinstance(error, WsssError):
            raise ChildDied(self._line(how)) from None

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            if (how := self._death()) is None:
                continue
            if not self._over.wait(PATIENCE):
                print(f"wsss: {self._line(how)}", file=sys.stderr, flush=True)
                ledger.note("ended", how="failed", why=self._line(how))
                self._kill()
                os._exit(WsssError.exit_code)
            return

    def _death_within(self, seconds: float) -> str | None:
        """Tell how a child died; wait for it, since its connections are closed before it counts as dead."""
        deadline = time.monotonic() + seconds
        while (how := self._death()) is None and self._seen and time.monotonic() < deadline:
            time.sleep(0.05)
        return how

    def _death(self) -> str | None:
        """Tell how a child died, if one did."""
        self._seen.update(set(multiprocessing.active_children()) - self._others)
        for child in list(self._seen):
            if child.exitcode:
                return f"signal {-child.exitcode}" if child.exitcode < 0 else f"exit code {child.exitcode}"
        return None

    def _kill(self) -> None:
        for child in list(self._seen):
            if child.exitcode is None:
                child.kill()

    def _line(self, how: str) -> str:
        return f"{self._what} died ({how}); {self._cure}"
