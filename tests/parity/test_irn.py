"""IRNet against the numbers of the official implementation: pairs, losses, network, propagation, labels, instances."""

from __future__ import annotations

import functools
import zlib
from itertools import groupby

import numpy as np
import pytest
import torch
from golden import load, weights_of
from stages import changed
from toys import relations

from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.cam import by_max, scores_of, summed
from wsss.data.transforms import multi_scale, normalise, to_tensor
from wsss.methods.cam import Cam
from wsss.plan.resolve import method_settings
from wsss.refine import irn_instances, irn_marks, irn_net, irn_walk
from wsss.refine.irn_train import mean_displacement, reduce_label
from wsss.refine.labels import PairMarks, pair_marks
from wsss.refine.losses import displacement_terms
from wsss.refine.paths import at, pair_difference, pairs_within, path_affinity

IRN_MAPS = {"relu": "before", "normalise": "max", "round_up": 16}


@functools.cache
def released() -> dict:
    """The defaults: IRN's released settings in its four sections."""
    return method_settings("cam")


def network(golden: dict) -> irn_net.IRNet:
    net = irn_net.build(released()["irn_train"])
    report = load_official(net, weights_of(golden), KINDS["irn"], "documented weights")
    assert report.missing == report.unexpected == []
    return net.eval()


def tensor(golden: dict, key: str) -> torch.Tensor:
    return torch.from_numpy(golden[key])


def close(actual, expected, tolerance: float, name: str = "") -> None:
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=name)


def crc(array) -> int:
    return zlib.crc32(np.ascontiguousarray(array, dtype=np.int64).tobytes())


def by_length(radius: int) -> list[int]:
    """Positions of our pairs in the official order: the shortest paths first."""
    pairs = pairs_within(radius)
    return sorted(range(len(pairs)), key=lambda p: len(pairs[p].path))


def assert_pairs(golden: dict, radius: int) -> None:
    pairs = [pairs_within(radius)[p] for p in by_length(radius)]
    np.testing.assert_array_equal([(pair.dy, pair.dx) for pair in pairs], golden["search_dst_dy_dx"])
    np.testing.assert_array_equal([len(pair.path) for pair in pairs], golden["path_lengths"])


# ---- the classifier: method "cam" in IRN's configuration

CLASSIFIER = {
    "backbone": {
        "name": "resnet50",
        "output_stride": 16,
        "dilate": False,
        "freeze": ["conv1", "bn1", "layer1", "layer2"],
        "freeze_norm": "statistics",
    },
    "method": {"dropout": 0.0, "norm_decay": 1.0},
}


def classifier(golden: dict, n_classes: int) -> Cam:
    method = Cam(changed(released(), CLASSIFIER, new_keys=True), n_classes)
    report = load_official(method, weights_of(golden), KINDS["irn_cam"], "documented weights")
    assert report.missing == report.unexpected == []
    return method.eval()


@torch.no_grad()
def test_classifier():
    golden = load("irn_cam")
    method = classifier(golden, len(golden["logits"]))
    (pair,) = multi_scale(golden["image"], [1.0], True, method.backbone.input)
    taps = method.backbone(pair)
    for stage, tolerance in ((1, 1e-4), (2, 1e-4), (3, 2e-4), (4, 2e-4)):
        close(taps[f"conv{stage + 2}"][0].mean((1, 2)), golden[f"stage{stage}_chan_mean"], tolerance)
    logits = method.logits(taps["conv6"])
    close(logits[0], golden["logits"], 1e-4)
    close(logits[1], golden["logits_flipped"], 1e-4)
    maps = method.localize(pair, torch.ones(2, len(golden["logits"])))
    close(maps[0], golden["cam_raw"], 2e-4)
    close(maps[0].relu() + maps[1].relu().flip(-1), golden["cam_pair"], 5e-4)


def test_training_step_of_the_classifier():
    golden = load("irn_cam")
    method = classifier(golden, len(golden["logits"])).train()
    labels = torch.zeros(1, len(golden["logits"]))
    labels[0, golden["train_label_classes"]] = 1
    batch = {"image": to_tensor(normalise(golden["image"]))[None], "labels": labels}
    loss = sum(method.losses(batch, "classifier", None).values())
    close(loss, golden["train_loss"], 2e-5)
    loss.backward()
    official = {KINDS["irn_cam"].official(name): p for name, p in method.named_parameters()}
    norms = [official[name].grad.double().norm().item() for name in golden["grad_names"].tolist()]
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=1e-4)
    trained = [name for name, p in official.items() if p.grad is not None]
    assert trained[: len(golden["first_names_with_grad"])] == golden["first_names_with_grad"].tolist()


