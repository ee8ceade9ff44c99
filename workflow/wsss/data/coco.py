"""``builder: coco``: MS COCO 2014 from its instance annotations.

D1  There are two conventions for masks. Here, as in ReCAM and CLIMS, annotations that are no crowd are painted in the
    file's order, later over earlier; no pixel is ignored and crowds are background.
D2  Polygons are filled by Pillow; COCO's own tool may decide a border pixel differently.
D3  Images without any annotation are left out, which leaves the papers' 82,081 of train2014 and 40,137 of val2014. A
    crowd counts as a label.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wsss.data.index import Dataset
from wsss.data.settings import ROLES, Options, known, roles_of
from wsss.data.verify import Entry, indexed
from wsss.errors import Problems, WsssError
from wsss.files import atomic, read_json
from wsss.progress import bar
from wsss.stores import png_bytes

FINE = 4  # polygons are filled on a grid this much finer; a pixel belongs to what covers its centre
SIDES = ("width", "height")
NEEDED = {  # what is read of each entry
    "images": ("id", "file_name", *SIDES),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
RESTORE = "restore the file of annotations"
Annotation = dict[str, Any]  # of one object, as in the file


def decode_rle(counts: list[int], height: int, width: int) -> np.ndarray:
    """Decode an uncompressed run-length code to ``H×W`` bool: runs of 0 and 1 in turn, column by column."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def checked(content: Any, path: Path) -> list[str]:
    """List what is wrong with the annotations of a file: what an image's mask cannot be painted from."""
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
    if not all(isinstance(polygon, list) for polygon in shape):
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
        WsssError: an annotation is a compressed run-length code.
    """
    canvas = Image.new("L", (width * FINE, height * FINE))
    for annotation in annotations:
        if annotation.get("iscrowd"):
            continue
        value, shape = value_of[annotation["category_id"]], annotation["segmentation"]
        if isinstance(shape, list):
            draw = ImageDraw.Draw(canvas)
            for polygon in shape:  # x, y, x, y, ... from the image's corner
                if len(polygon) >= 6:
                    draw.polygon([coordinate * FINE for coordinate in polygon], fill=value)
        elif isinstance(shape["counts"], list):
            covered = Image.fromarray(decode_rle(shape["counts"], height, width))
            canvas.paste(value, mask=covered.resize(canvas.size, Image.Resampling.NEAREST))
        else:
            raise WsssError(f"annotation {annotation['id']}: a compressed run-length code; use COCO's published file")
    return np.asarray(canvas)[FINE // 2 :: FINE, FINE // 2 :: FINE]


def build(config: Options, out_dir: Path) -> Dataset:
    """Index COCO and paint its masks into ``out_dir/masks``.

    Options:
        root: folder with the images' folders and ``annotations``.
        sets: split -> set, such as train2014: images in ``<set>``, annotations in ``annotations/instances_<set>.json``.
    """
    settings = known(config, ("root",), {"sets": {"train": "train2014", "val": "val2014"}, **ROLES})
    root = Path(settings["root"])
    entries: list[Entry] = []
    names: list[str] = []
    for split, name in settings["sets"].items():
        path = root / "annotations" / f"instances_{name}.json"
        content = read_json(path, cure=RESTORE)
        if findings := checked(content, path):
            raise Problems(f"data set '{config['name']}' cannot be used, {len(findings)} finding(s):", findings)
        categories = {category["id"]: category["name"] for category in content["categories"]}  # in the file's order
        if names and names != list(categories.values()):
            raise WsssError(f"{path}: its categories differ from those of the set before; use sets of one release")
        names = list(categories.values())
        entries += _entries(content, categories, root, name, split, out_dir / "masks" / name)
    return indexed(config["name"], names, root, entries, roles=roles_of(settings))


def _entries(
    content: Options, categories: dict[int, str], root: Path, name: str, split: str, masks: Path
) -> list[Entry]:
    value_of = {category: value for value, category in enumerate(categories, start=1)}
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    images = [image for image in content["images"] if image["id"] in annotations]
    entries = []
    for image in bar(images, out=masks, unit="mask", total=len(images)):
        shown = annotations[image["id"]]
        image_id = Path(image["file_name"]).stem
        mask = masks / f"{image_id}.png"
        with atomic(mask) as temporary:
            temporary.write_bytes(png_bytes(paint(shown, value_of, int(image["height"]), int(image["width"]))))
        labels = tuple({categories[annotation["category_id"]] for annotation in shown})
        mask_path = Path(os.path.relpath(mask.resolve(), root.resolve())).as_posix()
        entries.append(Entry(image_id, f"{name}/{image['file_name']}", mask_path, (split,), labels))
    return entries
