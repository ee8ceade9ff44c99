"""Image-level labels in the formats of data sets: XML annotations, CSV, or a released ``cls_labels.npy``."""

from __future__ import annotations

import csv
import pickle
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from wsss.data import classes
from wsss.data.index import SEPARATOR
from wsss.errors import WsssError, some
from wsss.files import read_text

Labels = dict[str, tuple[str, ...]]  # image id -> class names
MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}  # cells, in any capitals
CELLS = ",;\t"  # what separates the cells of tables
OTHER_SEPARATORS = ",|"  # that tables of labels have where ";" is asked for
OLDEST = 1000_000000  # an id of VOC's as a number: four digits of the year, and six
INDEX = ("", "Unnamed: 0")  # names of the column that pandas writes unasked
AS_VOC = "write it as VOC does: <annotation>, and each <object> in it"
DECLARED = re.compile(rb"""(\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*["'](?P<encoding>[^"']+)["'][^>]*\?>""")


def from_xml(folder: Path, ids: Iterable[str], known: Sequence[str] = ()) -> Labels:
    """Read the class names of all objects in ``folder/<id>.xml``. "Difficult" objects count, as in PSA's labels.

    An image without a file has no entry; one whose file names no object has no class. A name that beyond doubt means
    one of the classes ``known`` is replaced by it.

    Raises:
        WsssError: a file is not valid XML, has an encoding that cannot be read, or is no annotation of VOC's.
    """
    labels = {}
    for image_id in ids:
        path = folder / f"{image_id}.xml"
        if path.is_file():
            root = _xml(path)
            objects = root.findall("object")  # a part's name is one level deeper
            if root.tag != "annotation":
                raise WsssError(f"{path}: its root is <{root.tag}>; {AS_VOC}")
            if not objects and root.find(".//object") is not None:
                raise WsssError(f"{path}: its objects are not in <annotation> itself; {AS_VOC}")
            found = {classes.find(classes.clean(item.findtext("name", "")), known) for item in objects}
            labels[image_id] = tuple(sorted(found))
    return labels


def _xml(path: Path) -> ElementTree.Element:
    data = path.read_bytes()
    declared = DECLARED.match(data)
    try:
        if declared is None:
            return ElementTree.fromstring(data)
        # expat reads no encoding of several bytes but UTF-8 and UTF-16; Python reads them all
        text = data.decode(declared["encoding"].decode("ascii", "replace"))
        return ElementTree.fromstring(text[declared.end() :])
    except LookupError:
        name = declared["encoding"].decode("ascii", "replace") if declared else "?"
        raise WsssError(f"{path}: declares the unknown encoding '{name}'; save it as UTF-8 and say so") from None
    except UnicodeDecodeError as error:
        raise WsssError(f"{path}: is not in the encoding it declares ({error}); save it as UTF-8 and say so") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise WsssError(f"{path}: not valid XML ({error}); restore the file") from None


def from_csv(path: Path, known: Sequence[str] = (), complete: bool = True) -> tuple[list[str] | None, Labels]:
    """Read a table with a column ``id`` and either one 0/1 column per class or a column ``labels``.

    Cells are separated by commas, semicolons or tabs, as the first line is. A name that beyond doubt means one of the
    classes ``known`` is replaced by it. With ``known``, columns that are no class are left out: those that have a name
    which is usual for other things, or values other than 0 and 1. A table that need not be
    ``complete`` may lack columns of classes ``known``, unless another column may be meant for one.

    Returns:
        The classes in order, and the labels. A column ``labels`` holds class names joined by ``;``, which have no
        order: the classes are then None.

    Raises:
        WsssError: the file cannot be read, is no such table, or lacks a column. The message names the file and, if one
            row is wrong, its line.
    """
    columns, rows = _table(path)
    used = [column for column in columns if column != "id" and not (known and _beside(column, rows, known))]
    labels: Labels = {}
    for line, row in rows:
        if row["id"] in labels:
            raise WsssError(f"{path}, line {line}: id '{row['id']}' occurs twice; remove one of the lines")
        labels[row["id"]] = _names_of(row, used, path, line, known)
    if "labels" in columns:
        return None, labels
    found = [classes.find(column, known) for column in used]
    others = [column for column in columns if column != "id" and classes.find(column, known) not in known]
    meant = [column for column in others if classes.same(column) not in classes.NO_CLASS]
    lacking = [name for name in known if name not in found]
    if lacking and (complete or meant or not found):
        foreign = f" (columns of no class: {some(list(map(repr, others)))})" if others else ""
        raise WsssError(
            f"{path}: class '{lacking[0]}' has no column{foreign}; rename a column, add one, or write names into a "
            "column 'labels'"
        )
    if odd := [name for name in found if not known and classes.same(name) in classes.NO_CLASS]:
        raise WsssError(f"{path}: column '{odd[0]}' looks like no class; remove it, or name the classes in 'classes'")
    return found, labels


