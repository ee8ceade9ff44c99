"""``builder: coco``: MS COCO 2014 from its instance annotations.

D1  There are two conventions for masks. Here, as in ReCAM and CLIMS, annotations that are no crowd are painted in the
    file's order, later over earlier; no pixel is ignored and crowds are background.
D2  Two lists are in use. The default leaves out images without any annotation, which leaves 82,081 of train2014 and
    40,137 of val2014; option ``unannotated`` keeps those of some splits, up to all 82,783 and 40,504 (RIB, CTI). A
    crowd counts as a label.

Objects are filled by COCO's own tool, pycocotools, so border pixels come out as everywhere else.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from wsss.data.index import Dataset
from wsss.data.settings import SHARED, Options, known, megapixels_of, roles_of
from wsss.data.verify import Entry, indexed
from wsss.errors import Problems, WsssError
from wsss.files import atomic
from wsss.pool import mapped
from wsss.progress import bar
from wsss.stores import png_bytes

READ = ("images", "annotations", "categories")  # parts of the file that are read; the keys that are kept follow
OF_OBJECTS = ("id", "image_id", "category_id", "iscrowd", "segmentation", "counts", "size")
KEPT = (*READ, *OF_OBJECTS, "name", "file_name", "height", "width")
SIDES = ("width", "height")
NEEDED = {  # what is read of each entry
    "images": ("id", "file_name", *SIDES),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
RESTORE = "restore the file of annotations"
Annotation = dict[str, Any]  # of one object, as in the file
Shown = tuple[list[Annotation], int, int]  # the annotations of an image, its height and width


def checked(content: Any, path: Path) -> list[str]:
    """List the annotations of a file from which no mask can be painted, and why."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            return [f"{path}: has no list '{key}'; give the instance annotations of COCO's format"]
    findings = []
    for key, needed in NEEDED.items():
        for entry in content[key]:
            lacking = [name for name in needed if not isinstance(entry, dict) or entry.get(name) is None]
            if lacking:
                findings.append(f"{path}: an entry of '{key}' has no '{lacking[0]}'; write it")
                break
    if findings:
        return findings
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for image in content["images"]:
        if not all(isinstance(image[side], (int, float)) and image[side] == int(image[side]) for side in SIDES):
            return [f"{path}: image {image['id']} has no whole width and height; write them"]
    wrong: dict[str, list[Any]] = defaultdict(list)
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images:
            wrong[f"their image_id, such as {annotation['image_id']!r}, is the id of no image"].append(annotation["id"])
        if annotation["category_id"] not in categories:
            wrong[f"their category_id, such as {annotation['category_id']!r}, is no category"].append(annotation["id"])
        if fault := not annotation.get("iscrowd") and _fault_of_shape(annotation.get("segmentation")):
            wrong[str(fault)].append(annotation["id"])
    first = {reason.split(",")[0]: (reason, 0) for reason in wrong}
    for reason, ids in wrong.items():
        head = reason.split(",")[0]
        first[head] = (first[head][0], first[head][1] + len(ids))
    total = len(content["annotations"])
    return [
        f"{path}: {n} of {total} annotations cannot be used: {reason}; correct them" for reason, n in first.values()
    ]


def _fault_of_shape(shape: Any) -> str | None:
    if isinstance(shape, dict):
        return None if "counts" in shape else "segmentation has no 'counts'"
    if not isinstance(shape, list) or not shape:
        return "they have no segmentation (boxes alone make no mask)"
    if not all(isinstance(polygon, (list, array)) for polygon in shape):
        return "segmentation is not a list of polygons; put each into a list of its own"
    if any(len(polygon) % 2 or not all(isinstance(v, (int, float)) for v in polygon) for polygon in shape):
        return "a polygon is not x, y, x, y, ..."
    return None if any(len(polygon) >= 6 for polygon in shape) else "no polygon has three corners"


