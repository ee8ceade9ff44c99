"""The index of a data set: one table with the labels and hashes of every image.

``index.csv`` has one row per image. ``dataset.json`` has the name, the foreground classes and the folder that the paths
in the table start from. All stages read images through this table; none looks at the layout of a data set.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wsss.data import masks, pictures
from wsss.errors import WsssError, choose
from wsss.files import atomic, read_json, write_json
from wsss.stores import IGNORE

SEPARATOR = ";"  # between the names of a cell


@dataclass(frozen=True)
class Record:
    """One image: a row of ``index.csv``."""

    id: str
    image: str  # path, from the data set's root
    mask: str | None  # path, from the data set's root
    split: tuple[str, ...]
    labels: tuple[str, ...]  # class names
    width: int
    height: int
    sha256: str
    mask_sha256: str | None
    instances: str | None = None  # path of the mask whose values are objects, from the data set's root
    instances_sha256: str | None = None

    def row(self) -> dict[str, str]:
        """Return the record as text cells, by column."""
        cells = {key: "" if value is None else value for key, value in asdict(self).items()}
        return {k: SEPARATOR.join(v) if isinstance(v, tuple) else str(v) for k, v in cells.items()}

    @classmethod
    def from_row(cls, row: dict[str, str]) -> Record:
        """Make a record from text cells, by column."""
        names = {key: tuple(filter(None, row[key].split(SEPARATOR))) for key in ("split", "labels")}
        given = {key: row[key] or None for key in ("mask", "mask_sha256")}
        given |= {key: row.get(key) or None for key in OPTIONAL}
        size = {"width": int(row["width"]), "height": int(row["height"])}
        values: dict[str, Any] = {**row, **names, **given, **size}
        return cls(**values)


COLUMNS = [field.name for field in fields(Record)]
OPTIONAL = ("instances", "instances_sha256")  # columns that only data sets with masks of objects have


class Dataset:
    """Images with image-level labels and, for some, masks.

    Args:
        name: the data set's name in tables and figures.
        classes: names of the ``C`` foreground classes; class ``c`` has the value ``c + 1`` in masks.
        root: the folder that the records' paths start from.
        records: one per image, in order.
    """

    def __init__(self, name: str, classes: Sequence[str], root: str | Path, records: Sequence[Record]):
        self.name, self.classes, self.root, self.records = name, list(classes), Path(root), list(records)

    @classmethod
    def load(cls, folder: str | Path) -> Dataset:
        """Read ``index.csv`` and ``dataset.json`` of a folder.

        Raises:
            WsssError: a file is missing, or is no index.
        """
        folder = Path(folder)
        about = read_json(folder / "dataset.json")
        path = folder / "index.csv"
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                records = [Record.from_row(row) for row in csv.DictReader(stream)]
            return cls(about["name"], about["classes"], folder / about["root"], records)
        except FileNotFoundError:
            raise WsssError(f"{path}: no such file; run `wsss index`") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WsssError(f"{path}: not an index of this project ({error}); run `wsss index` again") from None

    def save(self, folder: str | Path) -> None:
        """Write ``index.csv`` and ``dataset.json``. A root that is relative or in ``folder`` is kept relative to it."""
        folder = Path(folder)
        below = self.root.resolve().is_relative_to(folder.resolve())
        near = below or not self.root.is_absolute()
        root = os.path.relpath(self.root.resolve(), folder.resolve()) if near else self.root
        with atomic(folder / "index.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            used = [key for key in COLUMNS if key not in OPTIONAL or any(getattr(r, key) for r in self.records)]
            table = csv.DictWriter(stream, used, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(record.row() for record in self.records)
        write_json(folder / "dataset.json", {"name": self.name, "classes": self.classes, "root": Path(root).as_posix()})

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> list[str]:
        """The ids of the images, in order."""
        return [record.id for record in self.records]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the images, in order."""
        return [(record.height, record.width) for record in self.records]

    def _with(self, records: list[Record]) -> Dataset:
        return Dataset(self.name, self.classes, self.root, records)

    def split(self, name: str) -> Dataset:
        """Choose the images of a split.

        Raises:
            WsssError: no image is in the split.
        """
        chosen = [record for record in self.records if name in record.split]
        if not chosen:
            known = sorted({split for record in self.records for split in record.split})
            raise WsssError(f"data set '{self.name}' has no image in split '{name}': choose one of {', '.join(known)}")
        return self._with(chosen)

    def without(self, other: Dataset) -> Dataset:
        """Choose the images that ``other`` does not have."""
        return self._with([record for record in self.records if record.id not in other._by_id])

    def part(self, name: str, splits: Mapping[str, str]) -> Dataset:
        """Choose the images of a role, or a part of them.

        Args:
            name: ``train``, ``measured``, ``val`` or ``test``; or ``rest``, the training images that are not measured.
            splits: role -> split of the index. The part ``test`` is the split of that name.

        Raises:
            WsssError: there is no such part, or it has no image.
        """
        known = {**splits, "test": "test", "rest": splits["train"]}
        chosen = self.split(choose(known, name, "part of the images"))
        return chosen.without(self.split(splits["measured"])) if name == "rest" else chosen

    def shard(self, i: int, n: int) -> Dataset:
        """Choose the ``i``-th of ``n`` interleaved parts of the images, counted from 0."""
        return self._with(self.records[i::n])

    def labels(self) -> np.ndarray:
        """Return the image-level labels, ``N×C`` float32 of 0 and 1, in the order of ``records``.

        Raises:
            WsssError: a label is no class; the message names the image.
        """
        column = {name: c for c, name in enumerate(self.classes)}
        labels = np.zeros((len(self.records), len(self.classes)), np.float32)
        for row, record in zip(labels, self.records, strict=True):
            if unknown := set(record.labels) - set(column):
                label = min(unknown)
                raise WsssError(f"index of data set '{self.name}': image '{record.id}' has the unknown label '{label}'")
            row[[column[name] for name in record.labels]] = 1
        return labels

    @cached_property
    def _by_id(self) -> dict[str, Record]:
        return {record.id: record for record in self.records}

    def record(self, image_id: str) -> Record:
        """Return the record of an image.

        Raises:
            WsssError: there is no such image.
        """
        if image_id not in self._by_id:
            raise WsssError(f"data set '{self.name}' has no image '{image_id}' here")
        return self._by_id[image_id]

    def image(self, image_id: str) -> np.ndarray:
        """Read an image, ``H×W×3`` uint8 RGB.

        Raises:
            WsssError: there is no such image, or its file cannot be read.
        """
        path = self.root / self.record(image_id).image
        return pictures.rgb(pictures.opened(path), path)

    def of_one_size(self, chosen: Sequence[int]) -> list[np.ndarray]:
        """Read the images at the places ``chosen`` of ``records``, ``H×W×3`` uint8 RGB each.

        Raises:
            WsssError: one cannot be read, or several differ in size; the message names it.
        """
        pixels = [self.image(self.records[i].id) for i in chosen]
        self.check_sizes(chosen, pixels)
        return pixels

    def check_sizes(self, chosen: Sequence[int], arrays: Sequence[Any]) -> None:
        """Refuse arrays of images that have one size in the index, but not in their files.

        Raises:
            WsssError: the index does not fit the images; the message names one.
        """
        for i, array in zip(chosen, arrays, strict=True):
            if array.shape != arrays[0].shape:
                record, first = self.records[i], self.records[chosen[0]]
                raise WsssError(
                    f"images '{first.id}' and '{record.id}' are of one size by their index, but not by their files: "
                    "one changed since; restore it, or run `wsss index` again"
                )

    def mask(self, image_id: str) -> np.ndarray:
        """Read the mask of an image, ``H×W`` uint8: 0 background, c + 1 class, 255 ignore.

        Raises:
            WsssError: the image has no mask, or the file cannot be read.
        """
        path = self.record(image_id).mask
        return self._indices(image_id, path, len(self.classes), "has no mask; use a split that has masks")

    def instances(self, image_id: str) -> np.ndarray:
        """Read the mask of an image's objects, ``H×W`` uint8: 0 background, 1, 2, ... objects, 255 ignore.

        Raises:
            WsssError: the image has no such mask, or the file cannot be read.
        """
        return self._indices(image_id, self.record(image_id).instances, IGNORE - 1, "has no mask of its objects")

    def _indices(self, image_id: str, path: str | None, highest: int, lacking: str) -> np.ndarray:
        if path is None:
            raise WsssError(f"image '{image_id}' of data set '{self.name}' {lacking}")
        return masks.values(pictures.opened(self.root / path), highest)
