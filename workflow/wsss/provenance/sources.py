"""The supervision of a data set: the lists, label tables and annotations that its index is built from.

Images and masks are fixed by the index, which lists the digest of each. Lists, label tables and annotations are not in
it, so they are inputs of the job that builds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from wsss.data import voc
from wsss.data.ids import read_list
from wsss.errors import WsssError
from wsss.files import digest, sha256

RECOGNISED = ("Annotations", "image_labels.csv")  # what `labels: auto` looks for, in this order


def sources(config: dict[str, Any]) -> list[str]:
    """Return the files that an index is built from, apart from images and masks, sorted.

    Args:
        config: the settings of the index: ``builder`` and the builder's options. Files and folders that are not there
            are left out: the builder says what it lacks.
    """
    found = FINDERS.get(str(config.get("builder")))
    if found is None or not config.get("root"):
        return []
    try:
        return sorted({str(path) for path in found(config) if path.is_file()})
    except (WsssError, TypeError, AttributeError):  # options of another kind: the builder names them
        return []


def digest_of_sources(config: dict[str, Any]) -> str | None:
    """Return one digest of the contents of ``sources``; None where there are none, as for drawn images."""
    lines = [f"{Path(path).name} {sha256(path)}\n" for path in sources(config)]
    return digest("".join(lines)) if lines else None


def _voc(config: dict[str, Any]) -> Iterable[Path]:
    root = voc.voc_folder(config["root"])
    lists = [voc.inside(root / voc.LISTS, name) for name in (config.get("lists") or {}).values()]
    yield from lists
    source = config.get("labels", "auto")
    if source == "auto":
        source = next((name for name in RECOGNISED if (root / name).exists()), None)
    if source is None:
        return
    labels = voc.inside(root, source)
    if not labels.is_dir():
        yield labels
        return
    for path in lists:
        if path.is_file():
            yield from (labels / f"{image_id}.xml" for image_id in read_list(path))


def _folder(config: dict[str, Any]) -> Iterable[Path]:
    root = Path(config["root"])
    if labels := config.get("labels", "labels.csv"):
        yield voc.inside(root, labels)
    yield from (voc.inside(root, name) for name in (config.get("lists") or {}).values())


def _coco(config: dict[str, Any]) -> Iterable[Path]:
    sets = config.get("sets") or {"train": "train2014", "val": "val2014"}
    return [Path(config["root"]) / "annotations" / f"instances_{name}.json" for name in sets.values()]


def _none(config: dict[str, Any]) -> Iterable[Path]:
    return ()


# one for each builder: without it, an index would stay as it is when its lists or labels change
FINDERS: dict[str, Callable[[dict[str, Any]], Iterable[Path]]] = {
    "voc": _voc,
    "folder": _folder,
    "coco": _coco,
    "shapes": _none,  # drawn from a seed
}
