"""A small finished chain, made by real jobs: images, network, score maps, masks, metrics, a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from wsss.data import build
from wsss.data.index import Dataset
from wsss.job import give
from wsss.measure.stage import measure
from wsss.provenance.audit import Audit, audit
from wsss.provenance.record import recorded
from wsss.report.tables import write_table
from wsss.stores import write_masks, write_scores

SPLITS = {"train": "train", "measured": "train", "val": "val"}
MEASURE = {"sweep": [0.0, 0.6, 0.1], "thresholds": [0.0, 0.6, 0.1], "fixed": 0.2, "floor": False, "absent": "zero"}
SHAPES = {"name": "toy", "builder": "shapes", "seed": 3, "train": 3, "val": 1, "size": 32}
RUN = "results/toy/seam/seam/seed0"
TABLE = "results/toy/tables/seam_table2"
DATA = "results/toy/data"


@dataclass
class Chain:
    """A finished chain below a working folder; ``results`` lies in it."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / TABLE / "table.csv"

    def path(self, name: str) -> Path:
        return self.folder / "results" / "toy" / name

    def audit(self, **more: object) -> Audit:
        return audit(self.table, **{"cold": True, "code": False, **more})

    def kinds(self, **more: object) -> set[tuple[str, str]]:
        return {(finding.kind, finding.place) for finding in self.audit(**more).findings}

    def files(self) -> list[Path]:
        return sorted(path for path in (self.folder / "results").rglob("*") if path.is_file())


def make_chain(folder: Path, seed: int = 0) -> Chain:
    """Make every result of the chain in ``folder``."""
    with working_in(folder):
        index()
        train(seed)
        cam(seed)
        walk(seed)
        measured("cam", seed)
        measured("walk", seed)
        table()
    return Chain(folder)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def configured(path: str, config: dict) -> str:
    """Write a config.yaml as the rules do."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump(config))
    return path


def run_of(seed: int) -> str:
    return RUN.removesuffix("0") + str(seed)


def settings(stage: str, seed: int, **more: object) -> dict:
    return {"stage": stage, "dataset": {"name": "toy", "splits": SPLITS}, "seed": seed, **more}


def index(**more: object) -> None:
    config = {**SHAPES, **more}
    given = configured(f"{DATA}/config.yaml", config)
    with recorded("index", [given], [DATA], config, "cpu"):
        build(config, Path(DATA))


def train(seed: int = 0, **more: object) -> None:
    home, config = f"{run_of(seed)}/train", settings("train", seed, train={"steps": 3, **more})
    with recorded("train", [configured(f"{home}/config.yaml", config), DATA], [home], config, "auto"):
        draw = np.random.default_rng([seed, config["train"]["steps"]])
        Path(home, "model.pt").write_bytes(draw.bytes(4000))
        Path(home, "losses.csv").write_text("step,epoch,phase,term,value\n0,0,all,loss,0.5\n")


def cam(seed: int = 0, part: str = "measured") -> None:
    run, config = run_of(seed), settings("cam", seed, cam={"scales": [1.0]})
    out = f"{run}/cam/{part}-0-of-1.npz"
    inputs = [configured(f"{run}/cam/config.yaml", config), DATA, f"{run}/train/model.pt"]
    with recorded("cam", inputs, [out], config, "auto"), write_scores(out) as store:
        images = Dataset.load(DATA).part(part, SPLITS)
        for image_id in images.ids:
            truth = images.mask(image_id)
            classes = np.setdiff1d(truth, (0, 255))
            draw = np.random.default_rng([seed, *map(ord, image_id)])
            noise = draw.random((len(classes), *truth.shape), np.float32)
            store.put(image_id, classes, 0.4 * noise + 0.3 * (truth == classes[:, None, None]))


def walk(seed: int = 0) -> None:
    run, config = run_of(seed), settings("walk", seed, walk={"beta": 8})
    out = f"{run}/walk/measured-0-of-1.zip"
    inputs = [configured(f"{run}/walk/config.yaml", config), DATA, f"{run}/cam/measured-0-of-1.npz"]
    with recorded("walk", inputs, [out], config, "auto"), write_masks(out) as store:
        images = Dataset.load(DATA).part("measured", SPLITS)
        for image_id in images.ids:
            truth = images.mask(image_id)
            store.put(image_id, np.where(truth == 255, 0, truth) * (np.indices(truth.shape).sum(0) % 3 > 0))


def measured(stage: str, seed: int = 0) -> None:
    run, config = run_of(seed), settings("measure", seed, measure=MEASURE)
    shard, kind = {"cam": ("npz", "scores"), "walk": ("zip", "masks")}[stage]
    read, out = f"{run}/{stage}/measured-0-of-1.{shard}", f"{run}/measure/{stage}_measured.json"
    with recorded("measure", [configured(f"{run}/measure/config.yaml", config), DATA, read], [out], config, "cpu"):
        given = give(config, DATA, "measured", **{kind: [read]})
        measure(given, stage, "measured", out)


def drawing() -> dict:
    cell = {"run": "seam/seam", "metric": "miou", "images": "measured", "dataset": "toy", "not_comparable": "a toy"}
    cam = {**cell, "stage": "cam", "at": "best", "reported": 55.41, "metrics": [f"{RUN}/measure/cam_measured.json"]}
    walk = {**cell, "stage": "walk", "at": "argmax", "reported": 64.5, "metrics": [f"{RUN}/measure/walk_measured.json"]}
    quoted = {"reported": 47.43, "literature": "the paper", "images": "measured", "metric": "miou"}
    rows = [
        {"label": "CAM", "cells": [quoted]},
        {"label": "CAM + SEAM", "cells": [cam]},
        {"label": "AffinityNet", "cells": [walk]},
    ]
    columns = [{"key": "miou", "label": "mIoU"}]
    about = {"paper": "seam", "paper_title": "SEAM", "name": "table2", "title": "Table 2", "caption": "Of a toy."}
    return {**about, "dataset": "toy", "seeds": [0], "columns": columns, "rows": rows}


def table(config: dict | None = None) -> None:
    config = config or drawing()
    files = [path for row in config["rows"] for cell in row["cells"] for path in cell.get("metrics", [])]
    with recorded("table", [configured(f"{TABLE}/config.yaml", config), *files], [TABLE], config, "cpu"):
        write_table(config, Path(TABLE))