def names(labels: Labels) -> list[str]:
    """List the class names that occur, sorted."""
    return sorted({name for of_image in labels.values() for name in of_image})


Row = dict[str, str]  # of a table, by column


def _table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Read the columns of a table of labels, and its rows with their line numbers; empty lines are left out."""
    try:
        text = read_text(path).splitlines(keepends=True)
        readings = [list(csv.reader(text, delimiter=separator)) for separator in CELLS]
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); set labels to a CSV of ids and labels") from None
    except csv.Error as error:
        raise WsssError(f"{path}: is no table ({error}); save it as CSV") from None
    lines = next((lines for lines in readings if lines and "id" in map(_column, lines[0])), readings[0])
    columns = [_column(cell) for cell in lines[0]] if lines else []
    rows = [(number, cells) for number, cells in enumerate(lines[1:], start=2) if any(cell.strip() for cell in cells)]
    if (
        columns
        and columns[0] in INDEX
        and [cells[0].strip() for _, cells in rows] == [str(i) for i in range(len(rows))]
    ):
        columns, rows = columns[1:], [(number, cells[1:]) for number, cells in rows]  # without pandas' own index
    if "id" not in columns or len(columns) < 2:
        raise WsssError(
            f"{path}: its first line names {', '.join(map(repr, columns)) or 'nothing'}; it must name a column "
            "'id', and 'labels' or one column per class"
        )
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise WsssError(f"{path}: its first line names '{twice[0]}' twice; rename or remove one column")
    table = []
    for number, cells in rows:
        if len(cells) != len(columns):
            raise WsssError(
                f"{path}, line {number}: has more or fewer cells than the first line; write {len(columns)}, and "
                f"join names by '{SEPARATOR}'"
            )
        row = {column: classes.clean(cell) for column, cell in zip(columns, cells, strict=True)}
        if not row["id"]:
            raise WsssError(f"{path}, line {number}: the id is empty; write it, or remove the line")
        table.append((number, row))
    return columns, table


def _column(cell: str) -> str:
    """Return the name of a column; ``id`` and ``labels`` in lower case, however the table writes them."""
    name = classes.clean(cell)
    return name.lower() if name.lower() in ("id", "labels") else name


def _beside(column: str, rows: list[tuple[int, Row]], known: Sequence[str]) -> bool:
    """Tell whether a column is none of the classes but something else that is known of an image."""
    if column == "labels" or classes.find(column, known) in known:
        return False
    return classes.same(column) in classes.NO_CLASS or any(row[column].lower() not in MARKS for _, row in rows)


def _names_of(row: Row, used: list[str], path: Path, line: int, known: Sequence[str]) -> tuple[str, ...]:
    if "labels" in row:
        return tuple(dict.fromkeys(_named(row["labels"], path, line, known)))
    for column in used:
        if row[column].lower() not in MARKS:
            what = f"is '{row[column]}'; it must be 0 or 1" if row[column] else "is empty; write 0 or 1"
            raise WsssError(f"{path}, line {line}: column '{column}' {what}")
    return tuple(classes.find(column, known) for column in used if MARKS[row[column].lower()])


def _named(cell: str, path: Path, line: int, known: Sequence[str]) -> list[str]:
    """Return the classes in a cell of the column ``labels``."""
    found = []
    for part in filter(None, map(classes.clean, cell.split(SEPARATOR))):
        name = classes.find(part, known)
        for other in OTHER_SEPARATORS if name not in known else ():
            if other not in part:
                continue
            parts = [classes.find(piece, known) for piece in map(classes.clean, part.split(other)) if piece]
            if known and all(piece in known for piece in parts):
                found += parts
                break
            if not known:
                raise WsssError(
                    f"{path}, line {line}: '{part}' would be one class; join names by ';', or name the "
                    "classes in 'classes'"
                )
        else:
            found.append(name)
    return found


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


def from_npy(path: Path, known: Sequence[str]) -> Labels:
    """Read the labels in a ``cls_labels.npy``: a pickled dict from id to 0 or 1 per class.

    Ids are strings (PSA: '2007_000032') or integers (IRN: 2007000032). Only containers, texts, numbers and arrays are
    unpickled.

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
    if len(rows) < len(table):
        raise WsssError(f"{path}: an id occurs twice, as a number and as a text; remove one of them")
    for image_id, row in rows.items():
        if row.shape != (len(known),):
            raise WsssError(f"{path}: '{image_id}' has labels of shape {row.shape}, not ({len(known)},)")
    return {i: tuple(name for name, mark in zip(known, row, strict=True) if mark > 0.5) for i, row in rows.items()}


def _voc_id(key: Any) -> str:
    """Return an id as text: 2007000032 is VOC's 2007_000032, and numbers without a year stay as they are."""
    if isinstance(key, str) or int(key) < OLDEST:
        return str(key)
    return f"{int(key) // 1_000_000:04d}_{int(key) % 1_000_000:06d}"
