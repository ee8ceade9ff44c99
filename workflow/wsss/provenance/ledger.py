"""The attempts at a result: one line of JSON each time something happens to one, never rewritten.

The ledger lies beside the result, as ``attempts.jsonl`` or ``<stem>.attempts.jsonl``. It outlives a failed job, which
leaves no record. A training loop notes in it where it went on. All processes of a job find the ledger through the
environment, so they write to the same one.
"""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LEDGER = "WSSS_LEDGER"  # environment: the ledger of the running job
BASIS = "WSSS_BASIS"  # environment: digest of the inputs and the code of the running job
NAME = "attempts.jsonl"


def ledger_path(record: str | Path) -> Path:
    """Return the ledger beside a record."""
    record = Path(record)
    return record.with_name(record.name.removesuffix("record.json") + NAME)


def basis() -> str:
    """Return the digest of the inputs and the code of the running job; empty outside a job.

    A checkpoint is of use to a job of the same basis only.
    """
    return os.environ.get(BASIS, "")


def note(event: str, **more: Any) -> None:
    """Add a line to the ledger of the running job; outside a job nothing happens.

    Args:
        event: ``started``, ``resumed``, ``lacks GPU`` or ``ended``.
        more: what else there is to say, such as ``step=500``.
    """
    if ledger := os.environ.get(LEDGER):
        append(ledger, event, **more)


def append(ledger: str | Path, event: str, **more: Any) -> None:
    """Add a line to a ledger, all of it or, on a full disk, nothing.

    Raises:
        OSError: it cannot be written.
    """
    line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="seconds"), "process": os.getpid(), **more}
    data = (json.dumps(line, sort_keys=True) + "\n").encode()
    with Path(ledger).open("ab", buffering=0) as stream:
        before = os.fstat(stream.fileno()).st_size
        try:
            whole = stream.write(data) == len(data)
        except OSError:
            whole = False
        if not whole:
            os.ftruncate(stream.fileno(), before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(ledger))
