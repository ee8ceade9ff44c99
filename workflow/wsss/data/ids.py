"""Ids of images, as files, lists and tables spell them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from wsss.errors import WsssError
from wsss.files import read_text

Value = TypeVar("Value")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PAIR = re.compile(
    r"^(?:\S*/)?JPEGImages/(?P<id>.+?)\.(?:jpe?g|png)(?:\s+\S+)?$", re.IGNORECASE
)  # a line of PSA's lists
PRESENCE = re.compile(r"^\S+\s+(?:-1|0|1)$")  # a line of VOC's lists of one class


def read_list(path: Path, known: Collection[str] = ()) -> list[str]:
    """Read the ids in a list: one per line, or lines such as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``.

    Args:
        path: the list.
        known: ids that are taken as they are.

    Raises:
        WsssError: the file cannot be read, has no id, or is a list of one class (each id with 1 or -1).
    """
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); put a list there, or name another") from None
    lines = [line for line in lines if line]
    if lines and all(PRESENCE.match(line) and line not in known for line in lines):
        raise WsssError(
            f"{path}: its lines are an id and 1, 0 or -1, such as '{lines[0]}', as in VOC's lists of a class; "
            "give a list of ids alone"
        )
    if not lines:
        raise WsssError(f"{path}: lists no image; write one id per line, or take the split out of lists")
    return [match["id"] if (match := PAIR.match(line)) else line for line in lines]


@dataclass
class Found:
    """The files of a folder: id -> path from the data set's root. An id is a path in the folder without its suffix."""

    files: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)  # files with another suffix
    twice: list[str] = field(default_factory=list)  # findings: files whose id another one has
    suffixes: Collection[str] = SUFFIXES

    def absence(self, image_id: str, folder: Path, what: str = "listed image") -> str:
        """Return the finding for a listed image that is not there, or for a file (``what``) of another suffix."""
        if image_id in self.others:
            name = Path(self.others[image_id]).name
            suffixes = ", ".join(self.suffixes)
            found = f"{folder}: {what} '{image_id}' is there as '{name}'"
            return f"{found}, and its suffix is none of {suffixes}; convert it"
        has = f"; it has '{next(iter(self.files))}', for example" if self.files else "; it has no picture"
        return f"{folder}: listed image '{image_id}' is not there{has}"


def pictures_in(root: Path, folder: str, suffixes: Collection[str] = SUFFIXES) -> Found:
    """Find the pictures in ``folder`` below ``root``, also in sub-folders and in those that links lead to.

    Raises:
        WsssError: there is no such folder.
    """
    top = root / folder
    if not top.is_dir():
        raise WsssError(f"{top}: no such folder; set it in the options of the data set")
    found = Found(suffixes=suffixes)
    for path in sorted(_files(top)):
        name = path.relative_to(top)
        image_id, below = name.with_suffix("").as_posix(), (Path(folder) / name).as_posix()
        if path.suffix.lower() not in suffixes:
            found.others[image_id] = below
        elif found.files.setdefault(image_id, below) != below:
            found.twice.append(f"{path}: another file has the same id '{image_id}'; rename one of them")
    return found


def _files(top: Path) -> Iterator[Path]:
    seen = set()
    for folder, below, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            below.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


class Ids:
    """The ids of a data set's images. Other spellings are tried in a fixed order; the first that is an id counts.

    Args:
        known: the ids.
        folder: the name of the folder of the images; a spelling may have it, and what is above it, before the id.
    """

    def __init__(self, known: Collection[str], folder: str = ""):
        self.known = set(known)
        self.folder = folder.strip("./")
        self.composed = {_composed(image_id): image_id for image_id in known}

    def find(self, text: str) -> str:
        """Return the id that ``text`` means, or ``text`` itself, stripped, if that is none."""
        for spelling in self._spellings(text.strip()):
            if spelling in self.known:
                return spelling
            if _composed(spelling) in self.composed:
                return self.composed[_composed(spelling)]
        return text.strip()

    def _spellings(self, text: str) -> Iterator[str]:
        """Yield the text as it is, without a picture's suffix, without the folder of the images, and without both."""
        yield text
        path = PurePosixPath(text.replace("\\", "/"))
        bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
        yield bare.as_posix()
        for one in (path, bare):
            parts = one.parts
            if self.folder and self.folder in parts[:-1]:
                yield "/".join(parts[parts.index(self.folder) + 1 :])


def understood(path: Path | None, table: Mapping[str, Value], ids: Ids, images: Collection[str]) -> dict[str, Value]:
    """Return a table keyed by the ids of images in place of the spellings that it has.

    Args:
        path: the file of the table.
        table: what it says of each id as it is written.
        ids: those of the images.
        images: the ids of the listed images, of which the table must know at least one.

    Raises:
        WsssError: two ids of the table mean one image, or none is that of a listed image.
    """
    spelled: dict[str, str] = {}
    for written in table:
        first = spelled.setdefault(ids.find(written), written)
        if first != written:
            raise WsssError(f"{path}: '{first}' and '{written}' are one image, so it occurs twice; remove one of them")
    if table and images and not set(spelled) & set(images):
        raise WsssError(
            f"{path}: no id in it is that of a listed image; it has '{next(iter(table))}', the lists have "
            f"'{next(iter(images))}'; write the ids alike"
        )
    return {image_id: table[written] for image_id, written in spelled.items()}


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
