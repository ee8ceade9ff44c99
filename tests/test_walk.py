"""Random walk: the sparse products against dense matrix powers, and the stage that writes pseudo masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from stages import run

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.refine import affinity_net, walk
from wsss.refine.affinity_net import pair_affinity
from wsss.refine.labels import clamp_radius
from wsss.refine.paths import half_disc
from wsss.stores import Masks, write_scores

CONFIG = {
    "seed": 0,
    "backbone": {"name": "tiny", "weights": None},
    "crf": {"gaussian": {"sxy": 3, "compat": 3}, "bilateral": {"sxy": 80, "srgb": 13, "compat": 10}, "iterations": 10},
    "affinity": {"radius": 5, "dropout_until": None, "backbone": {"name": None, "weights": None}},
    "walk": {"alpha": 6, "beta": 8, "log_steps": 6, "crf": False},
}
SETTINGS = {"psa": (8, 8), "seam": (8, 6), "one_step": (4, 0), "two_steps": (4, 1)}  # beta, log_steps
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def dense_matrix(pairs: torch.Tensor, h: int, w: int, radius: int, beta: float) -> torch.Tensor:
    """``T`` by its definition from affinities ``P×h'×w'``, cell by cell, in float64."""
    matrix = torch.eye(h * w, dtype=torch.float64)
    for p, (dy, dx) in enumerate(half_disc(radius)):
        for y in range(h - radius + 1):
            for x in range(radius - 1, w - radius + 1):
                i, j = y * w + x, (y + dy) * w + x + dx
                matrix[i, j] = matrix[j, i] = pairs[p, y, x - radius + 1].double() ** beta
    return matrix / matrix.sum(0, keepdim=True)


def case(h: int, w: int, radius: int, images: int = 2, planes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(h)
    scores = torch.rand(images, planes, h, w, generator=generator)
    return scores, pair_affinity(torch.randn(images, 4, h, w, generator=generator) / 4, radius)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("h", "w"), [(13, 17), (9, 11), (4, 6), (1, 3)])
def test_walk_equals_dense_matrix_powers(h, w, name, device):
    beta, log_steps = SETTINGS[name]
    radius = clamp_radius(5, h, w)
    scores, pairs = case(h, w, radius)
    walked = walk.random_walk(scores.to(device), pairs.to(device), radius, beta, log_steps).cpu()
    for n in range(len(scores)):
        matrix = dense_matrix(pairs[n], h, w, radius, beta)
        for _ in range(log_steps):
            matrix = matrix @ matrix
        expected = (scores[n].flatten(1).double() @ matrix).view(-1, h, w)
        torch.testing.assert_close(walked[n].double(), expected, rtol=0, atol=2e-7)
        assert torch.equal(walked[n].argmax(0), expected.argmax(0))


def test_border_cells_have_fewer_neighbours():
    pairs = torch.ones(1, 34, 47 - 4, 63 - 8)
    weights, offsets = walk.neighbour_weights(pairs, (47, 63), 5, 8)
    degree = (weights[0] > 0).sum(0) - 1
    assert len(offsets) == 69
    assert degree[20, 30] == 68
    assert (degree[0, 30], degree[-1, 30], degree[20, 0]) == (38, 5, 2)
    assert (degree == 0).sum() == 10


def test_unreachable_cells_keep_their_score_and_constants_stay():
    scores, pairs = case(13, 17, 5)
    walked = walk.random_walk(scores, pairs, 5, 8, 8)
    torch.testing.assert_close(walked[..., -1, 0], scores[..., -1, 0])  # a corner without neighbours
    constant = walk.random_walk(torch.ones(1, 1, 13, 17), pairs[:1], 5, 8, 8)
    torch.testing.assert_close(constant, torch.ones(1, 1, 13, 17), rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 64, 256, 1024])
def test_coefficients_make_the_power(steps):
    x = np.linspace(-1, 1, 1001)
    power = np.polynomial.chebyshev.chebval(x, walk.walk_coefficients(steps))
    np.testing.assert_allclose(power, x**steps, rtol=0, atol=1e-8)
    assert len(walk.walk_coefficients(steps)) <= max(2, 6 * steps**0.5 + 2)


def test_no_tensor_is_dense(monkeypatch):
    """The largest tensor of a walk over n cells has far fewer than n² elements."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.layout == torch.strided:
                largest = max(largest, out.numel())
            return out

    scores, pairs = case(30, 40, 5, images=1)
    with Watch():
        walk.random_walk(scores, pairs, 5, 8, 6)
    assert 0 < largest <= 70 * 1200


