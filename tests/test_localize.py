"""CAM inference: fusion of scales and mirror images, normalisations, shards, and what a model file must be."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from stages import TINY, run

from wsss.cam import NORMALISE, load_method, multi_scale_cam
from wsss.data.index import Dataset, Record
from wsss.data.transforms import multi_scale
from wsss.errors import WsssError
from wsss.methods import build
from wsss.plan.resolve import method_settings
from wsss.pool import ahead
from wsss.settings.check import check
from wsss.stores import Scores

CLASSES = ("disc", "square", "stripe")
RELU = ("before", "after", "sum", "none")
SIZES = [(40, 56), (33, 47), (48, 48), (57, 31), (44, 44)]


def settings(method: str = "cam", **cam) -> dict:
    config = method_settings(method)
    config["backbone"] = dict(TINY)
    config["cam"].update({"scales": [1.0, 0.5, 1.5]} | cam)
    return config


def network(config: dict, n_classes: int = len(CLASSES)):
    torch.manual_seed(0)
    return build(config, n_classes).eval()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (45, 62, 3), dtype=np.uint8)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Five noise images of different sizes; the second has no class, the third has two."""
    rng, records = np.random.default_rng(1), []
    labels = [("disc",), (), ("square", "stripe"), ("stripe",), ("disc",)]
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        records.append(Record(f"im{i}", f"{i}.png", None, ("train",), labels[i], width, height, "", None))
    return Dataset("noise", CLASSES, tmp_path, records)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(network(settings()).state_dict(), path)
    return path


# ---- fusion


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("relu", RELU)
def test_fusion_equals_one_pass_after_the_other(image, relu, flip):
    """Each view alone, resized, then mirrored back: the order of the published scripts."""
    config = settings(relu=relu, flip=flip)
    method, label = network(config), np.array([1, 0, 1], np.float32)
    total = 0
    views = [x for pair in multi_scale(image, config["cam"]["scales"], flip) for x in pair]
    for i, x in enumerate(views):
        with torch.no_grad():
            maps = method.localize(x[None], torch.from_numpy(label)[None])[:, [0, 2]]
        maps = F.relu(maps) if relu == "before" else maps
        maps = F.interpolate(maps, image.shape[:2], mode="bilinear", align_corners=False)[0]
        maps = F.relu(maps) if relu == "after" else maps
        total = total + (maps.flip(2) if flip and i % 2 else maps)
    total = F.relu(total) if relu == "sum" else total
    ours = multi_scale_cam(method, image, label, config["cam"])
    assert ours.shape == (2, *image.shape[:2])
    assert torch.allclose(ours, total / (total.amax((1, 2), keepdim=True) + 1e-5), atol=1e-4)


def test_seam_scores_reach_from_slightly_negative_to_one(image):
    config = settings("seam")
    scores = multi_scale_cam(network(config), image, np.ones(3, np.float32), config["cam"])
    assert torch.allclose(scores.amax((1, 2)), torch.ones(3), atol=1e-3)
    assert (scores.amin((1, 2)) < 0).all()


def test_normalisations_worked_by_hand():
    v = torch.tensor([[[1.0, 2.0, 5.0]]])
    expected = {
        "max": [0.2, 0.4, 1.0],
        "minmax": [0.0, 0.25, 1.0],
        "floor": [-0.25, 0.25, 1.0],  # the least value is set to 0 before 1 is subtracted
        "range": [0.0, 0.25, 1.0],
    }
    assert NORMALISE.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.allclose(NORMALISE[name](v)[0, 0], torch.tensor(values), atol=1e-4), name


@pytest.mark.parametrize("name", NORMALISE)
def test_normalisations_bear_an_empty_map_and_leave_their_input(name):
    v = torch.zeros(2, 3, 4)
    assert NORMALISE[name](v).isfinite().all()
    assert torch.equal(v, torch.zeros(2, 3, 4))
    assert NORMALISE[name](v[:0]).shape == (0, 3, 4)


@pytest.mark.parametrize(("key", "known"), [("relu", RELU), ("normalise", NORMALISE)])
def test_an_unknown_choice_names_the_known_ones(key, known):
    [finding] = check({"cam": settings(**{key: "softmax"})["cam"]})
    assert str(finding).startswith(f"cam.{key} is 'softmax': ")
    assert all(name in str(finding) for name in known)


def test_an_unknown_normalisation_is_refused_without_a_check_of_settings(image):
    config = settings(normalise="softmax")
    with pytest.raises(WsssError, match="'softmax': choose one of floor, max"):
        multi_scale_cam(network(config), image, np.ones(3, np.float32), config["cam"])


# ---- the stage


