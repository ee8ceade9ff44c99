"""``builder: folder``: any images with a table of labels. A new data set needs no code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsss.data import labels as read
from wsss.data.index import Dataset
from wsss.data.settings import Options, known
from wsss.data.verify import Entry, indexed
from wsss.data.voc import inside, listed
from wsss.errors import WsssError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def build(config: Options, out_dir: Path) -> Dataset:
    """Index a folder of images.

    Options; all paths are below ``root``:
        root: the folder of the data set.
        images: folder; sub-folders are part of the ids, suffixes are not.
        labels: CSV with ``id`` and one 0/1 column per class, or ``id`` and ``labels`` joined by ";".
        lists: split -> text file of ids.
        masks: folder of PNGs with 0 background, c + 1 class, 255 ignore; or null.
        unmasked: splits whose images need no mask.
        classes: names in the order of the mask values; null: the columns of the CSV or, if there are no masks, the
            names in it, sorted.
    """
    optional: Options = {"images": "images", "labels": "labels.csv", "masks": None, "unmasked": [], "classes": None}
    settings = known(config, ("root", "lists"), optional)
    root = Path(settings["root"])
    columns, labels = read.from_csv(inside(root, settings["labels"]))
    if not (settings["classes"] or columns) and settings["masks"]:
        raise WsssError(
            f"{root / settings['labels']}: names of classes have no order, which the masks' values need; "
            "give 'classes' in the options of the data set"
        )
    classes = settings["classes"] or columns or read.names(labels)
    splits, findings = listed(root, settings["lists"])
    images, twice = _files(root, settings["images"], SUFFIXES)
    masks, masks_twice = _files(root, settings["masks"], (".png",)) if settings["masks"] else ({}, [])
    exempt = {*settings["unmasked"], "test"}

    entries = []
    for image_id, of_image in splits.items():
        if image_id not in images:
            findings.append(f"{root / settings['images']}: listed image '{image_id}' is not there")
            continue
        if settings["masks"] and image_id not in masks and not set(of_image) <= exempt:
            findings.append(
                f"{root / settings['masks']}: image '{image_id}' has no mask; add its splits to 'unmasked'?"
            )
        entries.append(Entry(image_id, images[image_id], masks.get(image_id), tuple(of_image), labels.get(image_id)))
    return indexed(config["name"], classes, root, entries, findings + twice + masks_twice)


def _files(root: Path, folder: str, suffixes: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find the pictures in ``folder``: id -> path from ``root``. Also list the pictures whose id another one has."""
    top = root / folder
    if not top.is_dir():
        raise WsssError(f"{top}: no such folder; set it in the options of the data set")
    files: dict[str, str] = {}
    twice = []
    for path in sorted(p for p in top.rglob("*") if p.suffix.lower() in suffixes):
        image_id = path.relative_to(top).with_suffix("").as_posix()
        if files.setdefault(image_id, path.relative_to(root).as_posix()) != path.relative_to(root).as_posix():
            twice.append(f"{path}: another file has the same id '{image_id}'; rename one of them")
    return files, twice
