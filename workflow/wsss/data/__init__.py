"""Data sets. A builder makes one index table per data set, which is read through ``index.Dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsss.registry import Registry, load

BESIDE = ("stage", "code", "sources")  # keys in the settings of a stage that are no options of a builder
BUILDERS: Registry[str] = {
    "shapes": "wsss.data.shapes:build",
    "voc": "wsss.data.voc:build",
    "folder": "wsss.data.folder:build",
    "coco": "wsss.data.coco:build",
}


def build(config: dict[str, Any], out_dir: str | Path) -> None:
    """Index the data set that ``config`` describes and write ``index.csv`` and ``dataset.json``.

    Args:
        config: ``name``, ``builder``, and the builder's options.
        out_dir: the folder to write to, and the only one.

    Raises:
        WsssError: an option is unknown, missing or impossible.
        Problems: files of the data set are faulty; all of them are named.
    """
    builder = load(BUILDERS, str(config.get("builder")), "data set builder")
    options = {key: value for key, value in config.items() if key not in BESIDE}
    builder(options, Path(out_dir)).save(out_dir)
