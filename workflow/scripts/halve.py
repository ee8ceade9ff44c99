"""Copy a folder in VOC's layout at half size, which a CPU can train on.

    python workflow/scripts/halve.py path/to/VOC2012 photographs/VOC2012

Images are averages of 2x2 pixels, as JPEG of quality 95; masks keep every second pixel. The lists train and val are
copied. ``measured.txt`` is added, every third training image: enough to compare class maps in a third of the time.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from PIL import Image

LISTS = Path("ImageSets/Segmentation")
MASKS = ("SegmentationClass", "SegmentationClassAug", "SegmentationObject")
LABELS = ("Annotations", "image_labels.csv")


def copy_lists(source: Path, target: Path) -> dict[str, list[str]]:
    """Write the lists train, val and measured; return the first two."""
    lists = {name: (source / LISTS / f"{name}.txt").read_text(encoding="utf-8").split() for name in ("train", "val")}
    (target / LISTS).mkdir(parents=True, exist_ok=True)
    for name, ids in {**lists, "measured": lists["train"][::3]}.items():
        (target / LISTS / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    return lists


def copy_labels(source: Path, target: Path) -> None:
    """Copy the labels, whichever form they have."""
    for name in LABELS:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)


def halve(source: Path, target: Path, resampling: Image.Resampling, quality: int = 95) -> None:
    """Write a picture at half its size, at least one pixel; a JPEG in this quality."""
    with Image.open(source) as picture:
        size = (max(1, picture.width // 2), max(1, picture.height // 2))
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.resize(size, resampling).save(target, quality=quality)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the folder that has JPEGImages")
    parser.add_argument("target", type=Path, help="the folder to write")
    args = parser.parse_args()
    lists = copy_lists(args.source, args.target)
    copy_labels(args.source, args.target)
    for image_id in sorted({*lists["train"], *lists["val"]}):
        image = Path("JPEGImages", f"{image_id}.jpg")
        halve(args.source / image, args.target / image, Image.Resampling.BOX)
        for masks in MASKS:
            mask = Path(masks, f"{image_id}.png")
            if (args.source / mask).exists():
                halve(args.source / mask, args.target / mask, Image.Resampling.NEAREST)
    print(f"{args.target}: {len(lists['train'])} training and {len(lists['val'])} validation images")


if __name__ == "__main__":
    main()