def paint(annotations: list[Annotation], value_of: dict[int, int], height: int, width: int) -> np.ndarray:
    """Paint the mask of one image, ``H×W`` uint8.

    Args:
        annotations: of the image, in order.
        value_of: category id -> mask value.
        height, width: of the image.

    Raises:
        WsssError: a shape is neither polygons nor a run-length code of this size; the line names the annotation.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            mask[covered(annotation, height, width)] = value_of[annotation["category_id"]]
    return mask


def covered(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """Return the pixels that an annotation covers, ``H×W`` bool: polygons, or a run-length code, compressed or not."""
    shape, about = annotation["segmentation"], f"annotation {annotation['id']}"
    try:
        if isinstance(shape, list):
            polygons = [polygon for polygon in shape if len(polygon) >= 6]  # fewer corners cover nothing
            codes = coco_masks.frPyObjects(polygons, height, width) if polygons else []
        else:
            if list(shape["size"]) != [height, width]:
                raise WsssError(f"{about}: its code is of an image of another size than {height}×{width}")
            plain = isinstance(shape["counts"], list)
            codes = [coco_masks.frPyObjects(shape, height, width) if plain else shape]
        if not codes:
            return np.zeros((height, width), bool)
        found: np.ndarray = coco_masks.decode(coco_masks.merge(codes)).astype(bool)
    except (TypeError, ValueError, KeyError) as error:
        raise WsssError(f"{about}: neither polygons nor a run-length code ({error}); restore the file") from None
    return found


def build(config: Options, out_dir: Path) -> Dataset:
    """Index COCO and paint its masks into ``out_dir/masks``.

    Options:
        root: folder with the images' folders and ``annotations``. Images are read where they are.
        sets: split -> set, such as train2014: images in ``<set>``, annotations in ``annotations/instances_<set>.json``.
        unannotated: splits whose images without any annotation are kept, as negatives.
        megapixels: size above which an image is refused, in millions of pixels; 8.
    """
    optional = {"sets": {"train": "train2014", "val": "val2014"}, "unannotated": []}
    settings = known(config, ("root",), {**optional, **SHARED})
    if unknown := set(settings["unannotated"]) - set(settings["sets"]):
        known_splits = ", ".join(settings["sets"])
        raise WsssError(f"data set '{config['name']}': unannotated: {min(unknown)} is none of {known_splits}")
    root = Path(settings["root"])
    entries: list[Entry] = []
    names: list[str] = []
    for split, name in settings["sets"].items():
        path = root / "annotations" / f"instances_{name}.json"
        content = read_annotations(path)
        if findings := checked(content, path):
            raise Problems(f"data set '{config['name']}' cannot be used, {len(findings)} finding(s):", findings)
        unannotated = split in settings["unannotated"]
        found, of_set = _of_set(content, root, name, split, out_dir / "masks" / name, unannotated)
        if names and names != found:
            raise WsssError(f"{path}: its categories differ from those of the set before; use sets of one release")
        names = found
        entries += of_set
    return indexed(config["name"], names, root, entries, roles=roles_of(settings), megapixels=megapixels_of(settings))


def _of_set(
    content: dict[str, list[Annotation]], root: Path, name: str, split: str, masks: Path, unannotated: bool
) -> tuple[list[str], list[Entry]]:
    """Return the names of the categories and the entries of one set."""
    categories = {category["id"]: category["name"] for category in content["categories"]}  # in the file's order
    value_of = {category: value for value, category in enumerate(categories, start=1)}
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    images = [image for image in content["images"] if unannotated or image["id"] in annotations]
    shown: Iterator[Shown] = ((annotations[image["id"]], int(image["height"]), int(image["width"])) for image in images)
    painted = mapped(partial(_painted, value_of), shown, len(os.sched_getaffinity(0)))
    entries = []
    for image, png in zip(bar(images, out=masks, unit="mask", total=len(images)), painted, strict=True):
        image_id = Path(image["file_name"]).stem
        mask = masks / f"{image_id}.png"
        with atomic(mask) as temporary:
            temporary.write_bytes(png)
        labels = tuple({categories[annotation["category_id"]] for annotation in annotations[image["id"]]})
        mask_path = Path(os.path.relpath(mask.resolve(), root.resolve())).as_posix()
        entry = Entry(image_id, f"{name}/{image['file_name']}", mask_path, (split,), labels)
        entries.append(entry)
    return list(categories.values()), entries


def _painted(value_of: dict[int, int], shown: Shown) -> bytes:
    """Return the mask of an image as a PNG."""
    return png_bytes(paint(shown[0], value_of, *shown[1:]))


def read_annotations(path: Path) -> dict[str, list[Annotation]]:
    """Read a file of instance annotations, of which only what is needed is kept: the file has 250 MB and more.

    Raises:
        WsssError: there is no such file, or it is no file of COCO's instance annotations.
    """
    try:
        content = json.loads(path.read_bytes(), object_hook=_compact)
        return {part: content[part] for part in READ}
    except FileNotFoundError:
        raise WsssError(f"{path}: no such file; unpack COCO's annotations there") from None
    except (KeyError, TypeError, ValueError) as error:
        raise WsssError(f"{path}: no file of instance annotations ({error}); {RESTORE}") from None


def _compact(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is needed of an object; polygons as arrays, which take a quarter of a list's memory."""
    kept = {key: value for key, value in found.items() if key in KEPT}
    if isinstance(shape := kept.get("segmentation"), list):
        kept["segmentation"] = [_corners(polygon) for polygon in shape]
    return kept


def _corners(polygon: Any) -> Any:
    """Return a polygon as an array of numbers; anything else stays as it is, for ``checked`` to name."""
    try:
        return array("d", polygon)
    except TypeError:
        return polygon
