"""AEFT against the numbers of its released code: losses on given tensors, pooling layer, one step of each phase."""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import kaist_weights, load
from kaist import (
    GRADIENT,
    NETWORK,
    UNIT,
    check_groups,
    close,
    close_each,
    named_params,
    network_input,
    norms,
    statistics,
    sub,
    update_norms,
)

from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.methods.aeft import (
    Aeft,
    Output,
    classification_loss,
    foreground,
    mask_soft,
    pyramid,
    repel,
    seen_by_classification,
    triplet_losses,
)
from wsss.methods.base import max_norm
from wsss.plan.resolve import method_settings
from wsss.schedule import Schedule

RELEASED = method_settings("aeft")
SEEN = seen_by_classification(RELEASED["method"], RELEASED["train"])  # images of L_cls
TERMS = {"cls": "cls", "attract": "attract", "repel": "repulse"}  # ours -> golden


def runs(golden: dict) -> list[str]:
    return [key.removesuffix("_margin") for key in golden if key.endswith("_margin")]


def settings_of(golden: dict, run: str) -> dict:
    """The released settings with those of one golden run on top."""
    settings = method_settings("aeft")["method"]
    weights = dict(zip(("cls", "attract", "repel"), map(float, golden[f"{run}_weights"]), strict=True))
    above, below = golden.get(f"{run}_thresholds", golden.get("TH"))
    return settings | {
        "loss_weights": weights,
        "margin": float(golden[f"{run}_margin"]),
        "erase_above": float(above),
        "repel_below": float(below),
    }


def check_losses(terms: dict, golden: dict, run: str, relative: float) -> None:
    for ours, theirs in TERMS.items():
        value = terms.get(ours, torch.zeros(()))
        close_each([value], golden[f"{run}_loss_{theirs}"], f"{run} {ours}", relative)
    close_each([sum(terms.values())], golden[f"{run}_loss_total"], f"{run} total", relative)


def pooled(gpp: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.relu(gpp).mean((2, 3)) * labels


# ---- given tensors


@pytest.fixture(scope="module")
def unit() -> dict:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in load("aeft_unit").items()}


def unit_losses(unit: dict, run: str) -> SimpleNamespace:
    """The weighted losses of a run, and the tensors they depend on."""
    cam, gpp, logits = (unit[key].clone().requires_grad_() for key in ("cam", "gpp", "logits"))
    kernel = unit["second_conv_weight"].clone().requires_grad_()
    settings, seen = settings_of(unit, run), []

    def second(images):
        seen.append(Output(None, torch.conv2d(images, kernel, stride=kernel.shape[2:]), None))
        return seen[-1]

    labels = unit["label"]
    terms = {"cls": classification_loss(logits, labels, settings, SEEN)}
    if run != "p1":
        terms |= triplet_losses(Output(cam, gpp, logits), unit["images"], labels, unit["n_idx"], second, settings)
    return SimpleNamespace(**locals())


def test_unit_positive_mask_and_pooled_vectors(unit):
    settings = settings_of(unit, "p2")
    fg = foreground(unit["cam"], unit["label"], unit["images"].shape[2:])
    mask = mask_soft(fg, settings["erase_above"])
    close(sub(mask, unit["mask_step"], unit["mask_offset"]), unit["mask_pos"], "positive mask", UNIT)
    close(pooled(unit["gpp"], unit["label"]), unit["anchor"], "anchor", UNIT)
    p2 = unit_losses(unit, "p2")
    close(pooled(p2.seen[0].gpp, unit["label"]), unit["positive"], "positive", UNIT)


def distance(cam: torch.Tensor, gpp: torch.Tensor, labels: torch.Tensor, threshold: float) -> torch.Tensor:
    """d of two images, the second as the first one's negative: the loss of one pair below the margin is margin - d."""
    partner, margin = torch.tensor([1, 1]), 100.0
    loss = repel(cam.double(), gpp.double(), labels.double(), partner, threshold, margin, 0)
    pairs = 1 if labels[1].any() else 2  # an image without class is a pair with itself, of distance 0
    return pairs * (margin - loss)


def distances(cam: torch.Tensor, gpp: torch.Tensor, labels: torch.Tensor, partner, threshold: float) -> torch.Tensor:
    pairs = ([i, int(j)] for i, j in enumerate(partner))
    return torch.stack([distance(cam[pair], gpp[pair], labels[pair], threshold) for pair in pairs])


def test_unit_distances(unit):
    settings = settings_of(unit, "p2")
    ours = distances(*(unit[key] for key in ("cam", "gpp", "label", "n_idx")), settings["repel_below"])
    close(ours, unit["distance"], "distances", UNIT)
    for run in runs(unit):
        if f"{run}_hard_index" in unit:
            settings = settings_of(unit, run)
            ours = distances(*(unit[key] for key in ("cam", "gpp", "label", "n_idx")), settings["repel_below"])
            assert (ours < settings["margin"]).nonzero().flatten().tolist() == unit[f"{run}_hard_index"].tolist()


