"""Dense CRF: shared lattices, the stage, and what it says about bad input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels as reference_labels
from pydensecrf.utils import unary_from_softmax
from stages import run

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.refine.crf import dense_crf, unary_from_labels, unary_from_scores, with_background
from wsss.stores import Scores, write_scores

SETTINGS = {
    "alphas": [4, 24],
    "gaussian": {"sxy": 3, "compat": 3},
    "bilateral": {"sxy": 80, "srgb": 13, "compat": 10},
    "iterations": 10,
}
DEEPLAB = {
    "gaussian": {"sxy": 1, "compat": 3},
    "bilateral": {"sxy": 67, "srgb": 3, "compat": 4},
    "iterations": 5,
}
SIZES = {"b": (24, 31), "a": (30, 20), "c": (22, 22), "d": (17, 40), "e": (25, 25)}


def picture(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the image is of one colour, the other of another; two rough class maps."""
    rng = np.random.default_rng(seed)
    image = rng.normal(90, 8, (height, width, 3))
    image[:, width // 2 :] += 80
    scores = rng.random((2, height, width), np.float32) * 0.4
    scores[0, :, width // 2 :] += 0.5
    return image.clip(0, 255).astype(np.uint8), scores


def plain_call(image: np.ndarray, energies: np.ndarray, settings: dict) -> np.ndarray:
    """One CRF for one unary term, as in pydensecrf's own example."""
    crf = DenseCRF2D(image.shape[1], image.shape[0], len(energies))
    crf.setUnaryEnergy(energies)
    crf.addPairwiseGaussian(**settings["gaussian"])
    crf.addPairwiseBilateral(**settings["bilateral"], rgbim=image.copy())
    return np.array(crf.inference(settings["iterations"])).reshape(-1, *image.shape[:2])


@pytest.mark.parametrize("settings", [SETTINGS, DEEPLAB], ids=["psa", "deeplab"])
def test_shared_lattices_give_the_bits_of_separate_calls(settings):
    image, scores = picture(0, 40, 52)
    planes = [with_background(scores, alpha) for alpha in (4, 24, 0.5)]
    shared = dense_crf(image, [unary_from_scores(p) for p in planes], settings)
    for q, p in zip(shared, planes, strict=True):
        np.testing.assert_array_equal(q, plain_call(image, unary_from_softmax(p), settings))
    assert not np.array_equal(shared[0], shared[1])


def test_label_energies_are_those_of_pydensecrf():
    labels = np.random.default_rng(0).integers(0, 3, (7, 9))
    expected = reference_labels(labels, 3, gt_prob=0.7, zero_unsure=False).reshape(3, 7, 9)
    np.testing.assert_array_equal(unary_from_labels(labels, 3, 0.7), expected)


def test_the_crf_follows_the_image():
    """Noise in the scores goes, the border between the colours is kept."""
    image, scores = picture(1, 40, 52)
    scores = scores[:1] * 0.6 + 0.1  # below or above one half, by chance more often right than wrong
    before = with_background(scores, 1)
    [q] = dense_crf(image, [unary_from_scores(before)], SETTINGS)
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)
    truth = np.arange(52) >= 26

    def right(planes: np.ndarray) -> float:
        return float(((planes.argmax(0) == 1) == truth).mean())

    assert 0.7 < right(before) < 0.95
    assert right(q) > 0.99


def test_read_only_images_and_wrong_sizes():
    image, scores = picture(2, 20, 24)
    image.flags.writeable = False
    unary = unary_from_scores(with_background(scores, 4))
    assert dense_crf(image, [unary], DEEPLAB)[0].shape == (3, 20, 24)
    with pytest.raises(WsssError, match="does not fit"):
        dense_crf(image, [unary[:, :-1]], DEEPLAB)


def dataset(folder, sizes=SIZES) -> Dataset:
    records = []
    with write_scores(folder / "cam.npz") as store:
        for seed, (name, size) in enumerate(sizes.items()):
            image, scores = picture(seed, *size)
            Image.fromarray(image).save(folder / f"{name}.png")
            records.append(Record(name, f"{name}.png", None, (), ("cat", "dog"), size[1], size[0], "", None))
            store.put(name, [2, 5], scores)
    return Dataset("toy", ["bird", "cat", "cow", "cup", "dog"], folder, records)


def test_stage_does_not_depend_on_shards_or_processes(tmp_path):
    images, config, scores = dataset(tmp_path), {"crf": SETTINGS}, [tmp_path / "cam.npz"]
    run("crf", config, images, tmp_path / "one.npz", scores=scores)
    run("crf", config, images, tmp_path / "pool.npz", scores=scores, workers=2)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "pool.npz").read_bytes()
    for i in range(2):
        run("crf", config, images, tmp_path / f"{i}.npz", (i, 2), scores=scores)
    one, two = Scores([tmp_path / "one.npz"]), Scores([tmp_path / "0.npz", tmp_path / "1.npz"])
    assert one.ids == two.ids == sorted(f"{name}@{alpha}" for name in SIZES for alpha in (4, 24))
    for key in one.ids:
        np.testing.assert_array_equal(one.get(key)[0], [0, 2, 5])
        np.testing.assert_array_equal(one.get(key)[1], two.get(key)[1])


def test_stage_stores_the_probabilities(tmp_path):
    images = dataset(tmp_path)
    run("crf", {"crf": SETTINGS}, images, tmp_path / "crf.npz", scores=[tmp_path / "cam.npz"])
    scores = Scores([tmp_path / "cam.npz"]).get("c")[1]
    expected = plain_call(images.image("c"), unary_from_softmax(with_background(scores, 24)), SETTINGS)
    np.testing.assert_allclose(Scores([tmp_path / "crf.npz"]).get("c@24")[1], expected, rtol=0, atol=5e-4)


def test_an_image_without_class_is_background(tmp_path):
    images = dataset(tmp_path, {"none": (9, 9)})
    with write_scores(tmp_path / "cam.npz") as store:
        store.put("none", [], np.zeros((0, 9, 9)))
    run("crf", {"crf": SETTINGS}, images, tmp_path / "crf.npz", scores=[tmp_path / "cam.npz"])
    for alpha in (4, 24):
        classes, planes = Scores([tmp_path / "crf.npz"]).get(f"none@{alpha}")
        assert classes.tolist() == [0]
        assert planes.shape == (1, 9, 9)
        assert (planes == 1).all()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("classes", "size", "message"),
    [
        ([2], (8, 9), "9×9.*9×8"),
        ([6], (9, 9), "class 6, but the last class of this data set is 5"),
        ([], (9, 8), "8×9"),
    ],
)
def test_bad_input_names_the_image_and_leaves_no_file(tmp_path, workers, classes, size, message):
    images = dataset(tmp_path, {"good": (12, 12), "bad": (9, 9)})
    with write_scores(tmp_path / "cam.npz") as store:
        store.put("good", [2], np.zeros((1, 12, 12)))
        store.put("bad", classes, np.zeros((len(classes), *size)))
    with pytest.raises(WsssError, match=f"'bad'.*{message}"):
        run("crf", {"crf": SETTINGS}, images, tmp_path / "crf.npz", scores=[tmp_path / "cam.npz"], workers=workers)
    assert not (tmp_path / "crf.npz").exists()
