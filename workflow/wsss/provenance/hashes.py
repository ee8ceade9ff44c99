"""Digests of files for an audit: several threads, a cache, and no file opened that was not declared.

A file is opened if it is a regular file and lies, all links followed, below a declared root. Devices, pipes and folders
are recognised by ``lstat``, so they are never opened. The cache knows a file by its path, size, times and inode. One of
these is the change time, which cannot be set. So a file that was edited and given its old time is read again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

BLOCK = 2**20
LARGEST = 2**36  # bytes of a file whose size no record says
SETTLED = 2 * 10**9  # nanoseconds after which a file can be trusted not to change under its old time
THREADS = min(8, os.cpu_count() or 1)
KINDS = (
    *((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe")),
    *((stat.S_ISSOCK, "a socket"), (stat.S_ISLNK, "a link that leads nowhere")),
)
OF_THE_KERNEL = ("/proc/", "/sys/", "/dev/")  # where what looks like a file may be a stream that reading empties
IN_MEMORY = "/dev/shm/"  # where a cluster may hold images
ASKED = 500  # paths that the cache is asked for at once


@dataclass(frozen=True)
class Seen:
    """All that is known of a file.

    Args:
        sha256: its digest; None where it was not read.
        size: in bytes; None where there is no file.
        why: the reason why it was not read.
    """

    sha256: str | None = None
    size: int | None = None
    why: str | None = None

    @property
    def missing(self) -> bool:
        """Tell whether there is no such file."""
        return self.size is None and self.why is None


Stamp = tuple[int, int, int, int]  # size, mtime, ctime, inode


class Hasher:
    """Reads files below declared roots, each once.

    Args:
        roots: folders, or single files, below which files may be read. Links in them are followed.
        cold: read every file, whatever the cache says.
    """

    def __init__(self, roots: Iterable[str | Path], cold: bool = False):
        self.roots: set[str] = set()
        self.read = 0  # files that were really read
        self._seen: dict[str, Seen] = {}
        self._folders: dict[str, str] = {}  # folder -> itself with all links followed
        self._allowed: dict[str, bool] = {}  # folder, links followed -> it lies below a root
        self._cache = _Cache(cold)
        for root in roots:
            self.declare(root)

    def declare(self, root: str | Path) -> None:
        """Add a folder, or a single file, that may be read."""
        self.roots.add(os.path.realpath(root))
        self._allowed.clear()

    def see(self, path: str | Path) -> Seen:
        """Collect all that is known of a file."""
        self.see_all({str(path): None})
        return self._seen[str(path)]

    def see_all(self, sizes: Mapping[str, int | None]) -> None:
        """Look at many files at once, in several threads.

        Args:
            sizes: path -> the size it should have, or None. A file of another size need not be read.
        """
        to_read: list[tuple[str, str, Stamp]] = []
        looked = {path: self._look(path) for path in sizes if path not in self._seen}
        self._cache.recall(found[0] for found in looked.values() if not isinstance(found, Seen))
        for path, found in looked.items():
            size = sizes[path]
            if isinstance(found, Seen):
                self._seen[path] = found
            elif size is not None and found[1][0] != size:
                self._seen[path] = Seen(None, found[1][0], f"has {found[1][0]} bytes, not {size}")
            elif size is None and found[1][0] > LARGEST:
                self._seen[path] = Seen(None, found[1][0], f"has {found[1][0]} bytes, more than are read")
            elif (known := self._cache.get(found[0], found[1])) is not None:
                self._seen[path] = Seen(known, found[1][0])
            else:
                to_read.append((path, *found))
        if len(to_read) < 2:
            read = [_digest(real, stamp) for _, real, stamp in to_read]
        else:
            with ThreadPoolExecutor(THREADS) as pool:
                read = list(pool.map(_digest, [real for _, real, _ in to_read], [stamp for *_, stamp in to_read]))
        for (path, real, stamp), seen in zip(to_read, read, strict=True):
            self._seen[path] = seen
            self.read += 1
            if seen.sha256:
                self._cache.put(real, stamp, seen.sha256)

    def text(self, path: str | Path, most: int) -> bytes | Seen:
        """Return the bytes of a small file, or why it was not read."""
        found = self._look(str(path))
        if isinstance(found, Seen):
            return found
        if found[1][0] > most:
            return Seen(None, found[1][0], f"has {found[1][0]} bytes, more than such a file has")
        try:
            with open(_open(found[0]), "rb") as stream:
                return stream.read(most)
        except OSError as error:
            return Seen(None, found[1][0], f"cannot be read ({error.strerror})")

    def close(self) -> None:
        """Keep what was read for the next audit."""
        self._cache.save()

    def _look(self, path: str) -> Seen | tuple[str, Stamp]:
        """Return the real path and the stamp of a file that may be read, else what there is of it."""
        try:
            real, found = self._found(path)
        except FileNotFoundError:
            return Seen(None, None, "is a link to nothing") if os.path.islink(path) else Seen()
        except NotADirectoryError:
            return Seen()
        except (OSError, ValueError) as error:
            return Seen(None, None, f"cannot be read ({getattr(error, 'strerror', None) or error})")
        if not self._declared(real):
            return Seen(None, found.st_size, "leads out of the results to what no record declares; it was not opened")
        if real.startswith(OF_THE_KERNEL) and not real.startswith(IN_MEMORY):
            return Seen(None, found.st_size, "is the kernel's, not a file of data; it was not opened")
        if not stat.S_ISREG(found.st_mode):
            kind = next((words for is_one, words in KINDS if is_one(found.st_mode)), "a device")
            return Seen(None, found.st_size, f"is {kind}, not a file; it was not opened")
        return real, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def _found(self, path: str) -> tuple[str, os.stat_result]:
        """Return the real path of a file and what it is. Links in the path of a folder are followed once.

        Raises:
            OSError, ValueError: there is no such file, or none can have this name.
        """
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        found = os.lstat(real)
        if name in ("", ".", "..") or stat.S_ISLNK(found.st_mode):
            real = os.path.realpath(path)
            found = os.lstat(real)
        return real, found

    def _declared(self, real: str) -> bool:
        if real in self.roots:
            return True
        folder = os.path.dirname(real)
        if folder not in self._allowed:
            self._allowed[folder] = any(part in self.roots for part in _upwards(folder))
        return self._allowed[folder]


def _upwards(folder: str) -> Iterator[str]:
    """Yield an absolute folder and all that it lies in."""
    yield folder
    while folder != (above := os.path.dirname(folder)):
        folder = above
        yield folder


def _open(real: str) -> int:
    """Open a regular file without waiting for anything, and without following a link that has come in its place."""
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "is no file")
    return descriptor


def _digest(real: str, stamp: Stamp) -> Seen:
    found, size = hashlib.sha256(), 0
    try:
        with open(_open(real), "rb", buffering=0) as stream:
            while block := stream.read(BLOCK):
                found.update(block)
                size += len(block)
                if size > stamp[0]:
                    return Seen(None, size, "grows while it is read; try again when the job is done")
    except OSError as error:
        return Seen(None, stamp[0], f"cannot be read ({error.strerror})")
    return Seen(found.hexdigest(), size)


def cache_folder() -> Path:
    """Return the folder of the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsss"


