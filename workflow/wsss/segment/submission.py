"""The archive for the VOC test server: ``results/VOC2012/Segmentation/comp6_test_cls/<id>.png``."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image

from wsss.errors import Problems, WsssError
from wsss.files import atomic
from wsss.stores import Masks, png_bytes, voc_palette

if TYPE_CHECKING:
    from wsss.data.index import Dataset, Record
    from wsss.job import Given

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"  # comp6: trained on other data, too, such as ImageNet


def submission(given: Given, out: str | Path) -> None:
    """Pack the label maps of the images as a ``.tgz`` and check the archive before it gets its name.

    Raises:
        WsssError: an image has no label map.
        Problems: the server would refuse label maps; all of them are named.
    """
    dataset, masks = given.images, Masks(given.masks or ())
    if lacking := [image_id for image_id in dataset.ids if image_id not in masks]:
        raise WsssError(f"no label map for image '{lacking[0]}' ({len(lacking)} in all); predict the whole split")
    with atomic(out) as temporary:
        with (
            temporary.open("wb") as stream,
            gzip.GzipFile("", "wb", mtime=0, fileobj=stream) as compressed,  # no name, no time: equal bytes
            tarfile.open(fileobj=compressed, mode="w") as archive,
        ):
            for image_id in dataset.ids:
                data = png_bytes(masks.get(image_id))
                entry = tarfile.TarInfo(f"{FOLDER}/{image_id}.png")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        if findings := check(temporary, dataset):
            raise Problems(f"{out}: not written, the server would refuse it", findings)


def check(path: str | Path, dataset: Dataset) -> list[str]:
    """List the faults of an archive: missing and foreign files, no palette PNG, another palette, size or value."""
    expected = {f"{FOLDER}/{record.id}.png": record for record in dataset.records}
    findings: list[str] = []
    seen: Counter[str] = Counter()
    with tarfile.open(path) as archive:
        for entry in archive:
            seen[entry.name] += 1
            if entry.name in expected:
                faults = _faults(archive.extractfile(entry), expected[entry.name], dataset.classes)
                findings += [f"{entry.name}: {fault}" for fault in faults]
    findings += [f"{name}: missing" for name in expected if name not in seen]
    findings += [f"{name}: {number} times" for name, number in seen.items() if number > 1]
    return findings + [f"{name}: not an image of the split" for name in sorted(set(seen) - set(expected))]


def _faults(png: IO[bytes] | None, record: Record, classes: list[str]) -> list[str]:
    """List the faults of one file; None stands for a folder or a link."""
    if png is None:
        return ["no file"]
    image = Image.open(io.BytesIO(png.read()))
    if (image.format, image.mode) != ("PNG", "P"):
        return [f"{image.format} of mode {image.mode}, not a palette PNG"]
    faults, values = [], np.asarray(image)
    if image.getpalette() != voc_palette():
        faults.append("its palette is not VOC's")
    if image.size != (record.width, record.height):
        faults.append(f"{image.width}×{image.height}, the image is {record.width}×{record.height}")
    if values.max() > len(classes):
        faults.append(f"value {values.max()}, there are {len(classes)} classes")
    return faults
