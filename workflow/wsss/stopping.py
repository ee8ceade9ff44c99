"""Signals that ask a training to end: it finishes its step first."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class OnStop:
    """Remember SIGTERM and SIGINT, so that the loop can finish its step and write a checkpoint.

    An object is true once a signal has come. A further Ctrl-C ends the process at once. A further SIGTERM is ignored,
    since clusters send several.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> OnStop:
        self._before = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in zip(self.SIGNALS, self._before, strict=True):
            if self._asked and number == signal.SIGTERM:
                continue
            signal.signal(number, before)