def test_unit_losses_and_gradients(unit):
    for run in runs(unit):
        result = unit_losses(unit, run)
        check_losses(result.terms, unit, run, UNIT)
        sum(result.terms.values()).backward()
        for name in ("cam", "gpp", "logits"):
            gradient, expected = getattr(result, name).grad, unit[f"{run}_grad_{name}"]
            if expected.shape == (1,):
                assert gradient is None
            else:
                close(gradient, expected, f"{run} gradient of {name}", UNIT)
        if f"{run}_grad_second_conv_weight" in unit:
            close(result.kernel.grad, unit[f"{run}_grad_second_conv_weight"], f"{run} second network", UNIT)


# ---- the network


@pytest.fixture(scope="module")
def method() -> Aeft:
    golden = load("aeft_gpp")
    method = Aeft(method_settings("aeft"), golden["cam"].shape[1])
    state = kaist_weights("aeft/net_main(Net_gpp)", "", float(golden["gain"]))
    report = load_official(method, state, KINDS["aeft"], "documented weights")
    assert (report.missing, report.unexpected) == ([], [])
    return method.eval()


@torch.no_grad()
def test_gated_pyramid_pooling(method):
    golden = load("aeft_gpp")
    images = network_input(golden["images_u8"])
    close(statistics(images), golden["input_stats"], "input", 1e-6)
    attention = {}
    for name in ("gconv1.att_p", "gconv3.att_n"):
        hook = lambda module, args, out, name=name: attention.__setitem__(name, out)  # noqa: E731
        method.get_submodule(name).register_forward_hook(hook)
    cam, gpp, logits = method(images)
    close(cam, golden["cam"], "cam", NETWORK)
    close(gpp, golden["gpp"], "gpp", NETWORK)
    close(logits, golden["logits"], "logits", NETWORK)
    close(attention["gconv1.att_p"], golden["att_p_gate1"], "first gate, positive", NETWORK)
    close(attention["gconv3.att_n"], golden["att_n_gate3"], "third gate, negative", NETWORK)
    levels = pyramid(torch.from_numpy(golden["cam"]), method.levels)
    two = method.gconv1(levels[0], levels[1])
    close(two, golden["gate12"], "first gate", UNIT)
    close(method.gconv2(two, levels[2]), golden["gate123"], "second gate", UNIT)


# ---- one step of each phase


class Step:
    """Both passes through the network, and the gradients of the unweighted losses, each computed once."""

    def __init__(self, method: Aeft):
        self.method, self.golden = method, load("aeft_losses")
        self.images = network_input(self.golden["images_u8"])
        self.labels, self.partner = (torch.from_numpy(self.golden[key]) for key in ("label", "n_idx"))
        self.params = named_params(method, self.golden["grad_names"])
        self.anchor = method(self.images)
        self._known: dict[tuple, list] = {}

    @cached_property
    def positive(self) -> tuple[torch.Tensor, Output]:
        """The positive images, which all runs share, and what the network says of them."""
        seen = []
        triplet_losses(
            *self._first, lambda images: seen.append((images, self.method(images))) or seen[0][1], self.unit()
        )
        return seen[0]

    @property
    def _first(self) -> tuple:
        return self.anchor, self.images, self.labels, self.partner

    def unit(self, run: str = "p2") -> dict:
        return settings_of(self.golden, run) | {"loss_weights": dict.fromkeys(TERMS, 1.0)}

    def terms(self, settings: dict) -> dict:
        terms = {"cls": classification_loss(self.anchor.logits, self.labels, settings, self.method.seen)}
        return terms | triplet_losses(*self._first, lambda images: self.positive[1], settings)

    def gradients(self, name: str, run: str) -> list[torch.Tensor]:
        key = (name, float(self.golden[f"{run}_margin"]) if name == "repel" else None)
        if key not in self._known:
            loss = self.terms(self.unit(run))[name]
            self._known[key] = torch.autograd.grad(
                loss, self.params.values(), retain_graph=True, materialize_grads=True
            )
        return self._known[key]


@pytest.fixture(scope="module")
def step(method) -> Step:
    return Step(method)


def test_groups_and_settings(step):
    golden, settings = step.golden, method_settings("aeft")
    check_groups(step.method.parameter_groups("classifier"), golden)
    optimizer, ours = settings["train"]["optimizer"], settings["method"]
    assert [optimizer[key] for key in ("lr", "weight_decay")] == [golden[key] for key in ("lr", "weight_decay")]
    assert optimizer["momentum"] == golden["group_momentum"][0]
    assert list(ours["loss_weights"].values()) == golden["W"].tolist()
    assert [ours["erase_above"], ours["repel_below"], ours["margin"]] == [*golden["TH"], golden["M"]]
    assert ours["triplet_from"] == golden["T"]


