"""A small data set as people bring it: four pictures of hens and geese in a folder, which tests change and index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import photograph, write_csv

from wsss.data import build
from wsss.data.index import Dataset
from wsss.errors import Problems, WsssError
from wsss.stores import png_bytes

IDS = ("p", "q", "r", "s")


def field(k: int) -> np.ndarray:
    """Return the mask of the k-th image: hens on even ones, geese on odd ones."""
    mask = np.zeros((9, 12), np.uint8)
    mask[2:6, 3:8] = 1 + k % 2
    return mask


def plant(root: Path) -> dict:
    """Put four images of hens and geese in turn below ``root``, and return the settings that index them."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k, image_id in enumerate(IDS):
        photograph(12, 9, k).save(root / "images" / f"{image_id}.png")
        (root / "masks" / f"{image_id}.png").write_bytes(png_bytes(field(k)))
    write_csv(root / "labels.csv", [["id", "labels"], *([i, ("hen", "goose")[k % 2]] for k, i in enumerate(IDS))])
    (root / "train.txt").write_text("p\nq\n")
    (root / "val.txt").write_text("r\ns\n")
    lists = {"train": "train.txt", "val": "val.txt"}
    options = {"root": str(root), "lists": lists, "masks": "masks", "classes": ["hen", "goose"]}
    return {"name": "farm", "builder": "folder", **options}


def indexed(settings: dict, tmp_path: Path) -> Dataset:
    """Build the data set and load its index."""
    build(settings, tmp_path / "out")
    return Dataset.load(tmp_path / "out")


def refused(settings: dict, tmp_path: Path, *words: str) -> None:
    """Expect that the data set is refused by a line with the given words."""
    with pytest.raises(WsssError) as caught:
        build(settings, tmp_path / "out")
    lines = caught.value.findings if isinstance(caught.value, Problems) else [str(caught.value)]
    assert any(all(word in line for word in words) for line in lines), lines
