"""The whole way from COCO's instance annotations to rows of tables, on a COCO that is made up."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_masks

from wsss.data.index import Dataset

pytestmark = pytest.mark.workflow

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}, {"id": 90, "name": "toothbrush"}]
COLOURS = {1: (200, 60, 60), 13: (60, 200, 60), 90: (60, 60, 200)}
HEIGHT, WIDTH = 48, 64
PAPER = """\
title: Rows of three papers
citation: "@misc{rows}"
runs: {}
tables:
  rows:
    title: Rows
    caption: "mIoU. Reported: MS COCO 2014 val, posters."
    columns:
      - {key: cam, label: class maps}
      - {key: coco, label: val, stage: predict}
    rows:
      - {label: OC-CSE, run: occse/occse, reported: {coco: 36.4}}
      - {label: AEFT, run: aeft/aeft, reported: {coco: 44.8}}
      - {label: ACR, run: acr/acr, reported: {coco: 45.3}}
figures: {}
"""


def shape_of(mask: np.ndarray, kind: int):
    """The shape as COCO writes it: a compressed code, or a plain one."""
    code = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    if kind:
        return {"size": list(mask.shape), "counts": code["counts"].decode()}
    runs = [len(list(group)) for _, group in itertools.groupby(mask.T.ravel())]
    return {"size": list(mask.shape), "counts": [0] * int(mask[0, 0]) + runs}  # the first run is of background


def box(x: int, y: int, w: int, h: int) -> list[float]:
    return [float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]


def coco(root: Path, train: int, val: int) -> None:
    """Images with parts, rings, overlaps and crowds, codes of both kinds, and one without any annotation per set."""
    rng = np.random.default_rng(3)
    (root / "annotations").mkdir(parents=True)
    for name, count in (("train2014", train), ("val2014", val)):
        (root / name).mkdir()
        images, annotations = [], []
        for k in range(count + 1):
            pixels = rng.integers(90, 140, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            image = {"id": 7 * k + 1, "file_name": f"COCO_{name}_{k:012d}.jpg", "width": WIDTH, "height": HEIGHT}
            images.append(image)
            for category in rng.permutation([1, 13, 90])[: 1 + k % 2] if k < count else ():
                x, y = int(rng.integers(2, 30)), int(rng.integers(2, 20))
                ys, xs = np.mgrid[:HEIGHT, :WIDTH]
                area = (xs >= x) & (xs < x + 26) & (ys >= y) & (ys < y + 20)
                shape: object = [box(x, y, 26, 20)]
                if category == 13:  # a ring
                    area &= ~((xs >= x + 8) & (xs < x + 16) & (ys >= y + 6) & (ys < y + 14))
                    shape = shape_of(area, k % 2)
                if category == 90:  # two parts
                    area &= (xs < x + 8) | (xs >= x + 16)
                    shape = [box(x, y, 8, 20), box(x + 16, y, 10, 20)]
                pixels[area] = np.clip(rng.normal(COLOURS[category], 12, (int(area.sum()), 3)), 0, 255)
                annotations.append(
                    {"image_id": image["id"], "category_id": int(category), "segmentation": shape, "iscrowd": 0}
                )
            if k == 1:
                crowd = np.zeros((HEIGHT, WIDTH), bool)
                crowd[:5] = True
                last = {"image_id": image["id"], "category_id": 1, "segmentation": shape_of(crowd, 0), "iscrowd": 1}
                annotations.append(last)
            Image.fromarray(pixels).save(root / name / image["file_name"], quality=95)
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def small(config: dict, root: Path) -> dict:
    """The configuration with a data set of that COCO: networks of drawn data, few steps, small pictures."""
    few = {"steps": 4, "batch_size": 4, "jitter": None}
    tiny = {"name": "tiny", "freeze": [], "freeze_norm": False, "dropout": None, "output_stride": None, "weights": None}
    names = config["datasets"]["shapes"]["stand_ins"]
    overrides = config["datasets"]["shapes"]["overrides"]
    for section in ("affinity", "irn_train", "deeplab"):
        overrides[section].setdefault("train", {}).update({key: few[key] for key in ("steps", "batch_size")})
    overrides["train"] |= few
    config["datasets"]["toy"] = {
        "builder": "coco",
        "options": {"root": str(root), "sets": {"train": "train2014", "val": "val2014"}},
        "splits": {"train": "train", "measured": "train", "val": "val"},
        "seeds": [0],
        "pixels": 1 / 7,
        "stand_ins": dict.fromkeys(names, tiny),
        "overrides": overrides,
        "methods": {
            "cam": {"method": {"dropout": 0.0}},
            "acr": {
                "train": {"crop": 448},
                "method": {"unet_depth": 3, "unet_width": 4, "feature_channels": [4, 4, 8]},
            },
        },
    }
    return {**config, "dataset": "toy", "papers": ["occse", "aeft", "acr", "rows"]}


def test_from_annotations_to_rows_of_three_papers(workflow, tmp_path):
    root = tmp_path / "coco"
    coco(root, 10, 4)
    config = yaml.safe_load((workflow.folder / "config.yaml").read_text())
    paper = workflow.folder / "workflow" / "papers" / "rows.yaml"
    paper.write_text(PAPER)
    (workflow.folder / "toy.yaml").write_text(yaml.safe_dump(small(config, root)))
    workflow("--configfile", "toy.yaml", "--", "rows_rows")
    paper.unlink()
    folder = workflow.folder / "results" / "toy"
    dataset = Dataset.load(folder / "data")
    assert dataset.classes == ["person", "stop sign", "toothbrush"]
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (10, 4)  # those without annotation are left out
    crowd = "COCO_train2014_000000000001"
    assert dataset.split("train").labels()[dataset.split("train").ids.index(crowd)][0] == 1
    assert (dataset.mask(crowd)[:2] == 0).all()  # a label, and background
    masks = [dataset.mask(image_id) for image_id in dataset.split("train").ids]
    assert {value for mask in masks for value in np.unique(mask).tolist()} == {0, 1, 2, 3}
    rings = [mask for mask in masks if set(np.unique(mask)) == {0, 2}]  # nothing lies in the hole or over the ring
    assert rings
    for ring in rings:
        ys, xs = np.nonzero(ring)
        assert (ring[ys.min() + 6 : ys.min() + 14, xs.min() + 8 : xs.min() + 16] == 0).all()
        assert (ring > 0).sum() == 26 * 20 - 8 * 8
    with (folder / "tables" / "rows_rows" / "table.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["ours"]]
    assert {(row["row"], row["column"]) for row in rows} == {
        (paper, column) for paper in ("OC-CSE", "AEFT", "ACR") for column in ("class maps", "val")
    }
    assert all(0 < float(row["ours"]) < 100 for row in rows)
