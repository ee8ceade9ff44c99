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
import math
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from wsss.data import classes
from wsss.data.index import Dataset
from wsss.data.settings import SHARED, Options, known, megapixels_of, names_of, roles_of, sets_of, text_of
from wsss.data.verify import Entry, indexed
from wsss.errors import Problems, WsssError, some
from wsss.files import atomic
from wsss.pool import mapped
from wsss.progress import bar
from wsss.stores import png_bytes

READ = ("images", "annotations", "categories")  # parts of the file that are read; the keys that are kept follow
OF_OBJECTS = ("id", "image_id", "category_id", "iscrowd", "segmentation", "counts", "size")
KEPT = (*READ, *OF_OBJECTS, "name", "file_name", "height", "width")
SIDES = ("width", "height")
Kind = tuple[type, ...]
TEXT: Kind = (str,)
NUMBER: Kind = (int, float)
ID: Kind = (*NUMBER, *TEXT)
KINDS = {TEXT: "a text", NUMBER: "a number", ID: "a number or a text"}
NEEDED: dict[str, dict[str, Kind]] = {  # what is read of each entry, and its kind
    "images": {"id": ID, "file_name": TEXT, "width": NUMBER, "height": NUMBER},
    "annotations": {"id": ID, "image_id": ID, "category_id": ID},
    "categories": {"id": ID, "name": TEXT},
}
FAR = 100_000  # pixels; a coordinate beyond is damage, and painting to it would take long
NAME = 240  # bytes in the name of a file, a few fewer than file systems admit: a temporary name is longer
RESTORE = "restore the file of annotations"
Annotation = dict[str, Any]  # of one object, as in the file
Shown = tuple[list[Annotation], int, int]  # the annotations of an image, its height and width


def checked(content: Any, path: Path) -> list[str]:
    """List what is wrong with a file, and the annotations from which no mask can be painted, with the reason."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            return [f"{path}: has no list '{key}'; give the instance annotations of COCO's format"]
    for key, needed in NEEDED.items():
        for entry in content[key]:
            for name, kind in needed.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
                    return [f"{path}: an entry of '{key}' {_lack(entry, name, kind)}"]
    if findings := [*_faults_of_images(content["images"]), *_faults_of_categories(content["categories"])]:
        return [f"{path}: {finding}" for finding in findings]
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    first: dict[str, str] = {}  # kind of fault -> how it is said of the first annotation
    wrong: dict[str, list[str]] = defaultdict(list)
    for annotation in content["annotations"]:
        for fault in _faults(annotation, sizes, categories):
            words = fault.split(",")[0]
            first.setdefault(words, fault)
            wrong[words].append(str(annotation["id"]))
    shapes = [annotation.get("segmentation") for annotation in content["annotations"]]
    if shapes and all(map(_is_share, shapes)):
        return [f"{path}: all coordinates are between 0 and 1; multiply them by the images' width and height"]
    total = len(content["annotations"])
    return [
        f"{path}: {len(ids)} of {total} annotations ({some(ids)}) cannot be used: {first[words]}; correct them"
        for words, ids in wrong.items()
    ]


def _faults_of_images(images: list[Annotation]) -> Iterator[str]:
    """Yield what is wrong with the entries of images, the first fault of each kind."""
    for image in images:
        if not all(0 < image[side] < FAR and image[side] % 1 == 0 for side in SIDES):
            yield f"image {image['id']} has no whole width and height; write them"
            break
    for image in images:
        if "\0" in image["file_name"] or len(os.fsencode(Path(image["file_name"]).name)) > NAME:
            yield f"no file can have the file_name of image {image['id']}; correct it"
            break
    yield from _twice(images, "image")


def _faults_of_categories(categories: list[Annotation]) -> Iterator[str]:
    """Yield what is wrong with the entries of categories."""
    yield from classes.faults([category["name"] for category in categories])
    yield from _twice(categories, "category")


def _twice(entries: list[Annotation], what: str) -> Iterator[str]:
    """Yield that an id occurs more than once."""
    for found, n in Counter(entry["id"] for entry in entries).most_common(1):
        if n > 1:
            yield f"{what} {found} occurs {n} times; give each an id of its own"


def _faults(annotation: Annotation, sizes: dict[Any, tuple[int, int]], categories: set[Any]) -> Iterator[str]:
    """Yield why an annotation cannot be used. The text before a comma is the same for all faults of one kind.

    Args:
        annotation: the entry.
        sizes: id of an image -> its height and width.
        categories: the ids of all categories.
    """
    size, crowd = sizes.get(annotation["image_id"]), annotation.get("iscrowd")
    if size is None:
        yield f"their image_id, such as {annotation['image_id']!r}, is the id of no image"
    if annotation["category_id"] not in categories:
        yield f"their category_id, such as {annotation['category_id']!r}, is no category"
    if crowd not in (None, 0, 1):
        yield f"their iscrowd, such as {crowd!r}, is neither 0 nor 1"
    elif size and not crowd and (fault := _fault_of_shape(annotation.get("segmentation"), size)):
        yield fault


def _lack(entry: Any, name: str, kind: Kind) -> str:
    """Say what an entry should have under a name."""
    if not isinstance(entry, dict) or entry.get(name) is None:
        return f"has no '{name}'; write it"
    return f"has the {name} '{str(entry[name])[:40]}'; it must be {KINDS[kind]}"


def _fault_of_shape(shape: Any, size: tuple[int, int]) -> str | None:
    """Say why nothing can be painted from a segmentation in an image of this height and width."""
    if isinstance(shape, dict):
        return _fault_of_code(shape, size)
    if not isinstance(shape, list) or not shape:
        return "they have no segmentation (boxes alone make no mask)"
    if not all(isinstance(polygon, (list, array)) for polygon in shape):
        return "segmentation is not a list of polygons; put each into a list of its own"
    if not all(isinstance(polygon, array) and len(polygon) % 2 == 0 for polygon in shape):
        return "a polygon is not x, y, x, y, ..."
    drawn = [polygon for polygon in shape if len(polygon) >= 6]
    if not drawn:
        return "no polygon has three corners"
    if not all(_is_near(polygon) for polygon in drawn):
        return "a coordinate of a polygon is no number, or far from any image"
    if all(_is_outside(polygon, size) for polygon in drawn):
        return "their polygons lie outside of the image"
    return None


def _is_near(polygon: Sequence[float]) -> bool:
    """Tell whether all coordinates are finite, and not too far to paint to."""
    return min(polygon) >= -FAR and max(polygon) <= FAR and math.isfinite(sum(polygon))


def _is_outside(polygon: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether a polygon lies beside an image, by more than rounding can put it there."""
    if -1 <= polygon[0] <= size[1] + 1 and -1 <= polygon[1] <= size[0] + 1:  # so for nearly all: spare the search
        return False
    xs, ys = polygon[::2], polygon[1::2]
    return max(xs) < -1 or max(ys) < -1 or min(xs) > size[1] + 1 or min(ys) > size[0] + 1


