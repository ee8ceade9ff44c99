"""AffinityNet and its random walk against the official PSA and SEAM code."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import torch
from golden import load, weights_of
from PIL import Image

from wsss.backbones import build
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.data.index import Dataset, Record
from wsss.data.transforms import normalise, to_tensor
from wsss.refine import walk
from wsss.refine.affinity_net import AffinityNet, pair_affinity
from wsss.refine.affinity_net import build as build_net
from wsss.refine.labels import AffinitySamples, clamp_radius, pair_marks, pool
from wsss.refine.losses import cross_entropy_terms
from wsss.refine.paths import at, half_disc
from wsss.stores import write_scores

RADIUS = 5
PIXELS = 3  # label maps may differ where two scores are nearly equal


class Drawn:
    """A generator that draws what the golden file says: the offsets of the crop, and whether to mirror."""

    def __init__(self, box: np.ndarray, flip: int):
        self.offsets, self.flip = [int(a + b) for a, b in (box[[0, 2]], box[[1, 3]])], flip

    def integers(self, n: int) -> int:
        assert self.offsets[0] < n
        return self.offsets.pop(0)

    def random(self) -> float:
        return 1.0 - self.flip


@pytest.fixture(scope="module")
def golden() -> dict:
    return load("psa_affinity")


@pytest.fixture(scope="module")
def batch(golden, tmp_path_factory) -> dict:
    """The two training samples, read from an index and a CRF shard as training reads them."""
    folder, records, alphas = tmp_path_factory.mktemp("affinity"), [], {"la": 4, "ha": 24}
    with write_scores(folder / "crf.npz") as store:
        for n in range(len(golden["flips"])):
            image = golden[f"image{n}"]
            Image.fromarray(image).save(folder / f"{n}.png")
            records.append(Record(str(n), f"{n}.png", None, (), ("x",), *image.shape[1::-1], "", None))
            for which, alpha in alphas.items():
                store.put(f"{n}@{alpha}", golden[f"score_keys{n}"], golden[f"{which}_scores{n}"])
    train = {"crop": int(golden["crop_size"]), "flip": 1.0, "jitter": None}
    config = {
        "crf": {"alphas": list(alphas.values())},
        "affinity": {"low_alpha": alphas["la"], "high_alpha": alphas["ha"], "train": train},
    }
    samples = AffinitySamples(Dataset("golden", ["x"], folder, records), [folder / "crf.npz"], config, 8, "rgb")
    samples.view = type(samples.view)(train["crop"], 0.5, None)
    got = [samples.get(n, Drawn(golden["crop_boxes"][n], flip)) for n, flip in enumerate(golden["flips"])]
    return {key: torch.stack([sample[key] for sample in got]) for key in ("image", "label")}


def test_samples_are_black_outside_and_labelled_where_both_alphas_agree(golden, batch):
    np.testing.assert_allclose(batch["image"][:, :, ::5, ::5], golden["input_sub"], rtol=0, atol=5e-5)
    np.testing.assert_array_equal(batch["label"], golden["label_maps"])


def test_pooled_scores(golden):
    for n, (box, flip) in enumerate(zip(golden["crop_boxes"], golden["flips"], strict=True)):
        top, left, y, x, h, w = (int(v) for v in box)
        planes = np.concatenate([golden[f"la_scores{n}"], golden[f"ha_scores{n}"]]).astype(np.float32)
        crop = torch.zeros(len(planes), *[int(golden["crop_size"])] * 2)
        crop[:, top : top + h, left : left + w] = torch.from_numpy(planes[:, y : y + h, x : x + w])
        pooled = pool(crop.flip(2) if flip else crop, 8).permute(1, 2, 0)
        np.testing.assert_allclose(pooled, golden[f"pooled_scores{n}"], rtol=0, atol=1e-5)


def test_pairs_are_in_the_official_order(golden):
    for size, suffix in ((int(golden["crop_size"]) // 8, ""), (56, "_56")):
        cells = torch.arange(size * size).view(size, size)
        start = at(cells, (0, 0), RADIUS).numpy()
        end = np.concatenate([at(cells, offset, RADIUS).flatten().numpy() for offset in half_disc(RADIUS)])
        assert crc32(start.tobytes()) == golden[f"crc_ind_from{suffix}_int64"]
        assert crc32(end.tobytes()) == golden[f"crc_ind_to{suffix}_int64"]


def test_pair_marks(golden, batch):
    marks = pair_marks(batch["label"], RADIUS)
    for name, mark, count in zip(("bg", "fg", "neg"), marks, golden["counts_f64"], strict=True):
        assert mark.sum() == count
        assert crc32(mark.numpy().astype(np.uint8).tobytes()) == golden[f"crc_{name}"]


def test_resnet38d_features_losses_and_gradients(golden, batch):
    net = AffinityNet(build({"name": "resnet38d", "freeze": ["conv1a", "b2"], "freeze_norm": True}), RADIUS).eval()
    report = load_official(net, weights_of(golden), KINDS["psa"], "documented weights")
    assert report.missing == report.unexpected == []
    net.double()  # the sign of a nearly equal pair, and with it a gradient, must not hang on this processor's rounding
    batch = {**batch, "image": batch["image"].double()}
    features = net(batch["image"])
    step = features.shape[1] // golden["features_sub"].shape[1]
    np.testing.assert_allclose(features[:, ::step].detach(), golden["features_sub"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features.mean((2, 3)).detach(), golden["features_chan_mean"], rtol=0, atol=5e-5)
    affinity = pair_affinity(features, RADIUS)
    np.testing.assert_allclose(affinity.flatten(2).detach(), golden["aff"], rtol=0, atol=1e-5)
    terms = cross_entropy_terms(affinity, pair_marks(batch["label"], RADIUS))
    for name, weight, tolerance in (("bg", 1 / 4, 5e-6), ("fg", 1 / 4, 5e-6), ("neg", 1 / 2, 1e-5)):
        assert terms[name].item() == pytest.approx(weight * float(golden[f"{name}_loss"]), abs=tolerance * weight)
    assert sum(net.losses(batch, "affinity", None).values()).item() == pytest.approx(float(golden["loss"]), abs=1e-5)
    sum(terms.values()).backward()
    parameters = {name.removeprefix("backbone."): p for name, p in net.named_parameters()}
    for name, norm in zip(golden["grad_names"], golden["grad_norms_f64"], strict=True):
        assert parameters[str(name)].grad.double().norm().item() == pytest.approx(norm, rel=1e-4), name
    step = len(parameters["f9.weight"]) // len(golden["grad_f9_sub"])
    grad = parameters["f9.weight"].grad[::step, ::step, 0, 0]
    np.testing.assert_allclose(grad, golden["grad_f9_sub"], rtol=0, atol=2e-8)


@torch.no_grad()
def test_vgg16_features_and_affinities():
    golden = load("psa_vgg16_aff")
    own = {"name": None, "weights": None}
    net = build_net(
        {"backbone": {"name": "vgg16"}, "affinity": {"radius": RADIUS, "dropout_until": None, "backbone": own}}
    ).eval()
    report = load_official(net, weights_of(golden), KINDS["psa"], "documented weights")
    assert report.missing == report.unexpected == []
    features = net(to_tensor(normalise(golden["image"], net.backbone.input))[None])
    step = features.shape[1] // len(golden["features_sub"])
    np.testing.assert_allclose(features[0, ::step], golden["features_sub"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(features[0].mean((1, 2)), golden["features_chan_mean"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(pair_affinity(features, RADIUS)[0].flatten(1), golden["aff"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["main", "small"])
@pytest.mark.parametrize("paper", ["psa", "seam"])
def test_random_walk(case, paper):
    golden = {k.removeprefix(f"{case}_").removeprefix(f"{paper}_"): v for k, v in load("psa_random_walk").items()
              if k.startswith(f"{case}_") and k.split("_")[1] not in {"psa", "seam"} - {paper}}  # fmt: skip
    alpha, beta, log_steps = golden["params"].tolist()
    features, (height, width) = torch.from_numpy(golden["features"])[None], golden["image_size_hw"]
    size = features.shape[-2:]
    radius = clamp_radius(RADIUS, *size) if paper == "seam" else RADIUS
    pairs = pair_affinity(features, radius)
    np.testing.assert_allclose(pairs[0].flatten(1), golden["pairs"], rtol=0, atol=1e-5)
    weights, _ = walk.neighbour_weights(pairs, size, radius, beta)
    assert (weights > 0).sum() == golden["affbeta_nnz"]
    sums = weights.sum(1).flatten()
    np.testing.assert_allclose(sums, golden["affbeta_colsum"], rtol=0, atol=5e-4 if case == "main" else 1e-4)

    scores = torch.from_numpy(golden["scores"].astype(np.float32)) - 0.0625
    scores = scores.clamp(min=0) if paper == "psa" else scores
    rows = [0, *(golden["class_ids"] + 1)]
    planes = walk.label_planes(scores, alpha, len(golden["pooled"]) - 1)
    cells = pool(planes, 8)
    np.testing.assert_allclose(cells, golden["pooled"][rows], rtol=0, atol=1e-5)
    walked = walk.random_walk(cells[None], pairs, radius, beta, int(log_steps))[0]
    np.testing.assert_allclose(walked, golden["rw"][rows], rtol=0, atol=1e-4 if paper == "psa" else 5e-5)
    label = np.array(rows)[walk.upsample(walked, 8)[:, :height, :width].argmax(0)]
    assert (label != golden["label"]).sum() <= PIXELS
