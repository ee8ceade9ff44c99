"""Image-level labels in the formats of data sets: XML annotations, CSV, or a released ``cls_labels.npy``."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

import numpy as np

from wsss.data.index import SEPARATOR
from wsss.errors import WsssError

Labels = dict[str, tuple[str, ...]]  # image id -> class names


def from_xml(folder: Path, ids: Iterable[str]) -> Labels:
    """Read the class names of all objects in ``folder/<id>.xml``. "Difficult" objects count, as in PSA's labels.

    An image without a file has no entry.

    Raises:
        WsssError: a file is not valid XML.
    """
    labels = {}
    for image_id in ids:
        path = folder / f"{image_id}.xml"
        if path.is_file():
            try:
                objects = ElementTree.parse(path).getroot().findall("object")  # a part's name is one level deeper
            except ElementTree.ParseError as error:
                raise WsssError(f"{path}: not valid XML ({error}); restore the file") from None
            labels[image_id] = tuple(sorted({item.findtext("name", "").strip() for item in objects}))
    return labels


def from_csv(path: Path) -> tuple[list[str] | None, Labels]:
    """Read a table with a column ``id`` and either one 0/1 column per class or a column ``labels``.

    Returns:
        The classes in order, and the labels. A column ``labels`` holds class names joined by ``;``, which have no
        order: the classes are then None.

    Raises:
        WsssError: the file cannot be read, or is no such table; the line names the file and its line.
    """
    with _open(path) as stream:
        table = csv.DictReader(stream)
        columns = table.fieldnames or []
        if "id" not in columns or len(columns) < 2:
            raise WsssError(f"{path}: the first line must name a column 'id', and 'labels' or one column per class")
        rows = list(table)
    labels: Labels = {}
    for line, row in enumerate(rows, start=2):
        if row["id"] in labels:
            raise WsssError(f"{path}, line {line}: id '{row['id']}' occurs twice; remove one of the lines")
        labels[row["id"]] = _names_of(row, path, line)
    if "labels" in columns:
        return None, labels
    return [column for column in columns if column != "id"], labels


def names(labels: Labels) -> list[str]:
    """List the class names that occur, sorted."""
    return sorted({name for of_image in labels.values() for name in of_image})


def _names_of(row: dict[str, str], path: Path, line: int) -> tuple[str, ...]:
    if None in row or None in row.values():
        raise WsssError(f"{path}, line {line}: has more or fewer cells than the first line")
    if "labels" in row:
        return tuple(name.strip() for name in row["labels"].split(SEPARATOR) if name.strip())
    marks = {column: value.strip() for column, value in row.items() if column != "id"}
    for column, value in marks.items():
        if value not in ("0", "1"):
            raise WsssError(f"{path}, line {line}: column '{column}' is '{value}'; it must be 0 or 1")
    return tuple(column for column, value in marks.items() if value == "1")


def _open(path: Path) -> TextIO:
    try:
        return path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror})") from None


class _ArraysOnly(pickle.Unpickler):
    """A reader of pickled containers, strings, numbers and numpy arrays. It refuses any other object unread."""

    ALLOWED = frozenset(
        {
            *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
            *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
            ("numpy._core.numeric", "_frombuffer"),
            ("numpy.core.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how old protocols spell bytes
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is refused")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def from_npy(path: Path, classes: Sequence[str]) -> Labels:
    """Read the labels in a ``cls_labels.npy``: a pickled dict from id to 0 or 1 per class.

    Ids are strings (PSA: '2007_000032') or integers (IRN: 2007000032). Of objects, only arrays are unpickled.

    Raises:
        WsssError: the file cannot be read, is no such table, or has another number of classes.
    """
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            read_header(stream)
            table = _ArraysOnly(stream, encoding="latin1").load().item()
            rows = {_voc_id(key): np.asarray(value, np.float64) for key, value in table.items()}
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged or hostile file can fail in any way; nothing of it was used
        raise WsssError(f"{path}: not a table of labels ({error}); use the released cls_labels.npy") from None
    for image_id, row in rows.items():
        if row.shape != (len(classes),):
            raise WsssError(f"{path}: '{image_id}' has labels of shape {row.shape}, not ({len(classes)},)")
    return {i: tuple(name for name, mark in zip(classes, row, strict=True) if mark > 0.5) for i, row in rows.items()}


def _voc_id(key: Any) -> str:
    return key if isinstance(key, str) else f"{int(key) // 1_000_000:04d}_{int(key) % 1_000_000:06d}"
