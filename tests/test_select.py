"""The choice of an epoch by class maps: its score is the number that the measurement of the kept epoch gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from stages import TINY, changed, given, run

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.files import read_json
from wsss.measure.stage import measure
from wsss.plan.resolve import method_settings
from wsss.run_training import run_training
from wsss.stages import STAGES
from wsss.stores import png_bytes


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Red and blue squares on grey noise."""
    rng, records = np.random.default_rng(0), []
    for i in range(8):
        image, mask = rng.normal(120, 25, (40, 40, 3)), np.zeros((40, 40), np.uint8)
        y, x = rng.integers(0, 20, 2)
        mask[y : y + 20, x : x + 20] = 1 + i % 2
        image[mask > 0] = (220, 60, 60) if i % 2 == 0 else (60, 60, 220)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}_mask.png").write_bytes(png_bytes(mask))
        names, split = ("red", "blue"), ("train", "few") if i < 6 else ("train",)
        records.append(Record(f"im{i}", f"{i}.png", f"{i}_mask.png", split, (names[i % 2],), 40, 40, "", ""))
    return Dataset("squares", ["red", "blue"], tmp_path, records)


def settings(**train) -> dict:
    small = {
        "crop": 40,
        "long_side": None,
        "jitter": None,
        "batch_size": 4,
        "epochs": 4,
        "optimizer": {"lr": 0.05},
    }
    config = changed(method_settings("cam"), {"train": {**small, **train}, "cam": {"scales": [1.0, 0.5]}})
    splits = {"train": "train", "measured": "few", "val": "few"}
    return {**config, "backbone": dict(TINY), "seed": 0, "dataset": {"name": "squares", "splits": splits}}


def test_the_score_that_is_kept_is_that_of_the_kept_classifier(dataset, tmp_path, capsys):
    config = settings(select="best")
    model = run_training(STAGES["train"], given(config, dataset), tmp_path / "train")
    about = read_json(tmp_path / "train/training.json")["selection"]
    scores = {one["step"]: one["score"] for one in about["scores"]}
    assert list(scores) == [2, 4, 6, 8]
    assert scores[about["kept"]] == max(scores.values())
    assert about["protocol"].startswith("mIoU of class maps on the masks of the 6 images of the role measured")
    assert f"epoch 0, step 2: {scores[2]:.4f}, mIoU of class maps" in capsys.readouterr().err

    few = dataset.split("few")
    run("cam", config, few, tmp_path / "cam.npz", model=str(model))
    measure(given(config, few, scores=[tmp_path / "cam.npz"]), "cam", "measured", tmp_path / "cam.json")
    measured = read_json(tmp_path / "cam.json")["points"]["best"]["miou"]
    assert measured == pytest.approx(scores[about["kept"]], abs=1e-3)  # stored scores are rounded


def test_a_choice_reads_masks_and_the_last_epoch_needs_none(dataset, tmp_path):
    bare = Dataset("bare", dataset.classes, dataset.root, [dataclasses.replace(r, mask=None) for r in dataset.records])
    with pytest.raises(WsssError, match=r"train\.select: best needs masks, and image 'im0' has none; use last"):
        run_training(STAGES["train"], given(settings(select="best"), bare), tmp_path / "a")
    assert run_training(STAGES["train"], given(settings(select="last"), bare), tmp_path / "b").is_file()