def test_scores_of_a_data_set(dataset, model, tmp_path):
    config = settings()
    run("cam", config, dataset, tmp_path / "all.npz", model=model)
    scores = Scores([tmp_path / "all.npz"])
    assert scores.ids == dataset.ids
    method = load_method(config, 3, model)
    for image_id, label, size in zip(dataset.ids, dataset.labels(), SIZES, strict=True):
        classes, planes = scores.get(image_id)
        assert classes.tolist() == (np.flatnonzero(label) + 1).tolist()
        assert planes.shape == (len(classes), *size)
        expected = multi_scale_cam(method, dataset.image(image_id), label, config["cam"]).numpy()
        np.testing.assert_array_equal(planes, expected.astype(np.float16))


def test_the_number_of_shards_does_not_matter(dataset, model, tmp_path):
    parts = [tmp_path / f"{i}.npz" for i in range(3)]
    run("cam", settings(), dataset, tmp_path / "all.npz", model=model)
    for i, part in enumerate(parts):
        run("cam", settings(), dataset, part, (i, 3), model=model)
    whole, cut = Scores([tmp_path / "all.npz"]), Scores(parts)
    assert cut.ids == whole.ids
    for image_id in whole.ids:
        for one, other in zip(whole.get(image_id), cut.get(image_id), strict=True):
            np.testing.assert_array_equal(one, other)


def test_bf16_stays_close_to_float32(dataset, model, tmp_path):
    for precision in ("float32", "bf16"):
        run("cam", settings(precision=precision), dataset, tmp_path / f"{precision}.npz", model=model)
    exact, rounded = Scores([tmp_path / "float32.npz"]), Scores([tmp_path / "bf16.npz"])
    gap = np.concatenate([np.abs(exact.get(i)[1] - rounded.get(i)[1]).ravel() for i in exact.ids])
    assert 0 < gap.max() < 0.1


def test_a_corrupt_image_is_named_and_leaves_no_shard(dataset, model, tmp_path):
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
    with pytest.raises(WsssError, match=r"3\.png: cannot be decoded"):
        run("cam", settings(), dataset, tmp_path / "all.npz", model=model)
    assert not list(tmp_path.glob("*.npz"))


def test_ahead_keeps_the_order():
    with ThreadPoolExecutor(2) as pool:
        assert list(ahead(pool, lambda i: i * i, range(11))) == [i * i for i in range(11)]


# ---- model files


def test_a_model_needs_no_file_that_its_training_started_from(model):
    config = settings()
    config["backbone"]["weights"] = "/nowhere/imagenet.pth"
    assert not load_method(config, 3, model).training


def test_a_model_of_another_backbone_is_named(model):
    config = settings()
    config["backbone"]["name"] = "mobilenet_v2"
    with pytest.raises(WsssError, match=r"model\.pt: not a model of .* backbone mobilenet_v2, 3 classes\): \d+ tens"):
        load_method(config, 3, model)


def test_a_model_of_other_classes_is_named(model):
    with pytest.raises(WsssError, match=r"4 classes\): 1 tensors differ, first 'fc8.weight'"):
        load_method(settings(), 4, model)


def test_a_model_of_another_method_is_named(tmp_path):
    """CAM's tensors are all in SEAM's model, and more."""
    torch.save(network(settings()).state_dict() | {"f9.weight": torch.zeros(1)}, tmp_path / "seam.pt")
    with pytest.raises(WsssError, match=r"seam\.pt: .*method cam, .*: 1 tensors differ, first 'f9.weight'"):
        load_method(settings(), 3, tmp_path / "seam.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_is_not_all_numbers_is_named(tmp_path, one_line, value):
    state = build(settings(), 3).state_dict()
    name = next(iter(state))
    state[name].view(-1)[-1] = value
    torch.save(state, tmp_path / "model.pt")
    one_line(lambda: load_method(settings(), 3, tmp_path / "model.pt"), "model.pt: ", f"'{name}'", "finite", "learning")


def test_a_model_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WsssError, match=r"evil\.pt: not a readable model"):
        load_method(settings(), 3, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"step": 3},
        [torch.zeros(1)],
        {"w": torch.zeros(1, device="meta")},
    ],
)
def test_a_file_that_is_no_model_is_named(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WsssError, match=r"other\.pt: not a model: it holds more than named tensors"):
        load_method(settings(), 3, tmp_path / "other.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch gives up this kind of tensor
def test_a_quantised_model_is_named(tmp_path, one_line):
    torch.save({"w": torch.quantize_per_tensor(torch.zeros(1), 0.1, 0, torch.qint8)}, tmp_path / "model.pt")
    one_line(lambda: load_method(settings(), 3, tmp_path / "model.pt"), "model.pt: not a model: it holds more than")


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(WsssError, match=r"model\.pt: no such model; train it first"):
        load_method(settings(), 3, tmp_path / "model.pt")