def test_poly_schedule_never_finishes():
    golden, settings = load("aeft_losses"), method_settings("aeft")["train"]
    schedule = Schedule(10582, settings)  # images of VOC train_aug
    assert schedule.poly_steps == pytest.approx(float(golden["max_step"]))
    assert schedule.steps == 18 * 1322 + 22 * 330


def test_both_passes(step):
    golden = step.golden
    close(statistics(step.images), golden["input_stats"], "input", 1e-6)
    close(step.anchor.logits, golden["logits"], "logits", NETWORK)
    for name in ("cam", "gpp"):
        ours = sub(getattr(step.anchor, name), golden["gpp_step"], golden["gpp_offset"])
        close(ours, golden[f"{name}_sub"], name, NETWORK)
    close(pooled(step.anchor.gpp, step.labels), golden["anchor"], "anchor", NETWORK)
    close(pooled(step.positive[1].gpp, step.labels), golden["positive"], "positive", NETWORK)
    lowest = step.labels.argmax(1)
    cam_n = max_norm(F.relu(step.anchor.cam))[torch.arange(len(lowest)), lowest]
    close(cam_n, golden["cam_n_present"], "normalised cam", NETWORK)

    fg, threshold = foreground(step.anchor.cam, step.labels, step.images.shape[2:]), float(golden["TH"][0])
    mask, undecided = mask_soft(fg, threshold), (fg - threshold).abs() < NETWORK  # where float32 decides what is erased
    assert undecided.float().mean() < 0.01
    none_kept, all_kept = mask.masked_fill(undecided, 0), fg.where(undecided, mask)
    for i, expected in enumerate(golden["mask_pos_stats"]):
        bounds = np.stack([statistics(none_kept[i]), statistics(all_kept[i])])
        close(expected.clip(bounds.min(0), bounds.max(0)), expected, "positive mask", NETWORK)
    grid = (golden["mask_step"], golden["mask_offset"])
    ours, expected = sub(mask, *grid), torch.from_numpy(golden["mask_pos"])
    close(expected.where(sub(undecided, *grid), ours), expected, "positive mask", NETWORK)


@torch.no_grad()
def test_pairs_of_the_triplet(step):
    """L_repel's distances, hard pairs and vectors, whose entries are distances to an image that has no class."""
    golden, labels, threshold = step.golden, step.labels, float(step.golden["TH"][1])
    cam, gpp = step.anchor.cam.detach(), step.anchor.gpp.detach()
    ours = distances(cam, gpp, labels, golden["n_idx"], threshold)
    close(ours, golden["distance"], "distances", NETWORK)
    for run in runs(golden):
        if f"{run}_hard_index" in golden:
            hard = (ours < float(golden[f"{run}_margin"])).nonzero().flatten()
            assert hard.tolist() == golden[f"{run}_hard_index"].tolist(), run

    hard = golden["p2_hard_index"]
    for images, key in ((hard, "anchor_pos_hard"), (golden["n_idx"][hard], "negative_pos_hard")):
        squares = torch.zeros(golden[key].shape)
        for row, i in enumerate(images.tolist()):
            for c in labels[i].nonzero().flatten().tolist():
                one, none = torch.eye(len(labels[i]))[c], torch.zeros(len(labels[i]))
                pair = [one, none] if key.startswith("anchor") else [none, one]
                squares[row, c] = distance(cam[[i, i]], gpp[[i, i]], torch.stack(pair), threshold)
        close(squares, golden[key] ** 2, key, NETWORK)

    normal = max_norm(F.relu(cam)) * labels[:, :, None, None]
    unsure = ((normal - threshold).abs() < NETWORK).sum((2, 3)).numpy()  # where float32 decides
    area = (normal < threshold).sum((2, 3)).numpy()
    assert (np.abs(area - golden["mask_anchor_area"]) <= unsure).all()


def test_losses_gradients_and_updates(step):
    golden = step.golden
    for run in runs(golden):
        settings = settings_of(golden, run)
        terms = step.terms(settings)
        if run == "p1":
            terms = {"cls": terms["cls"]}
        check_losses(terms, golden, run, NETWORK)
        total = [torch.zeros_like(param) for param in step.params.values()]
        for name, weight in settings["loss_weights"].items():
            if name in terms and terms[name] and weight > 1e-20:  # a weight of 1e-30 is the golden file's zero
                total = [a + weight * g for a, g in zip(total, step.gradients(name, run), strict=True)]
        close_each(norms(total), golden[f"{run}_grad_norms"], f"{run} gradient norms", GRADIENT)
        changes = update_norms(step.method, "classifier", step.params, total, golden)
        close_each(changes, golden[f"{run}_update_norms"], f"{run} update norms", GRADIENT)
