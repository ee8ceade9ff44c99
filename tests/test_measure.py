"""Measuring: the sweep against a plain loop, metrics against values worked by hand, and the file it writes."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from stages import given

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.measure.counts import Counts, Sweep, count, threshold_grid
from wsss.measure.metrics import MIOU, over_activation, precision, recall, summary, under_activation
from wsss.measure.stage import measure
from wsss.stores import Detections, voc_palette, write_instances, write_masks, write_scores

CLASSES = ["cat", "dog", "cow"]
N = len(CLASSES) + 1
SETTINGS = {
    "thresholds": [0.0, 0.6, 0.01],
    "sweep": [0.0, 0.6, 0.01],
    "fixed": 0.2,
    "floor": False,
    "absent": "zero",
}
CONFIG = {"measure": SETTINGS}
SIZE = (23, 31)


def plain_counts(classes, scores, truth, threshold: float, floor: bool = False) -> Counts:
    """What the released scripts do: an argmax over all classes per threshold, then counts class by class."""
    full = np.zeros((N, *truth.shape), np.float32)
    full[list(classes)] = scores
    full[0] = threshold
    if floor:
        full[full < np.float32(threshold)] = 0
        full[0] = 1e-5
    predicted, valid = full.argmax(0), truth < 255
    per_class = [(valid & (predicted == c), valid & (truth == c)) for c in range(N)]
    return Counts(*np.array([[(p & t).sum(), p.sum(), t.sum()] for p, t in per_class]).T)


def example(seed: int, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Scores with negative values, ties between classes and hits on thresholds; ground truth with ignored pixels."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-0.3, 1, (len(classes), *SIZE)).astype(np.float32)
    scores[:, ::2] = np.round(scores[:, ::2] * 20) / 20
    return scores, rng.choice([0, 1, 2, 3, 255], SIZE, p=[0.4, 0.2, 0.2, 0.1, 0.1]).astype(np.uint8)


@pytest.mark.parametrize("floor", [False, True])
def test_one_pass_equals_an_argmax_per_threshold(floor):
    thresholds = threshold_grid(0.0, 1.0, 0.05)
    sweep = Sweep(thresholds, N, floor)
    images = [(classes, *example(seed, classes)) for seed, classes in enumerate([[1], [2, 3], [3, 1], [1, 2, 3], []])]
    for image in images:
        sweep.add(*image)
    counts = sweep.counts()
    for i, threshold in enumerate(thresholds):
        expected = Counts.zeros(N)
        for image in images:
            expected += plain_counts(*image, threshold, floor)
        for name in ("tp", "predicted", "true"):
            np.testing.assert_array_equal(getattr(counts[i], name), getattr(expected, name), f"{name} at {threshold}")


def test_a_score_on_the_threshold_is_background_and_foreground_by_the_floor_rule():
    score, truth = np.full((1, 1, 1), 0.3, np.float32), np.ones((1, 1), np.uint8)
    for floor, expected in ((False, [1, 0]), (True, [0, 1])):
        sweep = Sweep([0.3], 2, floor)
        sweep.add([1], score, truth)
        assert sweep.counts().predicted[0].tolist() == expected


def test_counts_do_not_overflow():
    image = count(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8), 2)
    assert image.tp.dtype == np.int64
    assert Counts(*(x * 2**32 for x in (image.tp, image.predicted, image.true))).tp[0] == np.prod(SIZE) * 2**32


def test_metrics_by_hand():
    # truth 6 background, 4 cat, 2 dog; predicted 5, 5, 2; right 4, 3, 0; the third class occurs nowhere
    counts = Counts(np.array([4, 3, 0, 0]), np.array([5, 5, 2, 0]), np.array([6, 4, 2, 0]))
    metrics = summary(counts)
    assert metrics["miou"] == pytest.approx((4 / 7 + 3 / 6) / 4)
    assert MIOU["skip"](counts) == pytest.approx((4 / 7 + 3 / 6) / 3)
    assert precision(counts) == pytest.approx([4 / 5, 3 / 5, 0, 0])
    assert recall(counts) == pytest.approx([4 / 6, 3 / 4, 0, 0])
    assert metrics["precision"] == pytest.approx((4 / 5 + 3 / 5) / 4)
    assert metrics["recall_fg"] == pytest.approx(3 / 4 / 3)
    assert under_activation(counts) == pytest.approx(1 / 3)  # of the cat: 1 missed for 3 found; dog: nothing found
    assert over_activation(counts) == pytest.approx(2 / 3)
    assert np.isnan(under_activation(Counts.zeros(N)))


@pytest.mark.parametrize(
    ("grid", "first", "last", "n"), [((0.0, 0.6, 0.01), 0.0, 0.59, 60), ((0.15, 0.35, 0.01), 0.15, 0.34, 20)]
)
def test_threshold_grid(grid, first, last, n):
    thresholds = threshold_grid(*grid)
    assert (thresholds[0], thresholds[-1], len(thresholds)) == (first, last, n)
    assert thresholds.tolist() == [round(t, 2) for t in thresholds.tolist()]


@pytest.mark.parametrize("grid", [(0.5, 0.5, 0.1), (-0.1, 0.5, 0.1)])
def test_impossible_grid(grid):
    with pytest.raises(WsssError, match=r"measure\.thresholds"):
        threshold_grid(*grid)


# ---- the stage

LABELS = {"a": [1], "b": [1, 3], "c": []}


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    records = []
    for seed, (image_id, labels) in enumerate(LABELS.items()):
        Image.fromarray(example(seed, [])[1]).save(tmp_path / f"{image_id}.png")
        names = tuple(CLASSES[value - 1] for value in labels)
        records.append(Record(image_id, f"{image_id}.jpg", f"{image_id}.png", ("val",), names, *SIZE[::-1], "", ""))
    return Dataset("toy", CLASSES, tmp_path, records)


def scores_of(image_id: str) -> np.ndarray:
    return example(list(LABELS).index(image_id) + 100, LABELS[image_id])[0].astype(np.float16)


@pytest.fixture
def shards(tmp_path, dataset) -> list:
    paths = [tmp_path / "x.npz", tmp_path / "y.npz"]
    for path, ids in zip(paths, (["a", "c"], ["b"]), strict=True):
        with write_scores(path) as store:
            for image_id in ids:
                store.put(image_id, LABELS[image_id], scores_of(image_id))
    return paths


def test_scores(tmp_path, dataset, shards):
    out = tmp_path / "cam_val.json"
    measure(given(CONFIG, dataset, scores=shards), "cam", "val", out)
    metrics = json.loads(out.read_text())
    assert {k: metrics[k] for k in ("stage", "images", "count", "classes")} == {
        "stage": "cam",
        "images": "val",
        "count": 3,
        "classes": ["background", *CLASSES],
    }
    sweep, best, fixed = metrics["sweep"], metrics["points"]["best"], metrics["points"]["fixed"]
    assert len(sweep["thresholds"]) == len(sweep["miou"]) == len(sweep["tp"]) == 60
    i = sweep["miou"].index(max(sweep["miou"]))
    assert best["threshold"] == sweep["thresholds"][i]
    assert "ground truth" in best["selected_on"]
    assert fixed["threshold"] == 0.2
    assert "selected_on" not in fixed
    for point, at in ((best, i), (fixed, sweep["thresholds"].index(0.2))):
        expected = Counts.zeros(N)
        for image_id in dataset.ids:
            planes = scores_of(image_id).astype(np.float32)
            expected += plain_counts(LABELS[image_id], planes, dataset.mask(image_id), point["threshold"])
        for name in ("tp", "predicted", "true"):
            assert point[name] == sweep[name][at] == getattr(expected, name).tolist()
        for name in ("miou", "precision", "recall", "under", "over"):
            assert point[name] == sweep[name][at] == pytest.approx(summary(expected)[name])


def test_thresholds_that_a_release_tries_and_a_fixed_one_need_not_be_those_of_the_sweep(tmp_path, dataset, shards):
    out = tmp_path / "cam_val.json"
    settings = {**SETTINGS, "thresholds": [0.35, 0.6, 0.1], "sweep": [0.0, 0.6, 0.1], "fixed": 0.25}
    measure(given({"measure": settings}, dataset, scores=shards), "cam", "val", out)
    metrics = json.loads(out.read_text())
    points, sweep = metrics["points"], metrics["sweep"]
    assert points["fixed"]["threshold"] == 0.25
    assert sweep["thresholds"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert points["highest"]["miou"] == max(sweep["miou"]) != points["best"]["miou"]
    assert points["highest"]["threshold"] == sweep["thresholds"][sweep["miou"].index(max(sweep["miou"]))]
    tried = {}
    for threshold in (0.35, 0.45, 0.55):
        counts = Counts.zeros(N)
        for image_id in dataset.ids:
            planes = scores_of(image_id).astype(np.float32)
            counts += plain_counts(LABELS[image_id], planes, dataset.mask(image_id), threshold)
        tried[threshold] = summary(counts)["miou"]
    assert points["best"]["miou"] == pytest.approx(max(tried.values()))
    assert tried[points["best"]["threshold"]] == max(tried.values())


def test_crf_scores_have_one_point_per_exponent(tmp_path, dataset):
    path, out, expected = tmp_path / "crf.npz", tmp_path / "crf_val.json", {}
    with write_scores(path) as store:
        for alpha in (24, 4):
            expected[alpha] = Counts.zeros(N)
            for seed, image_id in enumerate(dataset.ids):
                classes = [0, *LABELS[image_id]]
                q = np.random.default_rng([seed, alpha]).uniform(size=(len(classes), *SIZE)).astype(np.float16)
                store.put(f"{image_id}@{alpha}", classes, q)
                expected[alpha] += count(np.array(classes)[q.argmax(0)], dataset.mask(image_id), N)
    measure(given(CONFIG, dataset, scores=[path]), "crf", "val", out)
    points = json.loads(out.read_text())["points"]
    assert list(points) == ["alpha=24", "alpha=4", "best"]  # sorted by name
    for alpha, counts in expected.items():
        assert points[f"alpha={alpha}"]["tp"] == counts.tp.tolist()
    assert points["best"]["miou"] == max(points[f"alpha={alpha}"]["miou"] for alpha in expected)
    assert points["best"]["iou"] == points[points["best"]["selected"]]["iou"]


def write_predictions(path, predictions: dict):
    with write_masks(path) as store:
        for image_id, labels in predictions.items():
            store.put(image_id, labels)
    return path


def test_masks(tmp_path, dataset):
    predictions = {image_id: example(seed + 7, [])[1] % 4 for seed, image_id in enumerate(dataset.ids)}
    out = tmp_path / "walk_val.json"
    shard = write_predictions(tmp_path / "m.zip", predictions)
    measure(given(CONFIG, dataset, masks=[shard]), "walk", "val", out)
    metrics = json.loads(out.read_text())
    expected = Counts.zeros(N)
    for image_id, predicted in predictions.items():
        expected += count(predicted, dataset.mask(image_id), N)
    assert list(metrics["points"]) == ["argmax"]
    assert metrics["points"]["argmax"]["predicted"] == expected.predicted.tolist()
    assert metrics["points"]["argmax"]["miou"] == pytest.approx(summary(expected)["miou"])
    assert "sweep" not in metrics


def test_no_class_found_is_null_not_nan(tmp_path, dataset):
    empty = {image_id: np.zeros(SIZE, np.uint8) for image_id in dataset.ids}
    out = tmp_path / "walk_val.json"
    measure(given(CONFIG, dataset, masks=[write_predictions(tmp_path / "m.zip", empty)]), "walk", "val", out)
    assert json.loads(out.read_text())["points"]["argmax"]["under"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("b"), "no result for image 'b'"),
        (lambda p: p.update(b=np.zeros((5, 6), np.uint8)), "image 'b' is 5×6, its ground truth 23×31"),
        (lambda p: p.update(b=np.full(SIZE, 9, np.uint8)), "image 'b' has the value 9"),
    ],
)
def test_faulty_masks_are_named(tmp_path, dataset, change, message):
    predictions = {image_id: np.zeros(SIZE, np.uint8) for image_id in dataset.ids}
    change(predictions)
    path = write_predictions(tmp_path / "m.zip", predictions)
    with pytest.raises(WsssError, match=message):
        measure(given(CONFIG, dataset, masks=[path]), "walk", "val", tmp_path / "walk_val.json")


def with_other_palette(labels: np.ndarray, order: list[int]) -> Image.Image:
    """A label map in VOC's colours, whose values stand at other indices of the palette."""
    picture = Image.fromarray(np.argsort(order).astype(np.uint8)[labels])
    picture.putpalette(np.reshape(voc_palette(), (256, 3))[order].ravel().tolist())
    return picture


