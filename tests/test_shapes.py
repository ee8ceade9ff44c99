"""The embedded data set: a function of its seed, in VOC's layout, and hard in the way it promises."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from wsss.data import build
from wsss.data.drawing import BADGES, SCENES, Body, background, paint_object
from wsss.data.index import Dataset
from wsss.data.shapes import CO_OCCURRENCE, habitat, scene
from wsss.errors import WsssError
from wsss.files import sha256
from wsss.stores import IGNORE, voc_palette

CONFIG = {"name": "toy", "builder": "shapes", "seed": 3, "train": 10, "val": 4, "size": 96}
CLASSES = list(BADGES)[:6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes")
    build(CONFIG, out)
    return out


@pytest.fixture(scope="module")
def scenes():
    return [scene(96, CLASSES, np.random.default_rng([5, k])) for k in range(60)]


def test_layout_and_index(folder):
    dataset = Dataset.load(folder)
    assert dataset.classes == CLASSES
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (10, 4)
    root = folder / "VOC"
    assert (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split() == dataset.split("val").ids
    for record in dataset.records:
        assert (record.width, record.height) == (96, 96)
        with Image.open(root / "SegmentationClass" / f"{record.id}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[:60] == voc_palette()[:60]


def test_labels_are_the_classes_in_the_mask(folder):
    dataset = Dataset.load(folder)
    for record, row in zip(dataset.records, dataset.labels(), strict=True):
        values = np.unique(dataset.mask(record.id))
        assert (np.flatnonzero(row) + 1).tolist() == [v for v in values if v not in (0, IGNORE)]


def test_every_object_has_a_mask_of_its_own(folder):
    dataset = Dataset.load(folder)
    most = 0
    for record in dataset.records:
        objects, mask = dataset.instances(record.id), dataset.mask(record.id)
        assert np.array_equal(objects == IGNORE, mask == IGNORE)
        assert np.array_equal(objects == 0, mask == 0)
        values = np.unique(objects[(objects != 0) & (objects != IGNORE)]).tolist()
        assert values == list(range(1, len(values) + 1))
        assert all(len(np.unique(mask[objects == value])) == 1 for value in values)
        most = max(most, len(values))
    assert most == 3


def test_the_folder_can_move(folder, tmp_path):
    folder.rename(tmp_path / "moved")
    try:
        assert Dataset.load(tmp_path / "moved").image("val_0003").shape == (96, 96, 3)
    finally:
        (tmp_path / "moved").rename(folder)


def test_the_seed_decides_every_byte(folder, tmp_path):
    build(CONFIG, tmp_path / "same")
    build({**CONFIG, "seed": 4}, tmp_path / "other")
    assert sha256(tmp_path / "same") == sha256(folder)
    same, other = ([record.sha256 for record in Dataset.load(tmp_path / name).records] for name in ("same", "other"))
    assert not set(same) & set(other)


def test_more_images_leave_the_first_ones_as_they_are(folder, tmp_path):
    build({**CONFIG, "train": 12, "val": 5}, tmp_path)
    known = {record.id: record.sha256 for record in Dataset.load(tmp_path).records}
    assert all(known[record.id] == record.sha256 for record in Dataset.load(folder).records)


def test_every_class_and_one_to_three_objects_occur(scenes):
    present = [set(np.unique(label)) - {0, IGNORE} for _, label, _ in scenes]
    assert set.union(*present) == set(range(1, 7))
    assert {len(classes) for classes in present} == {1, 2, 3}


def test_objects_have_a_border_of_ignore(scenes):
    for _, label, _ in scenes:
        border = label == IGNORE
        assert 0 < border.mean() < 0.15
        for value in set(np.unique(label)) - {0, IGNORE}:
            touched = binary_dilation(label == value) & (label != value)
            assert (label[touched] == IGNORE).all()  # an object touches nothing but its border


def test_size_and_number_of_classes():
    image, label, _ = scene(128, list(BADGES), np.random.default_rng(0))
    assert image.shape == (128, 128, 3)
    assert image.dtype == label.dtype == np.uint8
    assert label.shape == (128, 128)
    seen = {v for k in range(80) for v in np.unique(scene(48, list(BADGES), np.random.default_rng(k))[1])}
    assert seen == {0, IGNORE, *range(1, len(BADGES) + 1)}


def test_the_badge_is_the_small_part_that_tells():
    """Two objects that differ in class differ in their badge alone, and it covers less than half of the body."""
    size = 112
    for seed in range(8):
        body = Body.draw(size, np.random.default_rng(seed))
        canvas = background(0, size, np.random.default_rng(seed))
        a, b = (paint_object(canvas, body, BADGES[name], np.random.default_rng(seed)) for name in ("rings", "checks"))
        inside, badge = body.depth(size) > 0, np.hypot(*body.badge_frame(size)) < 1.1
        assert np.array_equal(a[~badge], b[~badge])
        assert abs(a - b)[badge & inside].mean() > 0.2
        assert (badge & inside).sum() < 0.5 * inside.sum()


def test_bodies_stand_out_and_are_even():
    """A body varies less than the distance of its colour from the background around it: what a dense CRF needs."""
    size, distances, spreads = 112, [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        canvas = background(seed % len(SCENES), size, rng)
        body = Body.draw(size, rng)
        image = paint_object(canvas, body, BADGES["dots"], rng)
        depth, plain = body.depth(size), np.hypot(*body.badge_frame(size)) > 1.1
        inside = image[(depth > 1) & plain]
        around = image[(depth < -3) & (depth > -12)]
        distances.append(np.linalg.norm(inside.mean(0) - around.mean(0)))
        spreads.append(np.linalg.norm(inside.std(0)))
    assert np.median(distances) > 2 * np.median(spreads)


def test_the_scene_goes_with_the_first_class():
    for first in range(8):
        drawn = [habitat(first, np.random.default_rng(seed)) for seed in range(600)]
        shares = np.bincount(drawn, minlength=len(SCENES)) / 600
        expected = np.full(len(SCENES), (1 - CO_OCCURRENCE) / len(SCENES))
        expected[first % len(SCENES)] += CO_OCCURRENCE
        np.testing.assert_allclose(shares, expected, atol=0.07)


def test_impossible_settings():
    for classes in (1, len(BADGES) + 1):
        with pytest.raises(WsssError, match=f"classes is {classes}; there are badges for 2 to {len(BADGES)}"):
            build({**CONFIG, "classes": classes}, "unused")
    with pytest.raises(WsssError, match="unknown option 'pixels'"):
        build({**CONFIG, "pixels": 1}, "unused")


def test_objects_hide_each_other_but_stay_recognisable(scenes):
    touching, areas = 0, []
    for _, label, _ in scenes:
        grown = [binary_dilation(label == v, iterations=3) for v in set(np.unique(label)) - {0, IGNORE}]
        touching += sum(grown).max() > 1
        areas += [(label == v).mean() for v in set(np.unique(label)) - {0, IGNORE}]
    assert touching > 10
    assert min(areas) > 0.05  # the smallest body has a tenth of the image, of which 60 % stay visible, less its border
