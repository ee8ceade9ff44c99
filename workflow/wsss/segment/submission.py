"""The archive that the VOC test server takes: ``results/VOC2012/Segmentation/comp6_test_cls/<id>.png``."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.errors import Problems, WsssError
from wsss.files import atomic
from wsss.stores import Masks, png_bytes, voc_palette

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"  # comp6: trained on other data, too, such as ImageNet


def submission(mask_paths: Iterable[str | Path], dataset, out: str | Path) -> None:
    """Pack the label maps of ``dataset``'s images as a ``.tgz`` and check the archive before it gets its name.

    Raises:
        WsssError: an image has no label map.
        Problems: a label map is not what the server takes; every one of them is named.
    """
    masks = Masks(mask_paths)
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


def check(path: str | Path, dataset) -> list[str]:
    """What is wrong with an archive: files missing or too many, not palette PNGs, palette, sizes, values."""
    expected = {f"{FOLDER}/{record.id}.png": record for record in dataset.records}
    findings, seen = [], Counter()
    with tarfile.open(path) as archive:
        for entry in archive:
            seen[entry.name] += 1
            if entry.name in expected:
                png = archive.extractfile(entry).read()
                findings += [f"{entry.name}: {what}" for what in _faults(png, expected[entry.name], dataset.classes)]
    findings += [f"{name}: missing" for name in expected if name not in seen]
    findings += [f"{name}: {number} times" for name, number in seen.items() if number > 1]
    return findings + [f"{name}: not an image of the split" for name in sorted(set(seen) - set(expected))]


def _faults(png: bytes, record, classes: list[str]) -> list[str]:
    image = Image.open(io.BytesIO(png))
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
