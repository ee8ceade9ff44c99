"""IRNet at work: propagation, marks, stages on files."""

from __future__ import annotations

import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from stages import changed, given, run, train
from torch.nn.functional import interpolate
from toys import random_map, relations

from wsss.data.index import Dataset, Record
from wsss.data.transforms import normalise, to_tensor
from wsss.errors import WsssError
from wsss.plan.resolve import method_settings
from wsss.refine import irn_instances, irn_marks, irn_net, irn_walk
from wsss.refine.irn_train import IrnSamples, mean_displacement, top_left
from wsss.refine.paths import half_disc, straight_path
from wsss.stores import IGNORE, Instances, Masks, Scores, write_masks, write_scores

TINY = {"name": "tiny", "output_stride": None, "dilate": None}
FAST = {"steps": 4, "batch_size": 2, "crop": 64, "scale": [0.8, 1.2]}
SECTIONS = ("irn_marks", "irn_train", "irn_walk", "irn_instances")


def config(**over) -> dict:
    """Settings of IRN's stages, with a small network and a short training; ``over`` are changes by section."""
    released = {name: section for name, section in method_settings("cam").items() if name in SECTIONS}
    small = changed(released, {"irn_train": {"backbone": TINY, "train": FAST}})
    splits = {"train": "train", "measured": "measured"}
    return {"seed": 3, "dataset": {"name": "squares", "splits": splits}, **changed(small, over)}


# ---- propagation


def dense_walk(cam: np.ndarray, edge: np.ndarray, beta: float, steps: int, radius: int) -> np.ndarray:
    """The definition with full matrices, pair by pair."""
    h, w = edge.shape
    cells = [(y, x) for y in range(h) for x in range(w)]
    affinity = np.eye(h * w)
    for i, (y, x) in enumerate(cells):
        for dy, dx in half_disc(radius):
            if (y + dy, x + dx) in cells:
                barrier = max(edge[y + py, x + px] for py, px in straight_path(dy, dx))
                j = cells.index((y + dy, x + dx))
                affinity[i, j] = affinity[j, i] = 1 - barrier
    transition = affinity**beta
    transition /= transition.sum(0)
    start = (cam * (1 - edge)).reshape(len(cam), -1)
    return (start @ np.linalg.matrix_power(transition, steps)).reshape(cam.shape)


@pytest.mark.parametrize("shape", [(9, 7), (3, 11), (1, 5)])
def test_propagation_is_the_dense_definition(shape: tuple[int, int]):
    cam, edge = random_map(3, *shape, seed=1), random_map(*shape, seed=2)
    walked = irn_walk.propagate(cam[None], edge[None], beta=6, log_steps=5, radius=4)[0].numpy()
    dense = dense_walk(cam.double().numpy(), edge.double().numpy(), 6, 32, 4)
    np.testing.assert_allclose(walked, dense, atol=1e-6)
    np.testing.assert_array_equal(walked.argmax(0), dense.argmax(0))


def test_scores_stay_in_their_range_and_behind_the_wall():
    cam = torch.zeros(2, 12, 20)
    cam[0, 6, 3], cam[1] = 1, 0.5
    edge = torch.zeros(12, 20)
    edge[:, 10] = 1
    walked = irn_walk.propagate(cam[None], edge[None], beta=10, log_steps=8, radius=5)[0]
    assert walked[0].min() >= 0
    assert walked[0].max() < 1
    assert walked[0, :, :10].min() > 0  # everywhere on its side
    assert walked[0, :, 10:].max() == 0  # nowhere else
    inside = [x for x in range(20) if x != 10]
    torch.testing.assert_close(walked[1][:, inside], torch.full((12, 19), 0.5))  # a constant stays one


def test_labels_of_empty_and_flat_scores():
    settings, edge = config()["irn_walk"], torch.zeros(5, 6)
    planes, classes = (torch.zeros(0, 5, 6), torch.zeros(1, 5, 6)), ([], [4])
    images = [relations(cam, edge, labels, (18, 23)) for cam, labels in zip(planes, classes, strict=True)]
    nothing, flat = irn_walk.semantic_labels(images, settings)
    assert np.array_equal(irn_walk.semantic_labels(images[:1], settings)[0], nothing)  # alone as beside another
    assert nothing.shape == flat.shape == (18, 23)
    assert not nothing.any()
    assert not flat.any()


# ---- marks


