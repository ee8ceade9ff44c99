"""``builder: shapes``: a data set that is drawn from a seed, in the layout of VOC 2012.

An image of the splits ``train`` and ``val`` shows up to 3 objects that partly hide each other, in front of a cluttered
scene. The scene tends to go with the first class, as water goes with boats. Masks of classes and of objects ignore a
border around every object, as VOC's do.

An image of the split ``icons`` shows one large object. It has a label and no mask. A classifier that
is trained on these images stands in for an ImageNet classifier, whose images mostly show one object, too.

A share ``EMPTY`` of all images shows no object. Otherwise a classifier of few classes would learn one of them by the
absence of all others, and find it in every background.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from wsss.data.drawing import BADGES, SCENES, Appearance, Body, background, paint_object
from wsss.data.index import Dataset
from wsss.data.settings import Options, known
from wsss.data.voc import read_voc
from wsss.errors import WsssError
from wsss.files import write_text
from wsss.pool import mapped
from wsss.stores import IGNORE, png_bytes

MIN_VISIBLE = 0.6  # share of an object, and of its badge, that later objects leave visible
EMPTY = 0.15  # share of the images that show no object
CO_OCCURRENCE = 0.6  # probability that the scene is the one of the first object's class
JPEG_QUALITY = 92
MASKS = ("SegmentationClass", "SegmentationObject")
LABELS = "image_labels.csv"
ICONS = "icons"
SPLITS = ("train", "val", ICONS)  # the place of a split decides its draws
OPTIONAL = {"classes": 6, "measured": None, "icons": 0, "icon_size": 64}
ICON_RADII, ICON_CENTRE = (0.25, 0.50), 0.35  # as RADII and CENTRE in drawing.py

LabelRow = tuple[str, set[int]]  # id of an image, indices of the classes it shows
Draw = tuple[str, np.random.Generator]  # id of an image, the source of its draws


def scene(size: int, classes: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image.

    Returns:
        The image ``size×size×3`` uint8, its mask ``size×size`` uint8 (0, c + 1, 255) and that of its objects.
    """
    first = int(rng.integers(len(classes)))
    canvas = background(habitat(first, rng), size, rng)
    owner = np.full((size, size), -1)  # index of the object that is seen
    visible: list[tuple[int, np.ndarray, np.ndarray]] = []  # class, whole object, its badge
    wanted = 0 if rng.random() < EMPTY else rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])
    for _ in range(12):
        if len(visible) == wanted:
            break
        body = Body.draw(size, rng)
        inside = body.depth(size) > 0
        if not all(_stays_visible(owner == k, inside, parts) for k, (_, *parts) in enumerate(visible)):
            continue
        c = int(rng.integers(len(classes))) if visible else first
        canvas = paint_object(canvas, body, Appearance.of(classes[c]), rng)
        owner[inside] = len(visible)
        visible.append((c, inside, inside & (np.hypot(*body.badge_frame(size)) < 1)))
    border = maximum_filter(owner, 3) != minimum_filter(owner, 3)
    label = np.array([0, *(c + 1 for c, *_ in visible)], np.uint8)[owner + 1]
    objects = (owner + 1).astype(np.uint8)
    label[border], objects[border] = IGNORE, IGNORE
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), label, objects


def icon(size: int, classes: list[str], rng: np.random.Generator) -> tuple[np.ndarray, set[int]]:
    """Draw an image of one large object, or of none.

    Returns:
        The image ``size×size×3`` uint8, and the indices of the classes it shows.
    """
    c = int(rng.integers(len(classes)))
    canvas = background(int(rng.integers(len(SCENES))), size, rng)
    shown = set() if rng.random() < EMPTY else {c}
    if shown:
        canvas = paint_object(canvas, Body.draw(size, rng, ICON_RADII, ICON_CENTRE), Appearance.of(classes[c]), rng)
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), shown


def habitat(first: int, rng: np.random.Generator) -> int:
    """Draw the index of the scene for an image whose first object is of class ``first``."""
    return first % len(SCENES) if rng.random() < CO_OCCURRENCE else int(rng.integers(len(SCENES)))


