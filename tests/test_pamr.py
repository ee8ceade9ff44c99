"""PAMR: its weights and means by hand, its behaviour at edges, and the stage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.job import Given
from wsss.refine.crf import with_background
from wsss.refine.pamr import deviation, neighbour_weights, neighbours, pamr, refine, with_backgrounds
from wsss.stores import write_scores

DILATIONS = [1, 2, 4, 8, 12, 24]
SETTINGS = {"alphas": [4, 24], "iterations": 10, "dilations": DILATIONS}
ONE_STEP = {"alphas": [4], "iterations": 1, "dilations": [1]}
SIZES = {"b": (24, 31), "a": (30, 20), "c": (22, 22), "d": (17, 40), "e": (25, 25)}


def two_colours(seed: int, height: int, width: int) -> np.ndarray:
    """Draw an image ``H×W×3`` uint8 whose halves differ in colour, with noise."""
    image = np.random.default_rng(seed).normal(90, 8, (height, width, 3))
    image[:, width // 2 :] += 80
    return image.clip(0, 255).astype(np.uint8)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def grey(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).expand(3, -1, -1)


# ---- one step


def test_two_pixels_by_hand():
    """A pixel has five neighbours of its own colour, itself repeated, and three of the other.

    Its sample of nine has six values 0 and three values d: variance (3 - 1) d² / 8, deviation d / 2. So the three are
    d / (0.1 d / 2) = 20 units away.
    """
    image = grey([0.2, 0.6])
    torch.testing.assert_close(deviation(image, [1]), torch.full((3, 1, 2), 0.2))
    same, other = 1 / (5 + 3 * math.exp(-20)), math.exp(-20) / (5 + 3 * math.exp(-20))
    right = torch.tensor([same, same, other, same, other, same, same, other])  # of the left pixel, in reading order
    torch.testing.assert_close(neighbour_weights(image, [1])[:, 0, 0], right, rtol=1e-4, atol=0)
    refined = refine(image, torch.tensor([[[1.0, 0.0]]]), ONE_STEP)
    torch.testing.assert_close(refined[0, 0], torch.tensor([5 * same, 3 * other]), rtol=1e-4, atol=0)


def test_an_image_of_one_colour_gives_plain_means_without_the_pixel_itself():
    planes = torch.zeros(1, 5, 5)
    planes[0, 2, 2] = 1
    refined = refine(torch.full((3, 5, 5), 0.4), planes, ONE_STEP)
    around = torch.zeros(5, 5)
    around[1:4, 1:4] = 1 / 8
    around[2, 2] = 0
    torch.testing.assert_close(refined[0], around)


def test_neighbours_are_at_the_dilations_and_border_pixels_repeat():
    planes = torch.arange(12.0).view(1, 3, 4)
    found = [neighbour[0].tolist() for neighbour in neighbours(planes, [1, 2])]
    assert len(found) == 16
    assert found[0] == [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]]  # one up and left
    assert found[-1] == [[10, 11, 11, 11]] * 3  # two down and right


def test_the_deviation_is_that_of_all_neighbours_with_the_pixel_once_per_dilation():
    image = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0))
    sample = torch.stack([*neighbours(image, DILATIONS), *[image] * len(DILATIONS)])
    torch.testing.assert_close(deviation(image, DILATIONS), sample.std(0), rtol=1e-5, atol=1e-7)


# ---- many steps


def test_weights_sum_to_1_and_constant_planes_stay():
    image = tensor(two_colours(0, 20, 26))
    weights = neighbour_weights(image, DILATIONS)
    assert weights.shape == (48, 20, 26)
    torch.testing.assert_close(weights.sum(0), torch.ones(20, 26))
    planes = torch.tensor([0.0, 0.3, 1.0])[:, None, None].expand(3, 20, 26).contiguous()
    torch.testing.assert_close(refine(image, planes, SETTINGS), planes)


def test_planes_do_not_mix():
    image, planes = tensor(two_colours(1, 18, 24)), torch.rand(3, 18, 24)
    together = refine(image, planes, SETTINGS)
    for plane, refined in zip(planes, together, strict=True):
        assert torch.equal(refine(image, plane[None], SETTINGS)[0], refined)


def test_no_iteration_changes_nothing():
    image, planes = tensor(two_colours(1, 8, 9)), torch.rand(2, 8, 9)
    assert torch.equal(refine(image, planes, {**SETTINGS, "iterations": 0}), planes)


def test_edges_of_the_image_attract_those_of_masks():
    """A mask that misses the edge between the colours by three pixels, with noise, ends at the edge."""
    truth = torch.arange(52) >= 26
    mask = (torch.arange(52) >= 29).float().expand(40, 52)
    noise = 0.4 * torch.rand(40, 52, generator=torch.Generator().manual_seed(0))
    before = (mask - noise).abs()
    [after] = refine(tensor(two_colours(2, 40, 52)), before[None], {**SETTINGS, "dilations": [1, 2, 4, 8]})

    def right(plane: torch.Tensor) -> float:
        return float(((plane > 0.5) == truth).float().mean())

    assert right(before) < 0.95
    assert right(after) > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same():
    image, planes = tensor(two_colours(3, 40, 52)), torch.rand(3, 40, 52)
    on_gpu = refine(image.cuda(), planes.cuda(), SETTINGS).cpu()
    torch.testing.assert_close(on_gpu, refine(image, planes, SETTINGS), rtol=0, atol=1e-5)


# ---- the stage


def test_backgrounds_are_those_of_the_crf():
    scores = np.random.default_rng(0).random((2, 6, 7), np.float32)
    planes = with_backgrounds(torch.from_numpy(scores), [4, 24]).numpy()
    assert planes.shape == (4, 6, 7)
    for background, alpha in zip(planes, (4, 24), strict=False):
        np.testing.assert_allclose(background, with_background(scores, alpha)[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(planes[2:], scores)


def toy(folder, sizes=SIZES, classes=(2, 5)) -> Given:
    """Give images of two colours, with random scores of classes 2 and 5 of five."""
    records = []
    with write_scores(folder / "cam.npz") as store:
        for seed, (name, (height, width)) in enumerate(sizes.items()):
            Image.fromarray(two_colours(seed, height, width)).save(folder / f"{name}.png")
            records.append(Record(name, f"{name}.png", None, (), ("cat", "dog"), width, height, "", None))
            scores = np.random.default_rng(seed).random((len(classes), height, width), np.float32)
            store.put(name, classes, scores)
    images = Dataset("toy", ["bird", "cat", "cow", "cup", "dog"], folder, records)
    settings = {"pamr": SETTINGS}
    return Given(settings, images, images, scores=(str(folder / "cam.npz"),), device="cpu")


def test_the_stage_yields_each_image_once_per_alpha(tmp_path):
    given = toy(tmp_path)
    results = list(pamr(given))
    assert [[key for key, *_ in entries] for entries in results] == [[f"{name}@4", f"{name}@24"] for name in SIZES]
    for (height, width), entries in zip(SIZES.values(), results, strict=True):
        (_, classes, low), (_, _, high) = entries
        assert classes == [0, 2, 5]
        assert low.shape == high.shape == (3, height, width)
        assert low.dtype == np.float16
        assert low.min() >= 0
        assert low.max() <= 1
        assert (low[0] > high[0]).any()
        np.testing.assert_array_equal(low[1:], high[1:])


def test_the_stage_refines_the_stored_scores(tmp_path):
    given = toy(tmp_path, {"a": (14, 18)})
    [[_, (key, _, planes)]] = pamr(given)
    stored = np.random.default_rng(0).random((2, 14, 18), np.float32).astype(np.float16).astype(np.float32)
    expected = refine(tensor(given.images.image("a")), torch.from_numpy(with_background(stored, 24)), SETTINGS)
    assert key == "a@24"
    np.testing.assert_allclose(planes, expected, rtol=0, atol=5e-4)


def test_shards_change_nothing(tmp_path):
    given = toy(tmp_path)
    whole = {key: planes for entries in pamr(given) for key, _, planes in entries}
    images = given.images
    for i in range(2):
        shard = Dataset(images.name, images.classes, images.root, images.records[i::2])
        for entries in pamr(replace(given, images=shard)):
            for key, _, planes in entries:
                np.testing.assert_array_equal(planes, whole.pop(key))
    assert not whole


def test_an_image_without_class_is_background(tmp_path):
    [entries] = pamr(toy(tmp_path, {"none": (9, 9)}, classes=()))
    assert [key for key, *_ in entries] == ["none@4", "none@24"]
    for _, classes, planes in entries:
        assert classes == [0]
        assert planes.shape == (1, 9, 9)
        assert (planes == 1).all()


@pytest.mark.parametrize(
    ("classes", "size", "message"),
    [
        ([2], (8, 9), "9×9.*9×8"),
        ([6], (9, 9), "class 6, but the last class of this data set is 5"),
        ([], (9, 8), "8×9"),
    ],
)
def test_bad_scores_name_the_image(tmp_path, classes, size, message):
    given = toy(tmp_path, {"good": (12, 12), "bad": (9, 9)})
    with write_scores(tmp_path / "cam.npz") as store:
        store.put("good", [2], np.zeros((1, 12, 12)))
        store.put("bad", classes, np.zeros((len(classes), *size)))
    with pytest.raises(WsssError, match=f"'bad'.*{message}"):
        list(pamr(given))