def test_marks_keep_the_doubtful_out():
    image = np.full((40, 60, 3), 30, np.uint8)
    image[10:30, 20:40] = (200, 180, 40)
    image[:, 50:] = (40, 90, 160)
    scores = np.zeros((1, 40, 60), np.float32)
    scores[0, 10:30, 20:40] = 0.9
    scores[0, :, 50:] = 0.2  # between the thresholds
    settings = config()["irn_marks"]
    label = irn_marks.marks_of(image, np.array([7], np.uint8), scores, settings)
    assert set(np.unique(label)) == {0, 7, IGNORE}
    assert (label[12:28, 22:38] == 7).all()
    assert (label[:, 52:] == IGNORE).all()
    assert (label[:8, :18] == 0).all()
    assert not irn_marks.marks_of(image, np.zeros(0, np.uint8), scores[:0], settings).any()


# ---- stages


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Four dark images with a bright square; the last has no class."""
    records = []
    for i, size in enumerate([(64, 80), (72, 60), (60, 60), (65, 67)]):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
        if i < 3:
            image[16:48, 12:44, i % 3] += 180
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        labels = (("red", "green", "red")[i],) if i < 3 else ()
        records.append(Record(f"im{i}", f"{i}.png", None, ("train", "measured"), labels, size[1], size[0], "", None))
    return Dataset("squares", ["red", "green"], tmp_path, records)


@pytest.fixture
def scores(dataset, tmp_path):
    """What a classifier might say: the middle of each square."""
    path = tmp_path / "scores.npz"
    with write_scores(path) as store:
        for record, label in zip(dataset.records, dataset.labels(), strict=True):
            planes = np.zeros((int(label.sum()), record.height, record.width), np.float32)
            planes[:, 20:44, 16:40] = 1
            store.put(record.id, np.flatnonzero(label) + 1, planes)
    return [path]


def test_from_scores_to_masks_and_instances(dataset, scores, tmp_path):
    marks = [tmp_path / f"marks{i}.zip" for i in range(2)]
    for i, path in enumerate(marks):
        run("irn_marks", config(), dataset, path, (i, 2), scores=scores, workers=2)
    run("irn_marks", config(), dataset, tmp_path / "whole.zip", scores=scores)
    assert Masks(marks).ids == dataset.ids
    for image_id in dataset.ids:
        assert np.array_equal(Masks(marks).get(image_id), Masks([tmp_path / "whole.zip"]).get(image_id))
    assert Masks(marks).get("im1")[32, 28] == 2

    model = train("irn_train", config(), dataset, tmp_path / "net", masks=marks)
    net = irn_net.load(config()["irn_train"], model)
    views = [top_left(dataset.image(i), FAST["crop"], net.backbone.input) for i in dataset.ids]
    assert net.mean_shift.running_mean.abs().max() > 1e-3
    torch.testing.assert_close(mean_displacement(net, views), torch.zeros(2), atol=1e-5, rtol=0)

    reads = {"scores": scores, "model": model}
    run("irn_walk", config(), dataset, tmp_path / "walk.zip", **reads)
    for i in range(2):
        run("irn_walk", config(), dataset, tmp_path / f"walk{i}.zip", (i, 2), **reads)
    whole, parts = Masks([tmp_path / "walk.zip"]), Masks([tmp_path / f"walk{i}.zip" for i in range(2)])
    for record in dataset.records:
        mask = whole.get(record.id)
        assert mask.shape == (record.height, record.width)
        assert set(np.unique(mask)) <= {0, *(dataset.classes.index(name) + 1 for name in record.labels)}
        assert np.array_equal(mask, parts.get(record.id))
    assert whole.get("im0")[32, 28] == 1

    run("irn_instances", config(), dataset, tmp_path / "instances.npz", **reads)
    found = Instances([tmp_path / "instances.npz"])
    assert found.ids == dataset.ids
    assert found.get("im1").classes.tolist() == [2] * len(found.get("im1").masks)
    assert len(found.get("im3").masks) == 0
    with zipfile.ZipFile(tmp_path / "instances.npz") as archive:
        assert archive.testzip() is None


def test_scores_may_be_raised_to_a_power_before_they_walk(dataset, tmp_path):
    with write_scores(tmp_path / "ramp.npz") as store:
        store.put("im0", [1], np.linspace(0, 1, 64 * 80, dtype=np.float32).reshape(1, 64, 80))
    one = Dataset("one", dataset.classes, dataset.root, dataset.records[:1])
    torch.save(irn_net.build(config()["irn_train"]).state_dict(), tmp_path / "model.pt")
    work = given(config(), one, scores=[tmp_path / "ramp.npz"], model=tmp_path / "model.pt")
    plain, raised = (next(irn_walk.from_relations(work, power, list))[1] for power in (1, 2))
    assert torch.equal(raised.cam, plain.cam**2)
    assert len(plain.cam.unique()) > 100
    assert torch.equal(raised.edge, plain.edge)


@pytest.mark.parametrize("stage", [irn_walk.irn_walk, irn_instances.irn_instances], ids=["irn_walk", "irn_instances"])
def test_each_stage_raises_scores_to_its_own_power(dataset, monkeypatch, stage):
    powers = []
    monkeypatch.setattr(irn_walk, "from_relations", lambda _, power, job: powers.append(power) or iter(()))
    settings = config(**{stage.__name__: {"score_power": 1.5}})
    assert not list(stage(given(settings, dataset)))
    assert powers == [1.5]


def test_training_repeats_and_learns(dataset, scores, tmp_path):
    marks = tmp_path / "marks.zip"
    run("irn_marks", config(), dataset, marks, scores=scores)
    longer = config(irn_train={"train": {"steps": 25, "optimizer": {"lr": 0.05}}})
    for name in ("a", "b"):
        train("irn_train", longer, dataset, tmp_path / name, masks=[marks])
    assert (tmp_path / "a" / "model.pt").read_bytes() == (tmp_path / "b" / "model.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "model.pt") as archive:  # no name of a temporary file among its bytes
        assert {name.partition("/")[0] for name in archive.namelist()} == {"archive"}
    rows = [line.split(",") for line in (tmp_path / "a" / "losses.csv").read_text().splitlines()[1:]]
    totals = Counter()
    for step, _, _, _, value in rows:
        totals[int(step)] += float(value)
    assert totals[max(totals)] < 0.8 * totals[min(totals)]


def test_samples_at_both_strides(dataset, tmp_path):
    with write_masks(tmp_path / "marks.zip") as store:
        for record in dataset.records:
            label = np.full((record.height, record.width), IGNORE, np.uint8)
            label[16:48, 12:44] = 1
            store.put(record.id, label)
    plain = {**config()["irn_train"]["train"], "scale": [1.0, 1.0], "flip": 0.0}
    sample = IrnSamples(dataset, [tmp_path / "marks.zip"], plain).get(0, np.random.default_rng(0))
    assert sample["image"].shape == (3, 64, 64)
    assert sample["label"].shape == (16, 16)
    bright = interpolate(sample["image"][None, :1], scale_factor=0.25, mode="area")[0, 0] > 1
    assert ((sample["label"] == 1) == bright).float().mean() > 0.95


def test_scores_of_cells():
    full = to_tensor(normalise(np.random.default_rng(0).integers(0, 256, (18, 23, 3), dtype=np.uint8)))
    cells = irn_walk.to_cells(full)
    assert cells.shape == (3, 5, 6)
    assert cells.min() >= 0
    torch.testing.assert_close(cells.amax((1, 2)), torch.ones(3), atol=1e-3, rtol=0)


def test_loader_processes_read_the_same_marks(dataset, scores, tmp_path):
    marks = tmp_path / "marks.zip"
    run("irn_marks", config(), dataset, marks, scores=scores)
    for loaders in (0, 2):
        train("irn_train", config(), dataset, tmp_path / f"net{loaders}", loaders, masks=[marks])
    assert (tmp_path / "net0" / "losses.csv").read_text() == (tmp_path / "net2" / "losses.csv").read_text()


def test_missing_marks_are_named(dataset, tmp_path):
    with write_masks(tmp_path / "marks.zip") as store:
        store.put("im0", np.zeros((64, 80), np.uint8))
    with pytest.raises(WsssError, match="no marks for image 'im1'"):
        train("irn_train", config(), dataset, tmp_path / "net", masks=[tmp_path / "marks.zip"])


def test_missing_scores_are_named(dataset, scores, tmp_path):
    other = Dataset("squares", dataset.classes, dataset.root, [dataset.records[0]])
    extra = Record("unseen", "0.png", None, ("train",), ("red",), 80, 64, "", None)
    with pytest.raises(WsssError, match="no result for image 'unseen'"):
        run("irn_marks", config(), other._with([extra]), tmp_path / "x.zip", scores=scores)
    assert not (tmp_path / "x.zip").exists()
    assert len(Scores(scores)) == len(dataset)
