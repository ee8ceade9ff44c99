"""Data sets: one index table per data set, made by a builder and read through ``index.Dataset``."""

from __future__ import annotations

import importlib
from pathlib import Path

from wsss.errors import choose

# modules by name: a job that reads a data set need not load what others are drawn with
BUILDERS = {name: f"wsss.data.{name}" for name in ("shapes", "voc", "folder", "coco")}


def build(config: dict, out_dir: str | Path) -> None:
    """Build the index of the data set that ``config`` describes and write ``index.csv`` and ``dataset.json``.

    Args:
        config: ``name``, ``builder``, and the builder's options.
        out_dir: the only folder that is written to.

    Raises:
        WsssError: an option is unknown, missing or impossible.
        Problems: files of the data set are faulty; all of them are named.
    """
    builder = importlib.import_module(choose(BUILDERS, config.get("builder"), "data set builder"))
    builder.build(config, Path(out_dir)).save(out_dir)
