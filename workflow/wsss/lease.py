"""One writer per output: the job that makes it holds a lease, a small hidden file beside it.

The lease is created exclusively, which is atomic on NFS as well. Its holder rewrites it every few seconds. Another
writer waits as long as the file keeps changing, by its own clock, so that the clocks of two hosts need not agree. A
lease that does not change belongs to a job that is dead, or cut off: it is taken over. A holder that finds another's
lease in place of its own was cut off, and ends at once.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsss.errors import WsssError
from wsss.provenance import ledger
from wsss.provenance.place import record_path

BEAT = 10.0  # seconds between two signs of life
STALE = 90.0  # seconds without one, after which a holder counts as dead
LOOK = 2.0  # seconds between two looks at another's lease
SAY = 600.0  # seconds between two lines about it


def lease_path(output: str | Path) -> Path:
    """Return the lease of an output: hidden, beside its record."""
    record = record_path(output)
    return record.with_name(f".{record.name.removesuffix('record.json')}lease")


@contextmanager
def leased(output: str | Path) -> Iterator[bool]:
    """Hold the lease of ``output`` in the block. Wait first, as long as another living job holds it.

    Yields:
        Whether there was a wait: another job may have made the output meanwhile.
    """
    path = lease_path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    token, waited = uuid.uuid4().hex, False
    while (stream := _create(path)) is None:
        waited = True
        _wait(path)
    try:
        lease = _Lease(path, token, stream)
    except BaseException:  # no room for its text, without which nobody would know whose it is
        path.unlink(missing_ok=True)
        os.close(stream)
        raise
    try:
        yield waited
    finally:
        lease.release()


def _create(path: Path) -> int | None:
    """Create the file and open it; None if it is there."""
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except FileExistsError:
        return None


def _wait(path: Path) -> None:
    """Wait until a lease is given back, or take it away from a job that is dead."""
    seen, since, said = _read(path), time.monotonic(), -SAY
    while (now := _read(path)) is not None:
        if now != seen:
            seen, since = now, time.monotonic()
        holder = _parsed(now)
        if _gone(holder) or time.monotonic() - since > STALE:
            _take_away(path, holder.get("token"))
            return
        if time.monotonic() - said > SAY:
            said = time.monotonic()
            print(f"{path.parent}: {_words(holder)} works at it; waiting for it to end", file=sys.stderr, flush=True)
        time.sleep(LOOK)


def _take_away(path: Path, stale: str | None) -> None:
    """Remove a stale lease. Jobs pass a gate one at a time and look again, since the lease may be a new one by now."""
    gate, deadline = path.with_name(f"{path.name}.gate"), time.monotonic() + STALE
    while (stream := _create(gate)) is None:
        if time.monotonic() > deadline:  # the job that passed before this one was killed there
            gate.unlink(missing_ok=True)
        time.sleep(LOOK / 10)
    os.close(stream)
    try:
        if _parsed(_read(path)).get("token") == stale:
            path.unlink(missing_ok=True)
    finally:
        gate.unlink(missing_ok=True)


def _gone(holder: dict[str, Any]) -> bool:
    """Tell whether the holder was a process of this machine that is no more."""
    if holder.get("machine") != _machine():
        return False
    return _started(holder["process"]) != holder["process_started"]


def _words(holder: dict[str, Any]) -> str:
    job = f"job {holder['job']}" if holder.get("job") else f"process {holder.get('process', '?')}"
    return f"{job} on {holder.get('host', '?')}, since {holder.get('since', '?')},"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:  # a stale handle of NFS: it was replaced just now
        return b""


def _parsed(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:  # in the middle of a write
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """Return a name for the running kernel and its process namespace; no other pair has the same name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """Return the start of a process of this machine, in the kernel's ticks; None if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class _Lease:
    """A lease that is held. A thread of its own keeps it alive."""

    def __init__(self, path: Path, token: str, stream: int) -> None:
        self.path, self.token, self._stream, self._beats = path, token, stream, 0
        self._about = {
            "token": token,
            "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "machine": _machine() or uuid.uuid4().hex,
            "process": os.getpid(),
            "process_started": _started(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._over = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self._thread.start()

    def release(self) -> None:
        """Give the lease back."""
        self._over.set()
        self._thread.join(BEAT)
        if self._is_ours():
            self.path.unlink(missing_ok=True)
        os.close(self._stream)

    def _live(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):  # a file system that does not answer just now; if it stays away, the lease is lost
                self._beat()
            if not self._is_ours() and not self._over.is_set():
                self._end()

    def _beat(self) -> None:
        """Write to the file that was created, whatever lies at its path now."""
        self._beats += 1
        data = (json.dumps({**self._about, "beat": f"{self._beats:012d}"}) + "\n").encode()
        if os.pwrite(self._stream, data, 0) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fsync(self._stream)

    def _is_ours(self) -> bool:
        found = _read(self.path)
        return found == b"" or _parsed(found).get("token") == self.token

    def _end(self) -> None:
        line = f"{self.path.parent}: another job took it over while this one was cut off, so this one ends"
        print(f"wsss: {line}", file=sys.stderr, flush=True)
        ledger.note("ended", how="failed", why=line)
        os._exit(WsssError.exit_code)