def test_background_score():
    scores = torch.tensor([[[0.5, -0.25]], [[0.25, -0.5]]])
    assert walk.label_planes(scores, 2, n_classes=3)[0].tolist() == [[0.25, 1.0]]  # an absent class scores 0
    assert walk.label_planes(scores, 2, n_classes=2)[0].tolist() == [[0.25, 1.25**2]]
    assert walk.label_planes(scores[:0], 2, n_classes=2).tolist() == [[[1.0, 1.0]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.manual_seed(0)
    torch.save(affinity_net.build(CONFIG).state_dict(), path)
    return path


def toy(folder) -> Dataset:
    """Two classes side by side, scores right but rough; the last image shows none."""
    rng, records = np.random.default_rng(0), []
    with write_scores(folder / "cam.npz") as store:
        for n, (height, width) in enumerate(((60, 83), (64, 64), (37, 51))):
            image = np.full((height, width, 3), 40, np.uint8)
            scores = np.zeros((2, height, width))
            if n < 2:
                image[10:30, 5:30], image[10:30, 32:] = (220, 30, 30), (30, 30, 220)
                scores[0, 10:30, 5:30] = scores[1, 10:30, 32:] = 1
                scores *= rng.uniform(0.5, 1, scores.shape)
            Image.fromarray(image).save(folder / f"{n}.png")
            labels = ("cat", "cup") if n < 2 else ()
            records.append(Record(str(n), f"{n}.png", None, (), labels, width, height, "", None))
            store.put(str(n), [2, 4] if n < 2 else [], scores if n < 2 else scores[:0])
    return Dataset("toy", ["bird", "cat", "cow", "cup"], folder, records)


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_stage_writes_masks_of_the_image_size(tmp_path, model, crf, device):
    images, config = toy(tmp_path), {**CONFIG, "walk": {**CONFIG["walk"], "log_steps": 2, "crf": crf}}
    run("walk", config, images, tmp_path / "all.zip", scores=[tmp_path / "cam.npz"], model=model, device=device)
    masks = Masks([tmp_path / "all.zip"])
    for record in images.records:
        mask = masks.get(record.id)
        assert mask.shape == (record.height, record.width)
        assert set(np.unique(mask)) == ({0, 2, 4} if record.labels else {0})
    truth = np.zeros((60, 83), int)
    truth[10:30, 5:30], truth[10:30, 32:] = 2, 4
    assert (masks.get("0") == truth).mean() > 0.96


def test_result_does_not_depend_on_shards(tmp_path, model):
    images, reads = toy(tmp_path), {"scores": [tmp_path / "cam.npz"], "model": model}
    run("walk", CONFIG, images, tmp_path / "all.zip", **reads)
    for i in range(2):
        run("walk", CONFIG, images, tmp_path / f"{i}.zip", (i, 2), **reads)
    whole, parts = Masks([tmp_path / "all.zip"]), Masks([tmp_path / "0.zip", tmp_path / "1.zip"])
    assert whole.ids == parts.ids == images.ids
    for image_id in whole.ids:
        np.testing.assert_array_equal(whole.get(image_id), parts.get(image_id))


def test_result_does_not_depend_on_crf_processes(tmp_path, model):
    images, config = toy(tmp_path), {**CONFIG, "walk": {**CONFIG["walk"], "crf": True}}
    for workers in (1, 2):
        reads = {"scores": [tmp_path / "cam.npz"], "model": model, "workers": workers}
        run("walk", config, images, tmp_path / f"{workers}.zip", **reads)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_scores_of_another_size_are_refused(tmp_path, model):
    images = toy(tmp_path)
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    with pytest.raises(WsssError, match=r"image '1' is 30×20 pixels, .* 64×64"):
        run("walk", CONFIG, images, tmp_path / "out.zip", scores=[tmp_path / "cam.npz"], model=model)
    assert not (tmp_path / "out.zip").exists()
