"""Data sets: one index table per data set, made by a builder and read through ``index.Dataset``."""

from __future__ import annotations

from pathlib import Path

from wsss.data import coco, folder, shapes, voc
from wsss.errors import choose

BUILDERS = {"shapes": shapes.build, "voc": voc.build, "folder": folder.build, "coco": coco.build}


def build(config: dict, out_dir: str | Path) -> None:
    """Build the index of the data set that ``config`` describes and write ``index.csv`` and ``dataset.json``.

    Args:
        config: ``name``, ``builder``, and the builder's options.
        out_dir: the only folder that is written to.

    Raises:
        WsssError: an option is unknown, missing or impossible.
        Problems: files of the data set are faulty; all of them are named.
    """
    make = choose(BUILDERS, config.get("builder"), "data set builder")
    make(config, Path(out_dir)).save(out_dir)