def _stays_visible(seen: np.ndarray, inside: np.ndarray, parts: list[np.ndarray]) -> bool:
    """Return True if enough of an object's ``parts`` stays visible behind a new one that covers ``inside``."""
    remaining = seen & ~inside
    return all((remaining & part).sum() >= MIN_VISIBLE * part.sum() for part in parts)


@dataclass(frozen=True)
class Drawing:
    """What is drawn into a folder, in the layout of VOC.

    Args:
        folder: the folder to write to.
        classes: names of the classes.
        seed: the seed of all draws.
    """

    folder: Path
    classes: list[str]
    seed: int

    def scenes(self, split: str, count: int, size: int) -> list[LabelRow]:
        """Draw the scenes of a split, of ``size`` pixels per side, with their masks, and return their labels."""
        return self._drawn(split, count, partial(self._scene, size))

    def icons(self, count: int, size: int) -> list[LabelRow]:
        """Draw the split ``icons``, images of ``size`` pixels per side without masks, and return their labels."""
        return self._drawn(ICONS, count, partial(self._icon, size))

    def _drawn(self, split: str, count: int, draw: Callable[[Draw], LabelRow]) -> list[LabelRow]:
        """Draw the images of a split, in as many processes as there are CPUs."""
        return list(mapped(draw, self._draws(split, count), len(os.sched_getaffinity(0))))

    def _draws(self, split: str, count: int) -> Iterator[Draw]:
        """Name the images of a split, each with the source of its draws."""
        for i in range(count):
            yield f"{split}_{i:04d}", np.random.default_rng([self.seed, SPLITS.index(split), i])

    def _scene(self, size: int, draw: Draw) -> LabelRow:
        image_id, rng = draw
        image, *masks = scene(size, self.classes, rng)
        self._write_image(image_id, image)
        for name, mask in zip(MASKS, masks, strict=True):
            path = self.folder / name / f"{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(mask))
        return image_id, {int(value) - 1 for value in np.unique(masks[0]) if value not in (0, IGNORE)}

    def _icon(self, size: int, draw: Draw) -> LabelRow:
        image_id, rng = draw
        image, shown = icon(size, self.classes, rng)
        self._write_image(image_id, image)
        return image_id, shown

    def _write_image(self, image_id: str, image: np.ndarray) -> None:
        path = self.folder / "JPEGImages" / f"{image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=JPEG_QUALITY, subsampling=0)

    def write_lists(self, lists: Mapping[str, Sequence[LabelRow]], labels: Iterable[LabelRow]) -> None:
        """Write ``ImageSets/Segmentation/<split>.txt`` and ``image_labels.csv``."""
        for split, rows in lists.items():
            ids = "".join(f"{image_id}\n" for image_id, _ in rows)
            write_text(self.folder / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
        with (self.folder / LABELS).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["id", *self.classes])
            for image_id, shown in labels:
                writer.writerow([image_id, *(int(c in shown) for c in range(len(self.classes)))])


def build(config: Options, out_dir: Path) -> Dataset:
    """Draw the data set below ``out_dir`` and index it.

    Options:
        seed: the seed of all draws.
        train, val: numbers of images of these splits.
        size: pixels per side.
        classes: number of classes; 6.
        measured: how many of the training images are the split ``measured``; null for all of them.
        icons: number of images of the split ``icons``, which show one object or none and have no masks; 0.
        icon_size: pixels per side of these.
    """
    settings = known(config, ("seed", "train", "val", "size"), {**OPTIONAL, "splits": None})
    n = settings["classes"]
    if not 2 <= n <= len(BADGES):
        raise WsssError(f"data set '{config['name']}': classes is {n}; there are badges for 2 to {len(BADGES)}")
    classes, root = list(BADGES)[:n], out_dir / "VOC"
    drawing = Drawing(root, classes, settings["seed"])
    train, val = (drawing.scenes(split, settings[split], settings["size"]) for split in ("train", "val"))
    icons = drawing.icons(settings["icons"], settings["icon_size"])
    lists = {"train": train, "measured": train[: settings["measured"]], "val": val}
    lists |= {ICONS: icons} if icons else {}
    drawing.write_lists(lists, [*train, *val, *icons])
    return read_voc(
        config["name"], classes, root, {split: f"{split}.txt" for split in lists}, LABELS, *MASKS, unmasked=[ICONS]
    )