def test_multi_scale_maps():
    """At stride 4, and at full size: there IRN resizes to the next multiples of 16 and cuts."""
    golden = load("irn_make_cam")
    method, label = classifier(golden, len(golden["label"])), golden["label"]
    assert np.flatnonzero(label).tolist() == golden["keys"].tolist()
    inputs = multi_scale(golden["image"], golden["scales"].tolist(), True, method.backbone.input)
    height, width = golden["image"].shape[:2]
    cells = summed(method, inputs, label, (-(-height // 4), -(-width // 4)), "before")
    close(by_max(cells), golden["cam"], 2e-5)
    close(scores_of(method, inputs, label, (height, width), IRN_MAPS), golden["high_res"], 2e-5)
    own = scores_of(method, inputs, label, (height, width), IRN_MAPS | {"round_up": None})
    assert (irn_walk.to_cells(own) - by_max(cells)).abs().mean() < 0.01  # what propagation reads is near (D1 there)


# ---- pairs and losses


def test_pairs_sources_and_paths():
    golden = load("irn_losses")
    radius, n = int(golden["radius"]), int(golden["crop_size"]) // irn_net.STRIDE
    assert_pairs(golden, radius)
    index = torch.arange(n * n).view(n, n)

    def seen(cell):
        return at(index, cell, radius).flatten().numpy()

    pairs = [pairs_within(radius)[p] for p in by_length(radius)]
    assert len(seen((0, 0))) == golden["n_sources"]
    assert crc(seen((0, 0))) == golden["crc_src_int64"]
    assert crc([seen((pair.dy, pair.dx)) for pair in pairs]) == golden["crc_dst_int64"]
    groups = [list(group) for _, group in groupby(pairs, key=lambda pair: len(pair.path))]
    actual = [crc([[seen(cell) for cell in pair.path] for pair in group]) for group in groups]
    assert actual == golden["crc_paths_int64"].tolist()


def test_operators_on_given_maps():
    golden = load("irn_losses")
    radius = int(golden["radius"])
    affinity = path_affinity(tensor(golden, "given_edge_prob")[None], radius)
    close(affinity[0].flatten(1)[by_length(radius)][golden["aff_pair_index"]], golden["given_aff"], 1e-5)
    close(affinity.mean(), golden["given_aff_mean"], 1e-5)

    difference = pair_difference(tensor(golden, "given_dp")[None], radius)
    close(difference[0].flatten(2)[:, by_length(radius)][:, ::8, ::4], golden["given_pair_disp_sub"], 2e-4)
    everything = torch.ones_like(affinity, dtype=torch.bool)
    marks = PairMarks(everything, everything, everything)
    terms = displacement_terms(difference, marks, radius)
    close(2 * terms["dp_fg"], golden["given_dp_target_loss_mean"], 5e-5)


def batch_of(golden: dict) -> dict:
    """The training batch: images and labels, mirrored where ``flips`` says so."""
    images, labels = [], []
    for image, label, flip in zip(golden["images"], golden["labels"], golden["flips"], strict=True):
        image, label = (image[:, ::-1], label[:, ::-1]) if flip else (image, label)
        images.append(to_tensor(normalise(image)))
        labels.append(reduce_label(torch.from_numpy(label.copy())))
    return {"image": torch.stack(images), "label": torch.stack(labels)}


def test_labels_of_pairs():
    golden = load("irn_losses")
    label = batch_of(golden)["label"]
    np.testing.assert_array_equal(label, golden["reduced_labels"])
    radius = int(golden["radius"])
    marks = pair_marks(label, radius)
    for name, mark in marks._asdict().items():
        assert zlib.crc32(mark[:, by_length(radius)].to(torch.uint8).numpy().tobytes()) == golden[f"crc_{name}"]
    np.testing.assert_array_equal(torch.stack([m.sum((1, 2, 3)) for m in marks], 1), golden["counts"])


def test_training_step():
    golden = load("irn_losses")
    net, batch = network(golden), batch_of(golden)
    assert net.radius == golden["radius"]
    net.train()
    close(batch["image"][:, :, ::5, ::5], golden["input_sub"], 5e-5)
    edge, dp = net(batch["image"])
    close(torch.sigmoid(edge), golden["edge_prob"], 1e-5)
    close(dp, golden["dp"], 5e-5)
    affinity = path_affinity(torch.sigmoid(edge), net.radius)
    close(affinity.flatten(2)[:, by_length(net.radius)][:, golden["aff_pair_index"]], golden["aff"], 1e-5)

    losses = net.losses(batch, "irn", None)
    weights = {"boundary_bg": 1 / 4, "boundary_fg": 1 / 4, "boundary_neg": 1 / 2, "dp_fg": 1 / 2, "dp_bg": 1 / 2}
    plain = {name: (value / weights[name]).item() for name, value in losses.items()}
    close(plain["boundary_bg"], golden["bg_pos_aff_loss"], 1e-5)
    close(plain["boundary_fg"], golden["fg_pos_aff_loss"], 1e-5)
    close(plain["boundary_neg"], golden["neg_aff_loss"], 1e-5)
    close((plain["boundary_bg"] + plain["boundary_fg"]) / 2, golden["pos_aff_loss"], 1e-5)
    close(plain["dp_fg"], golden["dp_fg_loss"], 5e-5)
    close(plain["dp_bg"], golden["dp_bg_loss"], 5e-6)
    total = sum(losses.values())
    close(total, golden["total_loss"], 5e-5)

    total.backward()
    parameters = dict(net.named_parameters())
    norms = [parameters[name].grad.double().norm().item() for name in golden["grad_names"].tolist()]
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=1e-4)
    assert sum(p.grad is not None for p in net.backbone.parameters()) == golden["n_backbone_grads"]


def test_mean_displacement():
    golden = load("irn_losses")
    net = network(golden)
    close(net.mean_shift.running_mean, golden["initial_running_mean"], 1e-7)
    images = [to_tensor(normalise(image)) for image in golden["images"]]
    close(mean_displacement(net, images), golden["displacement_mean_eval"], 1e-5)


# ---- inference


@torch.no_grad()
def test_boundaries_and_displacements():
    golden = load("irn_edge_dp")
    net = network(golden)
    close(net.mean_shift.running_mean, golden["mean_shift"], 1e-7)
    image = to_tensor(normalise(golden["image"]))
    edge, dp = net(torch.stack([image, image.flip(-1)]))
    close(edge, golden["nopad_edge_logits"], 2e-5)
    close(dp, golden["nopad_dp"], 5e-5)
    for prefix, tolerance in (("", 1e-4), ("small_", 5e-5)):
        edge, dp = irn_net.boundary_and_displacement(net, [image], int(golden[f"{prefix}crop_size"]))
        close(edge, golden[f"{prefix}edge"], 1e-5)
        close(dp[0], golden[f"{prefix}dp"], tolerance)


@pytest.mark.parametrize(("key", "tolerance"), [("rw_r5_b10_t8", 2e-4), ("rw_r5_b10_t3", 2e-5), ("rw_r4_b6_t5", 5e-5)])
def test_propagation(key: str, tolerance: float):
    golden = load("irn_propagate")
    radius, beta, log_steps = (int(part[1:]) for part in key.split("_")[1:])
    [walked] = irn_walk.propagate(tensor(golden, "cam")[None], tensor(golden, "edge"), beta, log_steps, radius)
    close(walked, golden[key], tolerance)
    assert_pairs(golden, released()["irn_walk"]["radius"])


@pytest.mark.parametrize("prefix", ["", "net_"])
def test_semantic_labels(prefix: str):
    golden = load("irn_sem_seg")
    settings = released()["irn_walk"]
    assert (settings["beta"], settings["log_steps"], settings["background"]) == tuple(
        golden[key] for key in ("beta", "exp_times", "bg_thres")
    )
    cam, edge, label = tensor(golden, f"{prefix}cam"), tensor(golden, f"{prefix}edge")[0], golden[f"{prefix}label"]
    if prefix:
        image = to_tensor(normalise(golden["net_image"]))
        crop = released()["irn_train"]["train"]["crop"]
        [edge], _ = irn_net.boundary_and_displacement(network(golden), [image], crop)
        close(edge[None], golden["net_edge"], 5e-4)
    [walked] = irn_walk.propagate_each([cam], [edge], settings)
    close(walked, golden[f"{prefix}rw"], 3e-4)
    image = relations(cam, edge, golden[f"{prefix}keys"] + 1, label.shape)
    [actual] = irn_walk.semantic_labels([image], settings)
    assert (actual != label).sum() <= 3


def test_marks_for_training():
    golden = load("irn_label")
    thresholds = {f"{part}_threshold": float(golden[f"conf_{part}_thres"]) for part in ("fg", "bg")}
    settings = {**released()["irn_marks"], **thresholds}
    scores = golden["high_res_f16"].astype(np.float32)
    inputs = [irn_marks.above(scores, thresholds[f"{part}_threshold"]) for part in ("fg", "bg")]
    outputs = irn_marks.smooth(golden["image"], inputs, len(scores) + 1, settings["crf"])
    for part, before, after in zip(("fg", "bg"), inputs, outputs, strict=True):
        np.testing.assert_array_equal(before, golden[f"{part}_input_index"])
        assert (after != golden[f"{part}_crf_index"]).sum() <= 3
    label = irn_marks.marks_of(golden["image"], golden["keys"] + 1, scores, settings)
    assert (label != golden["ir_label"]).sum() <= 3


def test_instances():
    golden = load("irn_ins_seg")
    settings, dp = released()["irn_instances"], tensor(golden, "dp")
    np.testing.assert_array_equal(irn_instances.centroids(dp[None], settings["centroid_steps"])[0], golden["centroids"])
    [groups] = irn_instances.clusters(dp[None], settings["centroid_steps"], settings["centroid_strength"])
    np.testing.assert_array_equal(groups, golden["cluster_onehot"])

    size = tuple(golden["image_size_hw"].tolist())
    cam, edge, classes = tensor(golden, "cam"), tensor(golden, "edge")[0], golden["keys"] + 1
    [found] = irn_instances.detect([relations(cam, edge, classes, size, dp)], settings)
    shape = tuple(golden["mask_shape"].tolist())
    masks = np.unpackbits(golden["mask_bits"], count=np.prod(shape)).reshape(shape).astype(bool)
    np.testing.assert_array_equal(found.classes, golden["class_id"] + 1)
    close(found.scores, golden["score"], 1e-3)
    assert (found.masks != masks).sum() <= 3
    assert np.abs(found.masks.sum((1, 2)) - golden["mask_area"]).max() <= 3