def measured_pictures(folder, dataset, pictures: dict[str, Image.Image]) -> dict:
    """The metrics of masks that another program has packed."""
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        for image_id, picture in pictures.items():
            stream = io.BytesIO()
            picture.save(stream, "PNG")
            archive.writestr(f"{image_id}.png", stream.getvalue())
    measure(given(CONFIG, dataset, masks=[folder / "m.zip"]), "walk", "val", folder / "walk_val.json")
    return json.loads((folder / "walk_val.json").read_text())


def test_masks_with_another_palette_are_read_by_colour_like_the_ground_truth(tmp_path, dataset):
    maps = {image_id: example(seed + 7, [])[1] % 4 for seed, image_id in enumerate(dataset.ids)}
    plain = measured_pictures(tmp_path, dataset, {name: Image.fromarray(labels) for name, labels in maps.items()})
    renumbered = {name: with_other_palette(labels, [3, 0, 2, 1]) for name, labels in maps.items()}
    assert measured_pictures(tmp_path, dataset, renumbered) == plain


@pytest.mark.parametrize("mode", ["1", "RGB", "LA"])
def test_masks_of_a_mode_that_has_no_classes_are_named(tmp_path, dataset, one_line, mode):
    pictures = {image_id: Image.new(mode, SIZE[::-1]) for image_id in dataset.ids}
    one_line(lambda: measured_pictures(tmp_path, dataset, pictures), "mask of image 'a'", f"mode {mode}", "palette")