def _is_share(shape: Any) -> bool:
    """Tell whether all coordinates of a segmentation are between 0 and 1, as shares of an image's sides are."""
    if not isinstance(shape, list) or not shape or not all(isinstance(polygon, array) and polygon for polygon in shape):
        return False
    return all(min(polygon) >= 0 and max(polygon) <= 1 for polygon in shape)


def _fault_of_code(code: Annotation, size: tuple[int, int]) -> str | None:
    """Say what is wrong with a run-length code. What pycocotools paints where it ends too early is left to chance."""
    if "counts" not in code:
        return "segmentation has no 'counts'"
    if code.get("size") != list(size):
        return "the size of their run-length code is not height, width of the image"
    counts = code["counts"]
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, (int, float)) and run % 1 == 0 for run in runs):
        return "counts is neither a list of whole numbers nor a compressed code"
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        return "the counts of their run-length code do not add up to the pixels of the image"
    return None


def _runs(text: str) -> list[int] | None:
    """Return the counts of a compressed code, None if it is no such code: six bits a letter, the lowest ones first.

    The highest bit says that the number goes on. From the fourth number on, each is the difference from the one two
    places before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - ord("0")
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            signed = value - (1 << shift) if bits & 16 else value
            runs.append(signed + runs[-2] if len(runs) > 2 else signed)
            value = shift = 0
    return None if shift else runs


def paint(annotations: list[Annotation], value_of: dict[int, int], height: int, width: int) -> np.ndarray:
    """Paint the mask of one image, ``H×W`` uint8.

    Args:
        annotations: of the image, in order.
        value_of: category id -> mask value.
        height, width: of the image.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            mask[covered(annotation, height, width)] = value_of[annotation["category_id"]]
    return mask


def covered(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """Return the pixels that a ``checked`` annotation covers, ``H×W`` bool: of polygons, or of a run-length code."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        polygons = [polygon for polygon in shape if len(polygon) >= 6]  # fewer corners cover nothing
        codes = coco_masks.frPyObjects(polygons, height, width) if polygons else []
    else:
        plain = isinstance(shape["counts"], list)
        codes = [coco_masks.frPyObjects(shape, height, width) if plain else shape]
    if not codes:
        return np.zeros((height, width), bool)
    found: np.ndarray = coco_masks.decode(coco_masks.merge(codes)).astype(bool)
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
    sets = sets_of(settings)
    unannotated = names_of(settings, "unannotated")
    if unknown := set(unannotated) - set(sets):
        known_splits = ", ".join(sets)
        raise WsssError(f"data set '{config['name']}': unannotated: {min(unknown)} is none of {known_splits}")
    root = Path(text_of(settings, "root"))
    if out_dir.resolve() == root.resolve():
        raise WsssError(f"{out_dir}: is the folder of COCO itself; write the index and the masks to another one")
    entries: list[Entry] = []
    names: list[str] = []
    for split, name in sets.items():
        path = root / "annotations" / f"instances_{name}.json"
        content = read_annotations(path)
        if findings := checked(content, path):
            raise Problems(f"data set '{config['name']}' cannot be used, {len(findings)} finding(s):", findings)
        found, of_set = _of_set(content, path, root, name, split, out_dir / "masks" / name, split in unannotated)
        if names and names != found:
            raise WsssError(f"{path}: its categories differ from those of the set before; use sets of one release")
        names = found
        entries += of_set
    return indexed(config["name"], names, root, entries, roles=roles_of(settings), megapixels=megapixels_of(settings))


def _of_set(
    content: dict[str, list[Annotation]],
    path: Path,
    root: Path,
    name: str,
    split: str,
    masks: Path,
    unannotated: bool,
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
        entry = Entry(image_id, f"{name}/{image['file_name']}", mask_path, (split,), labels, painted_from=path)
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
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); {RESTORE}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
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
    except (TypeError, OverflowError):
        return polygon
