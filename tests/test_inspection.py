"""``wsss inspect`` says how well classes were learned, of results wherever they lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from provenance_chain import DATA, MEASURE, RUN, configured, index, settings, working_in
from stages import TINY, given, run

from wsss.cli import main
from wsss.data.index import Dataset
from wsss.data.transforms import multi_scale
from wsss.errors import WsssError
from wsss.files import read_json
from wsss.measure.inspection import THRESHOLDS, average_precision, describe, disc, inspect
from wsss.measure.metrics import miou_of_all
from wsss.measure.stage import measure
from wsss.methods import build
from wsss.plan.resolve import method_settings
from wsss.provenance.record import recorded


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with class maps of an untrained network, made in another one and moved there."""
    made, moved = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("moved")
    config = method_settings("cam")
    config = settings("cam", 0, **{name: config[name] for name in ("method", "train", "cam")}, backbone=TINY)
    config["cam"]["scales"] = [0.5, 1.0]
    with working_in(made):
        index(train=9)
        images = Dataset.load(DATA).part("measured", config["dataset"]["splits"])
        model, out = f"{RUN}/train/model.pt", f"{RUN}/cam/measured-0-of-1.npz"
        Path(model).parent.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(build(config, len(images.classes)).state_dict(), model)
        with recorded("cam", [configured(f"{RUN}/cam/config.yaml", config), DATA, model], [out], config, "cpu"):
            run("cam", config, images, out, model=model)
    shutil.move(made / "results", moved)
    return moved


def images_of(folder: Path) -> Dataset:
    return Dataset.load(folder / DATA).split("train")


def test_average_precision_is_the_mean_of_precisions_at_the_ranks_of_the_class():
    labels = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    logits = np.array([[3.0, -1, 0], [2, 5, 0], [1, 0, 0]])
    np.testing.assert_allclose(average_precision(labels, logits), [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, np.nan])


def test_a_disc_is_cut_into_columns_of_the_classes():
    drawn = disc([3, 5], 40, 80, 0.25)
    assert (drawn[:, :40] != 5).all()
    assert (drawn[:, 40:] != 3).all()
    assert (drawn[20, 20:60] != 0).all()  # .25 of the width to either side
    assert not drawn[20, :20].any()
    assert not drawn[:10].any()
    assert (drawn == 3).sum() == (drawn == 5).sum()
    assert (drawn != 0).mean() == pytest.approx(np.pi * 0.25**2, rel=0.02)
    assert not disc([], 4, 5, 0.3).any()


def test_the_average_precision_is_that_of_the_model_on_whole_images_at_the_first_scale(folder):
    found, images = inspect(folder / RUN / "cam"), images_of(folder)
    model = folder / RUN / "train/model.pt"
    network = build(read_json(folder / RUN / "cam/measured-0-of-1.record.json")["config"], len(images.classes))
    network.load_state_dict(torch.load(model, weights_only=True))
    network.eval()
    with torch.no_grad():
        logits = [network.classify(multi_scale(images.image(i), [0.5], False)[0])[0].numpy() for i in images.ids]
    np.testing.assert_array_equal(found.precision, average_precision(images.labels(), np.stack(logits)))
    assert found.images.tolist() == images.labels().sum(0).tolist()


def test_the_miou_is_that_of_the_stage_measure(folder, tmp_path):
    found, images = inspect(folder / RUN / "cam"), images_of(folder)
    scores = [folder / RUN / "cam/measured-0-of-1.npz"]
    measure(given({"measure": MEASURE}, images, scores=scores), "cam", "measured", tmp_path / "metrics.json")
    sweep = read_json(tmp_path / "metrics.json")["sweep"]
    at = np.searchsorted(THRESHOLDS, sweep["thresholds"])
    np.testing.assert_allclose(miou_of_all(found.maps)[at], sweep["miou"])


def test_the_command_prints_a_row_for_each_class_that_is_shown(folder, capsys):
    main(["inspect", os.path.relpath(folder / RUN / "cam")])
    said = capsys.readouterr().out
    found = inspect(folder / RUN / "cam")
    assert said == describe(found) + "\n"
    rows = [line.split()[0] for line in said.partition("\n\n")[0].splitlines()]
    assert rows == ["class", *(name for name, n in zip(found.classes, found.images, strict=True) if n), "mean"]
    assert f"mIoU with background: {100 * miou_of_all(found.maps).max():.1f} %" in said


def test_a_folder_without_such_class_maps_is_refused(folder):
    with pytest.raises(WsssError, match="no class maps of the images 'val'; give the folder cam"):
        inspect(folder / RUN / "cam", "val")