@pytest.mark.parametrize(
    ("key", "classes", "size", "message"),
    [
        ("b", [1], (5, 6), "image 'b' is 5×6"),
        ("b", [7], SIZE, "image 'b' have class 7, not 1 to 3"),
        ("b", [0], SIZE, "image 'b' have class 0, not 1 to 3"),
        ("x", [1], SIZE, "the shards hold image 'x', which is not among the 3 images"),
        (None, [1], SIZE, "no result for image 'b'"),
    ],
)
def test_faulty_scores_are_named(tmp_path, dataset, key, classes, size, message):
    path = tmp_path / "s.npz"
    with write_scores(path) as store:
        for image_id in ("a", "c"):
            store.put(image_id, [1], np.zeros((1, *SIZE)))
        if key:
            store.put(key, classes, np.zeros((1, *size)))
    with pytest.raises(WsssError, match=message):
        measure(given(CONFIG, dataset, scores=[path]), "cam", "val", tmp_path / "cam_val.json")


def test_images_without_ground_truth_and_wrong_ground_truth(tmp_path, dataset, shards):
    (tmp_path / "b.png").unlink()
    Image.fromarray(np.full(SIZE, 5, np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(WsssError, match="ground truth of image 'b' has the value 5"):
        measure(given(CONFIG, dataset, scores=shards), "cam", "val", tmp_path / "cam_val.json")
    records = [Record(**{**vars(record), "mask": None}) for record in dataset.records]
    without = Dataset("toy", CLASSES, tmp_path, records)
    with pytest.raises(WsssError, match="image 'a' has no ground truth mask"):
        measure(given(CONFIG, without, scores=shards), "cam", "val", tmp_path / "cam_val.json")


def objects_of(folder, dataset) -> tuple[Dataset, dict[str, np.ndarray]]:
    """The data set with two objects per image, side by side; a cat and a dog, in the last image two cats."""
    objects, records = np.repeat(np.array([[1, 0, 2]], np.uint8), SIZE[0], 0).repeat(11, 1)[:, : SIZE[1]], []
    for record in dataset.records:
        classes = np.where(objects == 2, 2 if record.id != dataset.ids[-1] else 1, objects).astype(np.uint8)
        for name, values in (("class", classes), ("object", objects)):
            Image.fromarray(values).save(folder / f"{record.id}.{name}.png")
        paths = {"mask": f"{record.id}.class.png", "instances": f"{record.id}.object.png"}
        records.append(Record(**{**vars(record), **paths}))
    return Dataset("toy", CLASSES, folder, records), objects


def test_instances(tmp_path, dataset):
    images, objects = objects_of(tmp_path, dataset)
    out = tmp_path / "irn_instances_val.json"
    masks = np.stack([objects == 1, objects == 2, objects == 0])
    with write_instances(tmp_path / "i.npz") as store:
        for image_id in images.ids:  # the two objects, called cats, and between them a cow
            store.put(image_id, Detections(np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 1, 3], np.uint8), masks))
    measure(given(CONFIG, images, instances=[tmp_path / "i.npz"]), "irn_instances", "val", out)
    metrics, n = json.loads(out.read_text()), len(images)
    assert (metrics["stage"], metrics["images"], metrics["count"]) == ("irn_instances", "val", n)
    point = metrics["points"]["iou=0.5"]
    assert point["true"] == [0, n + 1, n - 1, 0]
    assert point["detected"] == [0, 2 * n, 0, n]
    # of the cats, all first ones are found before any second one; only the last image's second one is right
    recall, precision = n / (n + 1), (n + 1) / (2 * n)
    assert point["ap"] == [None, pytest.approx(recall + (1 - recall) * precision), 0.0, None]
    assert point["map"] == pytest.approx(point["ap"][1] / 2)


