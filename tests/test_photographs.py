"""The configuration for photographs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from toys import photograph, write_csv

from wsss.data import build
from wsss.data.index import Dataset
from wsss.data.voc import CLASSES
from wsss.plan.configuration import load_plan
from wsss.plan.runs import Run
from wsss.stores import png_bytes

ROOT = Path(__file__).parents[1]
TRAIN, VAL = ("a", "b", "c", "d"), ("e",)


def voc_folder(folder: Path) -> Path:
    """Write five photographs in VOC's layout, 12 by 9 pixels, a cat in the right half of each."""
    for name in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros((9, 12), np.uint8)
    mask[:, 6:] = 1 + CLASSES.index("cat")
    for k, image_id in enumerate((*TRAIN, *VAL)):
        photograph(12, 9, k).save(folder / "JPEGImages" / f"{image_id}.jpg")
        (folder / "SegmentationClassAug" / f"{image_id}.png").write_bytes(png_bytes(mask))
    for name, ids in (("train", TRAIN), ("val", VAL)):
        (folder / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
    write_csv(folder / "image_labels.csv", [["id", "cat", "dog"], *([i, 1, 0] for i in (*TRAIN, *VAL))])
    return folder


def test_the_steps_of_the_configuration_lead_to_an_index(tmp_path):
    path = ROOT / "workflow/photographs.yaml"
    (command,) = re.findall(r"^# +.*: (awk .*)$", path.read_text(encoding="utf-8"), re.M)
    folder = voc_folder(tmp_path / "VOC2012")
    subprocess.run(command, shell=True, cwd=folder / "ImageSets/Segmentation", check=True)
    settings = load_plan(path).data_config("photographs")
    build({**settings, "root": str(folder)}, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.split("measured").ids == ["a", "d"]
    assert dataset.split("train").ids == list(TRAIN)


def test_every_run_has_settings_on_photographs():
    plan = load_plan(ROOT / "workflow/photographs.yaml")
    plan.check("photographs")
    for paper, spec in plan.papers.items():
        for name in spec["runs"]:
            config = plan.resolve(Run("photographs", paper, name))
            assert config["backbone"]["name"] == "mobilenet_v2", f"{paper}/{name}"
            train = config["train"]
            optimizer = train["optimizer"]
            budget = (train["steps"], train["batch_size"], optimizer["lr"], optimizer["momentum"])
            steps = {"eader": 800, "aeft": 1600}.get(config["method"]["name"], 400)  # EADER's two networks take turns
            if (paper, name) == ("aeft", "gap"):  # a plain CAM, trained as AEFT is
                steps = 1600
            assert budget == (steps, 8, 0.005, 0.9), f"{paper}/{name}"  # also where a paper says otherwise of its run
            # at higher rates, features become the same for all images
            for stage, highest in (("affinity", 0.002), ("deeplab", 0.0005)):
                assert config[stage]["train"]["optimizer"]["lr"] <= highest, f"{paper}/{name}: {stage}"
