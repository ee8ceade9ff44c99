"""``builder: voc``: a folder in the layout of PASCAL VOC 2012, complete or not. Nothing is written to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsss.data import labels as read
from wsss.data.classes import advice
from wsss.data.ids import Found, Ids, pictures_in, read_list, understood
from wsss.data.index import Dataset
from wsss.data.settings import SHARED, Options, known, lists_of, megapixels_of, names_of, path_of, roles_of, text_of
from wsss.data.splits import ROLES as ROLES_OF_SPLITS
from wsss.data.verify import UNLABELLED, Entry, indexed
from wsss.errors import WsssError

# fmt: off
CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]
# fmt: on
FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")  # places of JPEGImages below the given root
LISTS = "ImageSets/Segmentation"
IMAGES = "JPEGImages"


def voc_folder(root: str | Path) -> Path:
    """Find the folder with ``JPEGImages``: ``root`` itself, or the VOC2012 folder in it.

    Raises:
        WsssError: there is none.
    """
    for below in FOLDERS:
        if (Path(root) / below / "JPEGImages").is_dir():
            return Path(root) / below
    raise WsssError(f"{root}: has no JPEGImages, nor VOC2012 or VOCdevkit/VOC2012 with one; give VOC 2012's folder")


def inside(root: Path, name: str | Path) -> Path:
    """Return ``root / name``, or ``name`` itself if only that exists."""
    return root / name if (root / name).exists() or not Path(name).exists() else Path(name)


def find_labels(root: Path, source: str, classes: list[str], ids: list[str]) -> read.Labels:
    """Read the labels of images.

    Args:
        root: the folder of the data set.
        source: a folder of XML, a CSV or a cls_labels.npy; ``auto`` is Annotations or image_labels.csv.
        classes: all class names.
        ids: the images.

    Raises:
        WsssError: there are no such labels, or a CSV has a label that is no class.
    """
    if source == "auto":
        present = [name for name in ("Annotations", "image_labels.csv") if (root / name).exists()]
        if not present:
            raise WsssError(f"{root}: has neither Annotations nor image_labels.csv; set labels to what has them")
        source = present[0]
    path = inside(root, source)
    if path.is_dir():
        return read.from_xml(path, ids, classes)
    if path.suffix == ".npy":
        return read.from_npy(path, classes)
    of_voc = list(classes) == list(CLASSES)  # a table may have some of VOC's own classes alone
    columns, of_table = read.from_csv(path, classes, complete=not of_voc)
    if foreign := [name for name in columns or read.names(of_table) if name not in classes]:
        raise WsssError(f"{path}: '{foreign[0]}' is no class; {advice(foreign[0], classes)}")
    return understood(path, of_table, Ids(ids, IMAGES), ids)


def listed(folder: Path, lists: dict[str, str], ids: Ids) -> tuple[dict[str, list[str]], list[str]]:
    """Read the splits of all images.

    Args:
        folder: the folder of the lists.
        lists: split -> name or path of its list.
        ids: of the images that are there.

    Returns:
        Image id -> its splits, in the order of the lists; and a finding for each id that a list has twice.
    """
    splits: dict[str, list[str]] = {}
    findings = []
    for split, name in lists.items():
        path = inside(folder, name)
        for image_id in map(ids.find, read_list(path, ids.known)):
            of_image = splits.setdefault(image_id, [])
            if split in of_image:
                findings.append(f"{path}: '{image_id}' is listed twice")
            else:
                of_image.append(split)
    return splits, findings


def read_voc(
    name: str,
    classes: list[str],
    root: Path,
    lists: dict[str, str],
    labels: str | None = "auto",
    masks: str | None = None,
    instances: str | None = None,
    unmasked: Sequence[str] = (),
    roles: Mapping[str, str] = ROLES_OF_SPLITS,
    megapixels: float = math.inf,
) -> Dataset:
    """Index the images of ``lists`` in the folder ``root``. The other arguments are the options of ``build``."""
    pictures = pictures_in(root, IMAGES)
    splits, findings = listed(root / LISTS, lists, Ids(pictures.files, IMAGES))
    findings += pictures.twice
    if masks and not (root / masks).is_dir():
        raise WsssError(f"{root / masks}: no such folder; set masks to SegmentationClass, SegmentationClassAug or null")
    if instances and not (root / instances).is_dir():
        raise WsssError(f"{root / instances}: no such folder; set instances to SegmentationObject or null")
    labels_of = find_labels(root, labels, classes, list(splits)) if labels else {}

    of_masks, of_objects = (pictures_in(root, name, (".png",)) if name else Found() for name in (masks, instances))
    findings += of_masks.twice + of_objects.twice

    exempt = {*unmasked, UNLABELLED}
    entries = []
    for i, of_image in splits.items():
        if i in pictures.others and i not in pictures.files:
            findings.append(pictures.absence(i, root / IMAGES))
            continue
        image = pictures.files.get(i, f"{IMAGES}/{i}.jpg")
        mask = of_masks.files.get(i)
        if masks and mask is None and not set(of_image) <= exempt:
            if i in of_masks.others:
                findings.append(of_masks.absence(i, root / masks, "the mask of image"))
            else:
                mask = f"{masks}/{i}.png"
        entries.append(Entry(i, image, mask, tuple(of_image), labels_of.get(i), of_objects.files.get(i)))
    return indexed(name, classes, root, entries, findings, roles, megapixels)


def build(config: Options, out_dir: Path) -> Dataset:
    """Index VOC 2012, a part of it, or a data set of one's own in its layout.

    Options:
        root: the VOC2012 folder, or one above it.
        lists: split -> file in ImageSets/Segmentation, or path.
        classes: names in the order of the mask values; null: VOC's.
        labels: a folder of XML, a CSV or a cls_labels.npy; auto: those that the folder has; null for test images.
        masks: folder of PNGs, or null.
        instances: folder of PNGs whose values are objects, or null. Not every image needs one.
        unmasked: splits whose images need no mask.
        megapixels: size above which an image is refused, in millions of pixels; 8.
    """
    optional: Options = {"labels": "auto", "masks": "SegmentationClass", "instances": None, "unmasked": []}
    settings = known(config, ("root", "lists"), {**optional, "classes": None, **SHARED})
    options: dict[str, Any] = {key: path_of(settings, key) for key in ("labels", "masks", "instances")}
    options |= {"unmasked": names_of(settings, "unmasked"), "roles": roles_of(settings)}
    options |= {"megapixels": megapixels_of(settings)}
    names = names_of(settings, "classes") or CLASSES
    return read_voc(config["name"], names, voc_folder(text_of(settings, "root")), lists_of(settings), **options)
