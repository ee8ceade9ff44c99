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
from wsss.data.settings import Options, known
from wsss.data.verify import Entry, indexed
from wsss.errors import WsssError
from wsss.files import atomic, read_json
from wsss.progress import bar
from wsss.stores import png_bytes

FINE = 4  # polygons are filled on a grid this much finer; a pixel belongs to what covers its centre
Annotation = dict[str, Any]  # of one object, as in the file


def decode_rle(counts: list[int], height: int, width: int) -> np.ndarray:
    """Decode an uncompressed run-length code to ``H×W`` bool: runs of 0 and 1 in turn, column by column."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


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
    settings = known(config, ("root",), {"sets": {"train": "train2014", "val": "val2014"}})
    root = Path(settings["root"])
    entries: list[Entry] = []
    names: list[str] = []
    for split, name in settings["sets"].items():
        path = root / "annotations" / f"instances_{name}.json"
        content = read_json(path)
        categories = {category["id"]: category["name"] for category in content["categories"]}  # in the file's order
        if names and names != list(categories.values()):
            raise WsssError(f"{path}: its categories differ from those of the set before; use sets of one release")
        names = list(categories.values())
        entries += _entries(content, categories, root, name, split, out_dir / "masks" / name)
    return indexed(config["name"], names, root, entries)


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
            temporary.write_bytes(png_bytes(paint(shown, value_of, image["height"], image["width"])))
        labels = tuple({categories[annotation["category_id"]] for annotation in shown})
        mask_path = Path(os.path.relpath(mask.resolve(), root.resolve())).as_posix()
        entries.append(Entry(image_id, f"{name}/{image['file_name']}", mask_path, (split,), labels))
    return entries
