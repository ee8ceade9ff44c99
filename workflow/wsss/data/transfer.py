"""Downloads of large files over unreliable connections: resumed, verified, and unpacked safely."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import time
import zlib
from pathlib import Path
from typing import Any

import requests
from requests.exceptions import ChunkedEncodingError
from tqdm import tqdm

from wsss.errors import WsssError
from wsss.files import no_room, prepare

ATTEMPTS = 6  # in a row; only the first may have brought new bytes
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
TIMEOUT = (15, 60)  # seconds to connect, and to wait for the next bytes
CHUNK = 1 << 16  # bytes; what a broken connection may cost


class _Interrupted(Exception):
    """A failure that is worth another attempt."""


TRANSIENT = (_Interrupted, requests.ConnectionError, requests.Timeout, ChunkedEncodingError)


def download(url: str, path: Path, checksum: str, size: int | None = None) -> None:
    """Download a file. It gets its name when it is complete and verified.

    The bytes that arrive are kept in ``<path>.part``. The next attempt, or the next run, goes on from there.

    Args:
        url: the address.
        path: the file to write.
        checksum: ``md5:<hex>`` or ``sha256:<hex>``.
        size: number of bytes, if known, for the progress bar until the server tells it.

    Raises:
        WsssError: the server refuses, breaks off repeatedly, or sends other bytes than expected.
    """
    part = path.with_name(f"{path.name}.part")
    prepare(part.parent, folder=True)
    resumed = part.exists()
    _persist(url, part, size)
    if not matches(part, checksum) and resumed:  # what was there before may be the fault
        part.unlink()
        _persist(url, part, size)
    if not matches(part, checksum):
        arrived = part.stat().st_size
        part.unlink()
        cure = "try again later, or set WSSS_MIRROR to a mirror"
        raise WsssError(f"{url}: sent {arrived} bytes that do not match {checksum}; {cure}")
    os.replace(part, path)


def matches(path: Path, checksum: str) -> bool:
    """Compare a file's digest with ``checksum``."""
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected


def _persist(url: str, part: Path, size: int | None) -> None:
    """Attempt the transfer until it is complete. New bytes begin the count of ``ATTEMPTS`` that fail again, at one."""
    failures, furthest = 0, 0
    while True:
        try:
            return _transfer(url, part, size)
        except TRANSIENT as error:
            arrived = part.stat().st_size if part.exists() else 0
            failures = failures + 1 if arrived <= furthest else 1
            furthest = max(furthest, arrived)
            if failures == ATTEMPTS:
                raise WsssError(
                    f"{url}: interrupted {ATTEMPTS} times in a row ({' '.join(str(error).split())[:120]}); "
                    f"run the same command again to go on after {arrived} bytes, or set WSSS_MIRROR to a mirror"
                ) from None
            time.sleep(PAUSE * 2 ** (failures - 1))


def _transfer(url: str, part: Path, size: int | None) -> None:
    """Make one attempt, from the end of ``part`` if the server can, else from the start."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raw.enforce_content_length = False  # else a connection that breaks off takes the last chunk with it
        start, total = _extent(response, part, have)
        if start == total:
            return
        with part.open("ab" if start else "wb") as stream, _bar(part, start, total or size) as shown:
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                shown.update(len(chunk))
            arrived = stream.tell()
    if total is not None and arrived != total:
        raise _Interrupted(f"{arrived} of {total} bytes arrived")


def _extent(response: requests.Response, part: Path, have: int) -> tuple[int, int | None]:
    """Return the byte of the file that the body starts at, and the file's length if the server tells it."""
    status, headers = response.status_code, response.headers
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    known = int(total) if total.isdigit() else None
    if status == 200:  # also from a server that ignores the range
        length = headers.get("Content-Length")
        return 0, int(length) if length else None
    if status == 206 and span.split("-")[0] == str(have):
        return have, known
    if status == 416 and known == have:  # nothing is missing
        return have, have
    if status in (206, 416):  # what is there does not fit what the server has
        part.unlink(missing_ok=True)
        raise _Interrupted("the server's file has changed")
    if status >= 500 or status == 429:
        raise _Interrupted(f"the server answers {status}")
    raise WsssError(f"{response.url}: the server answers {status} {response.reason}; set WSSS_MIRROR to a mirror")


def _bar(part: Path, start: int, total: int | None) -> tqdm[Any]:
    seconds = 0.2 if sys.stderr.isatty() else 30
    return tqdm(
        initial=start, total=total, unit="B", unit_scale=True, desc=part.stem, mininterval=seconds, maxinterval=seconds
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file, compressed or not, into a folder.

    Raises:
        WsssError: the archive is damaged, or a member would leave the folder; the message names it.
    """

    def inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        if member.name.startswith("/") or ".." in Path(member.name).parts:
            raise WsssError(f"{archive}: member '{member.name}' points out of the folder; do not trust this archive")
        try:
            return tarfile.data_filter(member, path)  # no links out of the folder, no devices, no odd permissions
        except tarfile.FilterError as error:
            raise WsssError(f"{archive}: member '{member.name}' is refused ({error}); do not trust it") from None

    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=inside)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        cure = "make room on the disk and run it again" if no_room(error) else "delete it and download it again"
        raise WsssError(f"{archive}: cannot be unpacked ({reason}); {cure}") from None