def test_images_without_objects_are_named(tmp_path, dataset):
    with write_instances(tmp_path / "i.npz") as store:
        for image_id in dataset.ids:
            store.put(image_id, Detections(np.zeros(0), np.zeros(0, np.uint8), np.zeros((0, *SIZE), bool)))
    reads = given(CONFIG, dataset, instances=[tmp_path / "i.npz"])
    with pytest.raises(WsssError, match="image 'a' has no ground truth of objects; set the data set's option 'instan"):
        measure(reads, "irn_instances", "val", tmp_path / "irn_instances_val.json")
    assert not (tmp_path / "irn_instances_val.json").exists()


def test_one_kind_of_results(tmp_path, dataset, shards):
    for reads in ({}, {"scores": shards, "masks": shards}):
        with pytest.raises(WsssError, match="either score shards, mask shards or instance shards"):
            measure(given(CONFIG, dataset, **reads), "cam", "val", tmp_path / "cam_val.json")


@pytest.mark.parametrize("kind", ["scores", "masks"])
def test_shards_of_other_images_are_refused(tmp_path, dataset, shards, kind):
    """The shards of all images, told to be those of one."""
    masks = {image_id: np.zeros(SIZE, np.uint8) for image_id in dataset.ids}
    paths = shards if kind == "scores" else [write_predictions(tmp_path / "m.zip", masks)]
    one = dataset.shard(0, 3)
    with pytest.raises(WsssError, match=r"the shards hold image 'b', which is not among the 1 images to measure; give"):
        measure(given(CONFIG, one, **{kind: paths}), "cam", "measured", tmp_path / "cam_measured.json")
    assert not (tmp_path / "cam_measured.json").exists()


def test_shards_of_another_stage_are_refused(tmp_path, dataset, shards):
    """The settings beside the shards say which stage made them."""
    reads, out = given(CONFIG, dataset, scores=shards), tmp_path / "out" / "val.json"
    (tmp_path / "config.yaml").write_text("stage: cam\n")
    measure(reads, "cam", "val", out)
    out.unlink()
    with pytest.raises(WsssError, match=r"holds results of stage cam, not crf; give shards of stage crf"):
        measure(reads, "crf", "val", out)
    assert not out.exists()
