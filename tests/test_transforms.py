"""Augmentation: what it may change, what it must keep, and that every draw comes from the generator it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.data import transforms as t
from wsss.data.index import Dataset, Record
from wsss.data.samples import ClassificationSamples
from wsss.errors import WsssError
from wsss.stores import IGNORE

MEAN_COLOUR = 0.0  # after normalisation


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def image() -> np.ndarray:
    """40×60, and no two pixels alike: red is the row, green the column."""
    rows, columns = np.mgrid[:40, :60]
    return np.stack([rows * 6, columns * 4, rows + columns], -1).astype(np.uint8)


VIEWS = {
    "long_side": t.TrainView(32, [30, 50], 0.5, [0.3, 0.3, 0.3, 0.1], 0.8),
    "resized_crop": t.ResizedCropView(32, 0.5, [0.3, 0.3, 0.3, 0.1]),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_a_function_of_its_generator(name, image):
    view, before = VIEWS[name], image.copy()
    np.random.seed(1), torch.manual_seed(1)
    first = view(image, rng(3))
    np.random.seed(2), torch.manual_seed(2)
    assert torch.equal(first, view(image, rng(3)))
    assert not torch.equal(first, view(image, rng(4)))
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.float32
    assert np.array_equal(image, before)


def test_normalise_by_hand():
    image = np.array([[[255, 0, 128]]], np.uint8)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(t.normalise(image)[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(t.normalise(image, "vgg_bgr")[0, 0], [128 - 104.008, -116.669, 255 - 122.675], rtol=1e-6)
    with pytest.raises(WsssError, match="choose one of rgb, vgg_bgr"):
        t.normalise(image, "bgr")


def test_sizes_round_half_to_even():
    assert t.scaled_size(375, 333, 0.5) == (188, 166)
    assert t.scaled_size(375, 333, 1.5) == (562, 500)
    assert t.long_side_size(500, 375, 448) == (448, 336)
    assert t.long_side_size(375, 500, 450) == (338, 450)  # 337.5


def test_the_thinnest_image_keeps_a_pixel():
    assert t.scaled_size(1, 90, 0.5) == (1, 45)
    assert t.long_side_size(900, 1, 224) == (224, 1)


def test_without_flip_there_are_no_mirrored_copies(image):
    plain, both = t.multi_scale(image, [1.0, 0.5], False), t.multi_scale(image, [1.0, 0.5], True)
    assert [x.shape for x in plain] == [(1, 3, 40, 60), (1, 3, 20, 30)]
    assert all(torch.equal(torch.cat([x, x.flip(3)]), pair) for x, pair in zip(plain, both, strict=True))


def test_large_images_are_cropped_at_every_offset(image):
    offsets = set()
    for seed in range(300):
        (crop,) = t.random_crop([image], 36, [0], rng(seed))
        top, left = crop[0, 0, 0] // 6, crop[0, 0, 1] // 4
        assert np.array_equal(crop, image[top : top + 36, left : left + 36])
        offsets.add((top, left))
    assert {top for top, _ in offsets} == set(range(5))
    assert {left for _, left in offsets} == set(range(25))


def test_small_images_lie_anywhere_in_the_crop(image):
    places = set()
    for seed in range(100):
        crop, label = t.random_crop([image + 1, np.ones((40, 60), np.uint8)], 64, [0, IGNORE], rng(seed))
        rows, columns = np.nonzero(label == 1)
        assert (label == 1).sum() == 40 * 60
        assert (crop[label == IGNORE] == 0).all()
        assert np.array_equal(crop[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], image + 1)
        places.add((rows.min(), columns.min()))
    assert {row for row, _ in places} >= {0, 24}
    assert {column for _, column in places} == set(range(5))


def test_the_crop_of_an_image_is_padded_with_the_mean_colour():
    white = np.full((20, 20, 3), 255, np.uint8)
    crop = t.TrainView(50, None, 0.0, None)(white, rng())
    inside = torch.from_numpy(t.normalise(white)[0, 0])[:, None, None].expand(3, 50, 50)
    assert (crop == MEAN_COLOUR).all(0).sum() == 50 * 50 - 20 * 20
    assert (crop == inside).all(0).sum() == 20 * 20


def test_long_side_is_drawn_from_the_whole_range():
    def sides(view):
        crops = [view(np.full((30, 60, 3), 200, np.uint8), rng(seed)) for seed in range(80)]
        return {int((crop != MEAN_COLOUR).all(0).any(0).sum()) for crop in crops}

    assert sides(t.TrainView(80, [50, 54], 0.0, None)) == {50, 51, 52, 53, 54}
    assert sides(t.TrainView(80, None, 0.0, None)) == {60}


def test_flip_probability(image):
    def mirrored(p):
        crops = [t.TrainView(60, None, p, None)(image[:, :60], rng(seed)) for seed in range(200)]
        return sum(bool((crop[1, :, -1] < crop[1, :, 0]).any()) for crop in crops)

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 200
    assert 70 < mirrored(0.5) < 130


def test_jitter_probability(image):
    def changed(p):
        plain = t.to_tensor(t.normalise(image[:40, :40]))
        view = t.TrainView(40, None, 0.0, [0.4, 0.4, 0.4, 0.1], p)
        return sum(not torch.equal(view(image[:40, :40], rng(seed)), plain) for seed in range(100))

    assert changed(0.0) == 0
    assert changed(1.0) == 100
    assert 60 < changed(0.8) < 95


def test_brightness_stays_in_its_range():
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = [int(t.colour_jitter(grey, [0.3, 0, 0, 0], rng(seed))[0, 0, 0]) for seed in range(300)]
    assert 69 <= min(values) < 75
    assert 125 < max(values) <= 130


def test_jitter_of_strength_zero_changes_nothing(image):
    assert np.array_equal(t.colour_jitter(image, [0, 0, 0, 0], rng()), image)


def test_hue_keeps_grey_and_moves_colour(image):
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.array_equal(t.colour_jitter(grey, [0, 0, 0, 0.5], rng()), grey)
    assert not np.array_equal(t.colour_jitter(image, [0, 0, 0, 0.5], rng()), image)


def test_resized_crops_cover_8_to_100_percent():
    rows, columns = np.mgrid[:100, :100]
    ramp = np.stack([rows * 2, columns * 2, rows * 0], -1).astype(np.uint8)
    areas = []
    for seed in range(200):
        crop = t.random_resized_crop(ramp, 64, rng(seed)).astype(float)
        height, width = (np.ptp(crop[..., c]) / 2 for c in (0, 1))
        areas.append(height * width / 1e4)
        assert 0.6 < height / width < 1.7  # 3/4 to 4/3, as far as rounding lets one see
    assert min(areas) < 0.15
    assert max(areas) > 0.85


def test_resized_crop_of_a_very_long_image_takes_its_middle():
    image = np.zeros((4, 400, 3), np.uint8)
    image[:, 197:203] = 255
    crop = t.random_resized_crop(image, 16, np.random.default_rng(5))
    assert crop.shape == (16, 16, 3)
    assert crop[:, 8].mean() > 200


@pytest.mark.parametrize(
    "view",
    [
        t.MaskedView(48, [0.5, 1.5], 0.5),
        t.MaskedView(48, None, 0.5, long_side=[30, 70]),
        t.MaskedView(48, None, 0.5),
    ],
)
def test_masked_view_moves_image_and_label_together(view):
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 20:50] = 255
    label = (image[..., 0] > 0).astype(np.uint8) * 7
    for seed in range(25):
        x, y = view(image, label, rng(seed))
        assert x.shape == (3, 48, 48)
        assert y.shape == (48, 48)
        assert y.dtype == torch.uint8
        assert set(y.unique().tolist()) <= {0, 7, IGNORE}
        assert torch.equal(y == IGNORE, (x == MEAN_COLOUR).all(0))  # no pixel of the image has just that colour
        agree = ((x[0] > 0) == (y == 7))[y != IGNORE].float().mean()
        assert agree > 0.9  # bicubic and nearest differ at edges only


def test_masked_view_takes_one_size_rule():
    with pytest.raises(WsssError, match="long_side"):
        t.MaskedView(48, [0.5, 1.5], 0.5, long_side=[30, 70])


def test_scored_view_pads_black_and_moves_scores_along():
    image = np.full((30, 30, 3), 128, np.uint8)
    image[:, :15] = 255
    scores = np.stack([image[..., 0] / 255, 1 - image[..., 0] / 255]).astype(np.float32)
    black = torch.from_numpy(t.normalise(np.zeros((1, 1, 3), np.uint8))[0, 0])
    flipped = set()
    for seed in range(12):
        x, s = t.ScoredView(40, 0.5, None)(image, scores, rng(seed))
        assert x.shape == (3, 40, 40)
        assert s.shape == (2, 40, 40)
        outside = s.sum(0) == 0
        assert outside.sum() == 40 * 40 - 30 * 30
        assert (x[:, outside] == black[:, None]).all()
        assert ((x[0] > 2) == (s[0] == 1)).all()
        inside = s[0][:, (s.sum(0) > 0).any(0)]
        flipped.add(bool(inside.max(0).values[0] < 1))
    assert flipped == {True, False}


def test_samples(tmp_path, image):
    for i in range(2):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    records = [
        Record(f"a/{i}", f"{i}.png", None, ("train",), names, 60, 40, "", None)
        for i, names in enumerate([("b",), ("a", "c")])
    ]
    dataset = Dataset("toy", ["a", "b", "c"], tmp_path, records)
    train = {
        "view": "long_side",
        "crop": 24,
        "long_side": [20, 30],
        "flip": 0.5,
        "jitter": None,
        "jitter_p": 1.0,
        "by_factor": False,
        "epochs": 3,
    }
    samples = ClassificationSamples(dataset, train)
    assert len(samples) == 2
    sample = samples.get(1, rng(1))
    assert sample["id"] == "a/1"
    assert sample["labels"].tolist() == [1, 0, 1]
    assert torch.equal(sample["image"], t.TrainView(24, [20, 30], 0.5, None)(image, rng(1)))
    bgr = ClassificationSamples(dataset, train, "vgg_bgr").get(1, rng(1))["image"]
    assert bgr.abs().max() > 50
    cut = ClassificationSamples(dataset, train | {"view": "resized_crop"})
    assert torch.equal(cut.get(0, rng(1))["image"], t.ResizedCropView(24, 0.5, None)(image, rng(1)))
    with pytest.raises(WsssError, match=r"train\.view 'centre'.*long_side, resized_crop"):
        ClassificationSamples(dataset, train | {"view": "centre"})


def test_psa_and_irn_round_the_other_side_differently():
    """375 · 550 / 500 is 412.5, which rounds to even; the factor 1.1 is a little more in float64."""
    assert t.long_side_size(375, 500, 550) == (412, 550)
    assert t.long_side_size(375, 500, 550, by_factor=True) == (413, 550)


def test_resizing_without_antialiasing_is_opencvs_bicubic_by_hand():
    """At half the size a new pixel is -3/32, 19/32, 19/32, -3/32 of its four old ones (a = -0.75) and of no others."""
    row = np.array([0, 10, 200, 30, 40, 250, 60, 70], np.float32)
    image = np.repeat(row[None, :, None], 8, 0).repeat(3, 2)
    half = t.resize_plain(image, 0.5)
    weights = np.array([-3, 19, 19, -3]) / 32
    np.testing.assert_allclose(half[0, 1, 0], weights @ row[1:5], rtol=1e-6)
    np.testing.assert_allclose(half[0, 2, 0], weights @ row[3:7], rtol=1e-6)
    whole = t.resize_plain(image.astype(np.uint8), 0.5)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, half.round().clip(0, 255))


def test_resizing_without_antialiasing_keeps_more_of_fine_structure():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    plain, smooth = t.resize_plain(image, 0.5), t.resize(image, 32, 32)
    assert plain.std() > 1.3 * smooth.std()
    np.testing.assert_array_equal(t.resize_plain(image, 1.0), image)


def test_inputs_without_antialiasing_are_normalised_before_they_are_resized():
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    ((x, mirrored),) = t.multi_scale(image, [0.5], True, antialias=False)
    expected = t.to_tensor(t.resize_plain(t.normalise(image), 0.5))
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(mirrored, expected.flip(-1))
    view = t.MaskedView(crop=32, scale=[0.5, 0.5], flip=0.0, antialias=False)
    cropped, _ = view(image, np.zeros((40, 30), np.uint8), np.random.default_rng(0))
    assert set(cropped.unique().tolist()) <= {0.0, *t.normalise(t.resize_plain(image, 0.5)).ravel().tolist()}