class _Cache:
    """Digests that earlier audits found. Without a place to keep them there are none."""

    def __init__(self, cold: bool):
        self._cold = cold
        self._new: list[tuple[str, int, int, int, int, str]] = []
        self._known: dict[str, tuple[Stamp, str]] = {}

    def recall(self, paths: Iterable[str]) -> None:
        """Look up what is known of files: of these alone, since the cache may know those of many results."""
        wanted = [] if self._cold else list(paths)
        if not wanted:
            return
        columns = "path, size, mtime, ctime, inode, sha256"
        try:
            with closing(self._connect()) as database:
                for start in range(0, len(wanted), ASKED):
                    some = wanted[start : start + ASKED]
                    marks = ", ".join("?" * len(some))
                    rows = database.execute(f"SELECT {columns} FROM hashes WHERE path IN ({marks})", some)
                    self._known |= {path: (tuple(stamp), sha256) for path, *stamp, sha256 in rows}
        except (sqlite3.Error, OSError, RuntimeError, UnicodeError):
            self._cold = True

    def _connect(self) -> sqlite3.Connection:
        cache_folder().mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(cache_folder() / "hashes.sqlite", timeout=5)
        columns = "path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, inode INT, sha256 TEXT"
        database.execute(f"CREATE TABLE IF NOT EXISTS hashes ({columns})")
        return database

    def get(self, path: str, stamp: Stamp) -> str | None:
        known = self._known.get(path)
        return known[1] if known and known[0] == stamp else None

    def put(self, path: str, stamp: Stamp, sha256: str) -> None:
        if time.time_ns() - max(stamp[1], stamp[2]) > SETTLED:
            self._new.append((path, *stamp, sha256))

    def save(self) -> None:
        if not self._new:
            return
        try:
            with closing(self._connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", self._new)
        except (sqlite3.Error, OSError, RuntimeError, UnicodeError):
            pass
        self._new.clear()
