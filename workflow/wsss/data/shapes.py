"""``builder: shapes``: the embedded data set, drawn from a seed in the layout of VOC 2012.

An image shows 1 to 3 objects that partly hide each other, before a cluttered scene. The scene tends to go with the
first class, as water goes with boats. Masks of classes and of objects ignore a border around every object, as VOC's do.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from wsss.data.drawing import BADGES, SCENES, Body, background, paint_object
from wsss.data.index import Dataset
from wsss.data.settings import Options, known
from wsss.data.voc import read_voc
from wsss.errors import WsssError
from wsss.files import write_text
from wsss.stores import IGNORE, png_bytes

MIN_VISIBLE = 0.6  # share of an object, and of its badge, that later objects leave visible
CO_OCCURRENCE = 0.5  # probability that the scene is the one of the first object's class
JPEG_QUALITY = 92
MASKS = ("SegmentationClass", "SegmentationObject")


def scene(size: int, classes: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image.

    Returns:
        The image ``size×size×3`` uint8, its mask ``size×size`` uint8 (0, c + 1, 255) and that of its objects.
    """
    first = int(rng.integers(len(classes)))
    canvas = background(habitat(first, rng), size, rng)
    owner = np.full((size, size), -1)  # index of the object that is seen
    visible: list[tuple[int, np.ndarray, np.ndarray]] = []  # class, whole object, its badge
    wanted = rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])
    for _ in range(12):
        if len(visible) == wanted:
            break
        body = Body.draw(size, rng)
        inside = body.depth(size) > 0
        if not all(_stays_visible(owner == k, inside, parts) for k, (_, *parts) in enumerate(visible)):
            continue
        c = int(rng.integers(len(classes))) if visible else first
        canvas = paint_object(canvas, body, BADGES[classes[c]], rng)
        owner[inside] = len(visible)
        visible.append((c, inside, inside & (np.hypot(*body.badge_frame(size)) < 1)))
    border = maximum_filter(owner, 3) != minimum_filter(owner, 3)
    label = np.array([0, *(c + 1 for c, *_ in visible)], np.uint8)[owner + 1]
    objects = (owner + 1).astype(np.uint8)
    label[border], objects[border] = IGNORE, IGNORE
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), label, objects


def habitat(first: int, rng: np.random.Generator) -> int:
    """Draw the index of the scene for an image whose first object is of class ``first``."""
    return first % len(SCENES) if rng.random() < CO_OCCURRENCE else int(rng.integers(len(SCENES)))


def _stays_visible(seen: np.ndarray, inside: np.ndarray, parts: list[np.ndarray]) -> bool:
    """Return True if an object keeps enough of its visible ``parts`` behind a new one that covers ``inside``."""
    remaining = seen & ~inside
    return all((remaining & part).sum() >= MIN_VISIBLE * part.sum() for part in parts)


def draw_dataset(folder: Path, classes: list[str], size: int, seed: int, counts: dict[str, int]) -> None:
    """Draw all images and write ``JPEGImages``, the two ``MASKS``, ``ImageSets`` and ``image_labels.csv``.

    Args:
        folder: the folder to write to.
        classes: names of the classes.
        size: pixels per side.
        seed: the seed of all draws.
        counts: split -> number of images.
    """
    for name in ("JPEGImages", *MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for turn, (split, count) in enumerate(counts.items()):
        ids = [f"{split}_{i:04d}" for i in range(count)]
        for i, image_id in enumerate(ids):
            image, *masks = scene(size, classes, np.random.default_rng([seed, turn, i]))
            Image.fromarray(image).save(folder / "JPEGImages" / f"{image_id}.jpg", quality=JPEG_QUALITY, subsampling=0)
            for name, mask in zip(MASKS, masks, strict=True):
                (folder / name / f"{image_id}.png").write_bytes(png_bytes(mask))
            rows.append([image_id, *(int((masks[0] == c + 1).any()) for c in range(len(classes)))])
        write_text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{i}\n" for i in ids))
    with (folder / "image_labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["id", *classes], *rows])


def build(config: Options, out_dir: Path) -> Dataset:
    """Draw the data set below ``out_dir`` and index it.

    Options: ``seed``, ``train`` and ``val`` (numbers of images), ``size`` (pixels per side), ``classes`` (a number; 6).
    """
    settings = known(config, ("seed", "train", "val", "size"), {"classes": 6, "splits": None})
    n = settings["classes"]
    if not 2 <= n <= len(BADGES):
        raise WsssError(f"data set '{config['name']}': classes is {n}; there are badges for 2 to {len(BADGES)}")
    classes = list(BADGES)[:n]
    counts = {split: settings[split] for split in ("train", "val")}
    root = out_dir / "VOC"
    draw_dataset(root, classes, settings["size"], settings["seed"], counts)
    lists = {split: f"{split}.txt" for split in counts}
    return read_voc(config["name"], classes, root, lists, "image_labels.csv", *MASKS)
