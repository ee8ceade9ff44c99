"""The embedded data set: a function of its seed, in VOC's layout, and hard in the way it promises."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from wsss.data import build
from wsss.data.drawing import BADGES, HIND, SCENES, Appearance, Body, background, body_colours, paint_object
from wsss.data.index import Dataset
from wsss.data.shapes import CO_OCCURRENCE, habitat, icon, scene
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


def test_every_class_and_up_to_three_objects_occur(scenes):
    present = [set(np.unique(label)) - {0, IGNORE} for _, label, _ in scenes]
    assert set.union(*present) == set(range(1, 7))
    assert {len(classes) for classes in present} == {0, 1, 2, 3}


def test_some_images_of_each_kind_show_no_object(scenes):
    assert 0.05 < np.mean([not label.any() for _, label, _ in scenes]) < 0.3
    assert 0.05 < np.mean([not icon(48, CLASSES, np.random.default_rng(seed))[1] for seed in range(60)]) < 0.3


def test_objects_have_a_border_of_ignore(scenes):
    for _, label, _ in scenes:
        border = label == IGNORE
        assert border.any() == label.any()
        assert border.mean() < 0.15
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


def painted(name: str, body: Body, seed: int, size: int = 112) -> np.ndarray:
    canvas = background(0, size, np.random.default_rng(seed))
    return paint_object(canvas, body, Appearance.of(name), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_parts_tell_the_class_more_or_less(seed):
    size, body = 112, Body.draw(112, np.random.default_rng(seed))
    inside, badge = body.depth(size) > 0, np.hypot(*body.badge_frame(size)) < 1.1
    hind = (body.axes(size)[0] < HIND) & ~badge
    stripes, checks, dots = (painted(name, body, seed) for name in ("stripes", "checks", "dots"))
    other_fur, other_coat = abs(stripes - checks), abs(stripes - dots)  # stripes: the coat of checks, the fur of dots
    middle = inside & ~badge & ~hind
    assert np.array_equal(stripes[~badge & ~hind], dots[~badge & ~hind])
    other_badge = other_coat[badge & inside].mean()
    assert 0.02 < other_coat[hind & inside].mean() < 0.5 * other_badge
    assert 0.02 < other_fur[middle].mean() < 0.5 * other_badge
    assert (badge & inside).sum() < 0.35 * inside.sum()


def test_classes_share_coats_and_fur_but_no_two_share_both():
    looks = [Appearance.of(name) for name in BADGES]
    assert sorted(look.coat for look in looks) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(look.fur for look in looks) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert len({(look.coat, look.fur) for look in looks}) == len(looks)


def test_one_of_the_two_colours_of_a_body_hides_it():
    around = np.array([0.5, 0.4, 0.3])
    pairs = [body_colours(around, np.random.default_rng(seed)) for seed in range(200)]
    first, second = (np.median([np.linalg.norm(pair[k] - around) for pair in pairs]) for k in (0, 1))
    assert second < 0.5 * first


def test_radii_are_over_a_range_of_more_than_three():
    radii = [Body.draw(100, np.random.default_rng(seed)).radius for seed in range(300)]
    assert 3 < max(radii) / min(radii) < 4


def test_icons_show_no_more_than_one_object_and_have_no_mask(tmp_path):
    build({**CONFIG, "icons": 9, "icon_size": 48, "measured": 4}, tmp_path)
    dataset = Dataset.load(tmp_path)
    icons = dataset.split("icons")
    assert (len(icons), len(dataset.split("measured")), len(dataset.split("train"))) == (9, 4, 10)
    assert dataset.split("measured").ids == dataset.split("train").ids[:4]
    assert all(len(record.labels) <= 1 and record.mask is None for record in icons.records)
    assert dataset.image(icons.ids[0]).shape == (48, 48, 3)
    assert set.union(*(icon(48, CLASSES, np.random.default_rng(seed))[1] for seed in range(60))) == set(range(6))


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
        touching += np.sum(grown, 0).max() > 1
        areas += [(label == v).mean() for v in set(np.unique(label)) - {0, IGNORE}]
    assert touching > 10
    assert min(areas) > 0.01  # the smallest body has 1/26 of the image, of which 60 % stay visible, less its border
