"""Inference in batches: what is computed together, by whom it is fed, and that results are those of one at a time."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from stages import TINY, run

from wsss import batches, devices
from wsss.children import LOOK_EVERY
from wsss.data.index import Dataset, Record
from wsss.errors import ChildDied, WsssError
from wsss.feed import fed
from wsss.files import read_yaml
from wsss.methods import build
from wsss.plan import configuration
from wsss.plan.resolve import method_settings, stand_in
from wsss.refine import affinity_net, irn_net
from wsss.segment.presets import resolve
from wsss.segment.task import SegmentTask
from wsss.stores import Instances, Masks, Scores

CLASSES = ("disc", "square", "stripe")
SIZES = [(40, 56), (33, 47), (40, 56), (33, 47), (44, 44), (40, 56), (40, 56)]
LABELS = [("disc",), (), ("square", "stripe"), ("stripe",), ("disc",), (), ("stripe",)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("batches")


@pytest.fixture(scope="module")
def images(folder) -> Dataset:
    """Noise of three sizes; two images have no class, one has two."""
    rng, records = np.random.default_rng(1), []
    for i, (height, width) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        records.append(Record(f"im{i}", f"{i}.png", None, ("train",), LABELS[i], width, height, "", None))
    return Dataset("noise", CLASSES, folder, records)


@pytest.fixture(scope="module")
def settings() -> dict:
    networks = dict.fromkeys(("resnet38d", "vgg16", "resnet101", "resnet50"), TINY)
    config = stand_in(method_settings("seam"), networks)
    config["cam"]["scales"] = [1.0, 0.5]
    config["affinity"]["radius"] = 3
    config["walk"] |= {"crf": False, "log_steps": 3}
    config |= resolve({"deeplab": {"preset": "seam", "backbone": {**TINY, "output_stride": 8}}, "predict": {}})
    config["predict"]["crf"]["iterations"] = 0
    return config


@pytest.fixture(scope="module")
def scores(images, settings, folder):
    """The model of a classifier and its scores, one image at a time."""
    torch.manual_seed(0)
    torch.save(build(settings, len(CLASSES)).state_dict(), folder / "model.pt")
    run("cam", settings, images, folder / "one.npz", model=str(folder / "model.pt"), batch=1)
    return folder / "one.npz"


# ---- what is computed together


def test_one_at_a_time_keeps_the_order():
    assert batches.of_one_size(SIZES, 1) == [[i] for i in range(len(SIZES))]


def test_images_of_one_size_are_together():
    assert sorted(batches.of_one_size(SIZES, 3)) == [[0, 2, 5], [1, 3], [4], [6]]


def test_an_image_of_a_rare_size_does_not_wait_for_ever():
    sizes = [1] + [2] * 100
    found = batches.of_one_size(sizes, 2)
    assert found.index([0]) <= batches.WINDOW


def test_results_come_in_the_order_of_the_images():
    together = batches.of_one_size(SIZES, 3)
    assert list(batches.reordered(together, ([i * i for i in batch] for batch in together))) == [
        i * i for i in range(len(SIZES))
    ]


def test_on_a_cpu_it_is_one_unless_said():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (devices.at_once(None, cpu), devices.at_once(3, cpu)) == (1, 3)
    assert devices.at_once(None, cuda) > 1


# ---- the same results


def test_by_default_the_cpu_has_the_bytes_of_one_at_a_time(images, settings, folder, scores):
    run("cam", settings, images, folder / "default.npz", model=str(folder / "model.pt"), loaders=1)
    assert (folder / "default.npz").read_bytes() == scores.read_bytes()


def test_scores_in_batches_are_those_of_one_at_a_time(images, settings, folder, scores):
    run("cam", settings, images, folder / "three.npz", model=str(folder / "model.pt"), batch=3, loaders=2)
    alone, together = Scores([scores]), Scores([folder / "three.npz"])
    assert together.ids == alone.ids
    for image_id in alone.ids:
        (classes, planes), (same, close) = alone.get(image_id), together.get(image_id)
        assert classes.tolist() == same.tolist()
        np.testing.assert_allclose(planes, close, atol=2e-3)  # they are stored in 16 bits


def test_a_walk_in_batches_is_that_of_one_at_a_time(images, settings, folder, scores):
    torch.manual_seed(0)
    torch.save(affinity_net.build(settings, initial=False).state_dict(), folder / "affinity.pt")
    found = masks(settings, images, folder, "walk", scores=[scores], model=str(folder / "affinity.pt"))
    same(*found)


def test_predictions_in_batches_are_those_of_one_at_a_time(images, settings, folder):
    torch.manual_seed(0)
    torch.save(SegmentTask(settings["deeplab"], len(CLASSES)).state_dict(), folder / "deeplab.pt")
    same(*masks(settings, images, folder, "predict", model=str(folder / "deeplab.pt")))


@pytest.fixture(scope="module")
def irn(settings, folder):
    """An IRNet that knows nothing; its crops are smaller than the images."""
    settings["irn_train"] |= {"backbone": {**TINY, "output_stride": None, "dilate": None}}
    settings["irn_train"]["train"]["crop"] = 32
    for stage in ("irn_walk", "irn_instances"):
        settings[stage] |= {"radius": 3, "log_steps": 4, "background": 0.1}
    torch.manual_seed(0)
    torch.save(irn_net.build(settings["irn_train"]).state_dict(), folder / "irn.pt")
    return str(folder / "irn.pt")


def test_an_irnet_walk_in_batches_is_that_of_one_at_a_time(images, settings, folder, scores, irn):
    same(*masks(settings, images, folder, "irn_walk", scores=[scores], model=irn))


def test_instances_in_batches_are_those_of_one_at_a_time(images, settings, folder, scores, irn):
    for batch in (1, 3):
        out = folder / f"instances{batch}.npz"
        run("irn_instances", settings, images, out, scores=[scores], model=irn, batch=batch, loaders=batch - 1)
    alone, together = (Instances([folder / f"instances{batch}.npz"]) for batch in (1, 3))
    assert together.ids == alone.ids
    assert sum(len(alone.get(image_id).masks) for image_id in alone.ids) > 3
    for image_id in alone.ids:
        one, other = alone.get(image_id), together.get(image_id)
        assert one.classes.tolist() == other.classes.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert (one.masks != other.masks).sum() <= 0.001 * one.masks.size


def test_refinement_in_batches_has_the_bytes_of_one_at_a_time(images, settings, folder, scores):
    """No network comes in between, and planes do not mix."""
    for batch in (1, 3):
        run("pamr", settings, images, folder / f"pamr{batch}.npz", scores=[scores], batch=batch)
    assert (folder / "pamr1.npz").read_bytes() == (folder / "pamr3.npz").read_bytes()


def masks(settings, images, folder, stage: str, **reads) -> tuple[Masks, Masks]:
    for batch in (1, 3):
        run(stage, settings, images, folder / f"{stage}{batch}.zip", batch=batch, **reads)
    return Masks([folder / f"{stage}1.zip"]), Masks([folder / f"{stage}3.zip"])


def same(alone: Masks, together: Masks) -> None:
    """Label maps agree but for pixels where two labels are equally likely."""
    assert together.ids == alone.ids
    for image_id in alone.ids:
        assert alone.get(image_id).shape == together.get(image_id).shape
        assert (alone.get(image_id) == together.get(image_id)).mean() > 0.999


def test_an_image_whose_size_is_not_that_of_its_index_is_named(images, settings, folder, scores, tmp_path):
    for i in range(len(SIZES)):
        Image.new("RGB", (30, 20) if i == 2 else SIZES[i][::-1]).save(tmp_path / f"{i}.png")
    changed = Dataset("noise", CLASSES, tmp_path, images.records)
    with pytest.raises(WsssError, match=r"'im0' and 'im2' are of one size by their index, but not by their files"):
        run("cam", settings, changed, tmp_path / "out.npz", model=str(folder / "model.pt"), batch=3)
    assert not (tmp_path / "out.npz").exists()


# ---- loader processes


def squared(i: int) -> torch.Tensor:
    if i == 7:
        raise WsssError("seven.png: cannot be decoded")
    if i == 9:
        time.sleep(2 * LOOK_EVERY)  # it is known by then
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.tensor(i * i)


@pytest.mark.parametrize("loaders", [0, 2])
def test_what_is_fed_comes_in_order(loaders):
    assert [int(found) for found in fed(squared, range(7), loaders)] == [i * i for i in range(7)]


@pytest.mark.parametrize("loaders", [0, 2])
def test_an_error_of_a_loader_is_its_own_line(loaders):
    with pytest.raises(WsssError, match=r"^seven\.png: cannot be decoded$"):
        list(fed(squared, range(6, 9), loaders))


def test_a_loader_that_dies_ends_the_job_with_a_line():
    with pytest.raises(ChildDied, match=r"a process that loads images died \(signal 9\)"):
        list(fed(squared, [1, 9], 1))


def test_how_it_is_computed_is_in_no_digest():
    config = read_yaml(configuration.OWN)
    changed = {**config, "batch": 8, "deterministic": True, "compile": True, "loaders": 3}
    assert configuration.of_results(changed) == configuration.of_results(config)
    configuration.check(changed, [])
