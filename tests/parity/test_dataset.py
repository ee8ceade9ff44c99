"""Network inputs, size rules and crops against the data sets of PSA, SEAM and IRN."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from golden import load

from wsss.data import transforms

GOLDEN = load("dataset")


def crc32(array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize(
    ("scales", "expected", "convention"),
    [("psa", "psa", "rgb"), ("seam", "seam", "rgb"), ("irn", "irn", "rgb"), ("psa", "vgg", "vgg_bgr")],
)
def test_multi_scale_inputs_have_the_official_bits(scales, expected, convention):
    pairs = transforms.multi_scale(GOLDEN["image"], GOLDEN[f"{scales}_scales"].tolist(), True, convention)
    inputs = [x for pair in pairs for x in pair]
    assert [x.shape for x in inputs] == [tuple(shape) for shape in GOLDEN[f"{scales}_shapes"].tolist()]
    statistics = [(x.double().numpy().mean(), x.double().numpy().std()) for x in inputs]
    np.testing.assert_allclose(statistics, GOLDEN[f"{expected}_mean_std_f64"], rtol=0, atol=1e-9)
    assert [crc32(x) for x in inputs] == GOLDEN[f"{expected}_crc32"].tolist()


def test_half_size_input():
    ((half, mirrored),) = transforms.multi_scale(GOLDEN["image"], [0.5], True)
    np.testing.assert_allclose(half, GOLDEN["half"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(mirrored[:, 0], GOLDEN["half_flipped_first_row"], rtol=0, atol=1e-6)
    ((vgg,),) = transforms.multi_scale(GOLDEN["image"], [0.5], False, "vgg_bgr")
    np.testing.assert_allclose(vgg, GOLDEN["vgg_half"], rtol=0, atol=1e-6)


def test_resampled_pixels():
    image = GOLDEN["image"]
    half = transforms.resize(image, *transforms.scaled_size(*image.shape[:2], 0.5))
    assert np.array_equal(half, GOLDEN["resized_half_uint8"])
    large = transforms.resize(image, *transforms.scaled_size(*image.shape[:2], 1.5))
    assert np.array_equal(large[::5, ::5], GOLDEN["resized_1p5_uint8_sub"])


@pytest.mark.parametrize("official", ["psa", "irn"])
def test_long_side_rule(official):
    for height, width, target, *expected in GOLDEN[f"{official}_resize_long_h_w_target_outh_outw"].tolist():
        assert transforms.long_side_size(height, width, target, by_factor=official == "irn") == tuple(expected)


class Middle:
    """The draws of the golden crops: of k possible offsets the one at floor(k / 2), or half of the last, rounded."""

    def __init__(self, which: str):
        self.which = which

    def integers(self, k: int) -> int:
        return k // 2 if self.which == "crop" else round((k - 1) / 2)


SIZES = sorted(int(key.removeprefix("psa_crop").removesuffix("_crc32")) for key in GOLDEN if key.startswith("psa_crop"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["crop", "center"])
def test_crop_into_a_container(which, size):
    (crop,) = transforms.random_crop([transforms.normalise(GOLDEN["image"])], size, [0], Middle(which))
    assert crc32(crop) == GOLDEN[f"psa_{which}{size}_crc32"]


def test_reduced_label_map():
    expected = GOLDEN["irn_label64_quarter"]
    assert np.array_equal(transforms.resize_label(GOLDEN["irn_label64"], *expected.shape), expected)
