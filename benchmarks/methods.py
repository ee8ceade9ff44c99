"""The methods: images per second of training and localizing, and each fast path against its plain equivalent.

    python benchmarks/methods.py                                          # MobileNetV2, crops of 224, batches of 8, CPU
    python benchmarks/methods.py --device cuda --precision bf16 --paper-sizes
    python benchmarks/methods.py --help

Training is ``fit`` on random images: loader, losses, backward passes and optimizers of all phases, EADER's in turns,
AEFT's with the triplet. Localizing takes the released scales and mirror images of pictures as large as the crop.
``--paper-sizes`` takes the released networks, crops and batches. Fast and plain paths get the same inputs in the same
run, and must agree. On CUDA, ``of peak`` is the share of what a large matrix product reaches in the same precision.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import random
import sys
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wsss.data.transforms import multi_scale
from wsss.localize import scores_of, summed
from wsss.methods import METHODS, Method, acr, aeft, build, eader
from wsss.methods.base import EPS, max_norm, multilabel_soft_margin
from wsss.plan.resolve import method_settings
from wsss.train import fit, make_fabric

C = 20
PAPER_NETWORKS = ("resnet38d", "resnet101", "resnet50", "resnet18", "vgg16")
TOLERANCE = 1e-2  # relative; a GPU's convolutions round to TF32
TURNS = {"eader": {"alternate_steps": [1, 1]}, "aeft": {"triplet_from": 0}}  # so that a few steps show all phases


class Clock:
    """Random samples; notes the time at which each is asked for."""

    def __init__(self, size: int, crop: int):
        self.images = torch.randn(size, 3, crop, crop, generator=torch.Generator().manual_seed(0))
        self.labels, self.times = labels_of(size), []

    def __len__(self) -> int:
        return len(self.images)

    def get(self, index: int, rng: np.random.Generator) -> dict:
        self.times.append(time.perf_counter())
        return {"id": str(index), "image": self.images[index], "labels": self.labels[index]}


def labels_of(size: int) -> Tensor:
    """One or two of the classes per image, ``B×C``."""
    labels, i = torch.zeros(size, C), torch.arange(size)
    labels[i, i % C] = labels[i, i * 7 % 5] = 1
    return labels


def settings(name: str, args: argparse.Namespace, folder: Path) -> dict:
    """A method's released settings at the sizes asked for."""
    config = method_settings(name)
    config["method"] |= TURNS.get(name, {})
    train = config["train"]
    if isinstance(train["batch_size"], dict):  # AEFT's triplet has the last of its sizes
        train["batch_size"] = list(train["batch_size"].values())[-1]
    if not args.paper_sizes:
        _replace(config, args.backbone)
        train["crop"], train["batch_size"] = args.crop, args.batch
        if name == "acr":
            halvings = (args.crop & -args.crop).bit_length() - 1
            config["method"] |= {"unet_depth": min(8, halvings), "unet_width": 16}
    train |= {"precision": args.precision, "workers": 0, "epochs": 1}
    if "ordinary" in config["method"]:
        torch.save(build(settings("cam", args, folder), C).state_dict(), folder / "ordinary.pt")
        config["method"]["ordinary"]["weights"] = str(folder / "ordinary.pt")
    return config


def _replace(config: dict, backbone: str) -> None:
    for value in config.values():
        if isinstance(value, dict):
            _replace(value, backbone)
    if isinstance(config.get("backbone"), dict) and config["backbone"]["name"] in PAPER_NETWORKS:
        config["backbone"] = {"name": backbone, "weights": None}


# ---- images per second


def train_rate(name: str, args: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Images and floating-point operations per second of training; the latter counts products and convolutions."""
    config = settings(name, args, folder)
    size = config["train"]["batch_size"]
    steps = args.warmup + args.steps
    torch.manual_seed(0)
    method, clock = build(config, C), Clock(size, config["train"]["crop"])
    with contextlib.redirect_stderr(io.StringIO()):  # no progress bar between the results
        fit(method, clock, config["train"] | {"steps": steps + 1}, {"seed": 0}, folder / name, args.device)
        seconds = clock.times[steps * size] - clock.times[args.warmup * size]
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            fit(method, clock, config["train"] | {"steps": 2}, {"seed": 1}, folder / f"{name}-flops", args.device)
    return args.steps * size / seconds, counter.get_total_flops() / 2 * args.steps / seconds


def convolution_backward(
    grad, x, weight, _bias, _stride, _pad, _dilation, transposed, _out_pad, _groups, wanted, **_
) -> int:
    """Operations of a convolution's backward pass from its shapes; torch's own count is wrong for depthwise ones."""
    places = (x if transposed else grad)[2:]
    return 2 * x[0] * prod(weight) * prod(places) * sum(wanted[:2])


COUNTED = {torch.ops.aten.convolution_backward: convolution_backward}


def localize_rate(name: str, args: argparse.Namespace, folder: Path) -> float:
    config = settings(name, args, folder)
    fabric, crop = make_fabric(args.device, args.precision), config["train"]["crop"]
    method = build(config, C).to(fabric.device).eval().to(memory_format=torch.channels_last)
    image, label = picture(crop), labels_of(8)[7].numpy()
    inputs = multi_scale(image, config["localize"]["scales"], config["localize"]["flip"], method.backbone.input)
    with fabric.autocast():
        seconds, _ = timed(lambda: scores_of(method, inputs, label, (crop, crop), config["localize"]), args)
    return 1 / seconds


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def timed(function: Callable, args: argparse.Namespace) -> tuple[float, object]:
    """Best seconds of a few runs after one to warm up, and the result."""
    function()
    runs = [once(function, args) for _ in range(args.repeats)]
    return min(seconds for seconds, _ in runs), runs[-1][1]


def once(function: Callable, args: argparse.Namespace) -> tuple[float, object]:
    synchronize(args)
    start = time.perf_counter()
    result = function()
    synchronize(args)
    return time.perf_counter() - start, result


def synchronize(args: argparse.Namespace) -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def matrix_peak(args: argparse.Namespace, n: int = 8192) -> float:
    """Floating-point operations per second of a large product in the precision of the run."""
    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16 if args.precision == "bf16" else torch.float32)
    seconds, _ = timed(lambda: a @ a, args)
    return 2 * n**3 / seconds


# ---- fast paths and their plain equivalents: each returns (fast, plain), functions of the same result


def batch_of(args: argparse.Namespace, crop: int, size: int) -> dict:
    images = torch.randn(size, 3, crop, crop, generator=torch.Generator().manual_seed(1))
    return {"image": images.to(args.device), "labels": labels_of(size).to(args.device)}


def prepared(name: str, args: argparse.Namespace, folder: Path) -> tuple[Method, dict]:
    config = settings(name, args, folder)
    torch.manual_seed(0)
    method = build(config, C).to(args.device, memory_format=torch.channels_last).eval()  # no dropout: same results
    return method, batch_of(args, config["train"]["crop"], config["train"]["batch_size"])


def gradients(network: torch.nn.Module, losses: dict[str, Tensor]) -> list[Tensor]:
    network.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def grad_cam(args, folder):
    """EADER's Grad-CAM in closed form | by differentiating the head."""
    method, batch = prepared("eader", args, folder)
    image, cls = batch["labels"].nonzero(as_tuple=True)
    with torch.no_grad():
        features = method.backbone(batch["image"])["conv6"]
    size = batch["image"].shape[2:]
    return [
        lambda maps=maps: [eader.attention(maps(features, image, cls, method.fc), size)]
        for maps in (eader.gcam, eader.gcam_backward)
    ]


def frozen_ordinary(args, folder):
    """OC-CSE's step with a frozen ordinary classifier | with one that keeps gradients of its weights."""
    method, batch = prepared("occse", args, folder)
    target = batch["labels"].argmax(1)

    def step(learning: bool) -> list[Tensor]:
        method.ordinary.requires_grad_(learning)
        gradients(method, method.terms(batch["image"], batch["labels"], target, 5))
        return [p.grad for p in (*method.backbone.parameters(), method.fc8.weight) if p.grad is not None]

    return lambda: step(False), lambda: step(True)


def waiting_classifier(args, folder):
    """ACR's reconstructor step, the classifier without graph | with it."""
    method, batch = prepared("acr", args, folder)
    images, labels, net = batch["image"], batch["labels"], method.reconstructor
    target, ones = acr.draw_target(labels, torch.Generator(args.device).manual_seed(0)), torch.ones_like(images[:, :1])

    def step(keep: bool) -> list[Tensor]:
        method.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(keep):
            cam = method.classifier(images)[0]
        c_t = acr.class_map(cam, labels, target, images.shape[2:])
        logits, features = net(images)
        weights = method.settings["reconstructor"]
        terms = acr.reconstructor_loss(images, logits, labels, features, net.genUnet, c_t, ones, weights)
        return gradients(net, terms)

    return lambda: step(False), lambda: step(True)


def waiting_reconstructor(args, folder):
    """ACR's classifier step, the reconstructor's weights constant | with gradients of their own."""
    method, batch = prepared("acr", args, folder)
    images, labels, net = batch["image"], batch["labels"], method.reconstructor
    target = acr.draw_target(labels, torch.Generator(args.device).manual_seed(0))

    def step(keep: bool) -> list[Tensor]:
        method.zero_grad(set_to_none=True)
        net.genUnet.requires_grad_(keep)
        with torch.set_grad_enabled(keep):
            features = net.features(net.backbone(images))
        cam, logits = method.classifier(images)
        weights = method.settings["classifier"]
        terms = acr.classifier_loss(images, logits, labels, cam, target, features, net.genUnet, weights)
        return gradients(method.classifier, terms)

    return lambda: step(False), lambda: step(True)


def draw_targets(args, folder):
    """ACR's draw of a class for each of 64 images in one go | image by image.

    The result to agree on is that every drawn class is one of its image's.
    """
    labels = labels_of(64).to(args.device)

    def loop() -> Tensor:
        return torch.tensor([random.choice(row.nonzero().flatten().tolist()) for row in labels], device=args.device)

    return [lambda draw=draw: [labels.gather(1, draw()[:, None])] for draw in (lambda: acr.draw_target(labels), loop)]


def repelled(args, folder):
    """AEFT's L_repel of 32 images, vectorised | pair by pair."""
    generator = torch.Generator().manual_seed(0)
    cam, gpp = (torch.randn(32, C, 40, 40, generator=generator).to(args.device) + 0.5 for _ in range(2))
    labels = labels_of(32).to(args.device)
    torch.manual_seed(0)
    partner, rule = aeft.sample_partner(labels), (0.2, 0.5, 4)

    def pairwise() -> Tensor:
        hinges = []
        for i, j in enumerate(partner.tolist()):
            pooled = []
            for n, below in ((i, rule[0]), (j, 1.0)):
                f = gpp[n] / (gpp[n].abs().amax((1, 2), keepdim=True) + EPS)
                where = max_norm(cam[n : n + 1].relu())[0] * labels[n, :, None, None] < below
                pooled.append((f * where).sum((1, 2)) / (where.sum((1, 2)) + EPS) * labels[n])
            d = (pooled[0] - pooled[1]).square().sum()
            if d < rule[1] and not (labels[i] * labels[j]).any():
                hinges.append(rule[1] - d)
        return torch.stack(hinges).mean() if len(hinges) > rule[2] else cam.new_zeros(())

    return lambda: [aeft.repel(cam, gpp, labels, partner, *rule)], lambda: [pairwise()]


def batched_flip(args, folder):
    """A classifier's inference, mirror images in the batch of their scale | every view alone, resized alone."""
    method, batch = prepared("cam", args, folder)
    side, label = batch["image"].shape[2], labels_of(8)[7].numpy()
    inputs = multi_scale(picture(side), method_settings("cam")["localize"]["scales"], True, "rgb")
    method.shown = {"attention": "cam"}

    def maps(view: Tensor) -> Tensor:
        return summed(method, [view], label, (side, side), "none")

    return (
        lambda: [sum(maps(x) for x in inputs)],
        lambda: [sum(maps(x[:1]) + maps(x[1:]).flip(2) for x in inputs)],
    )


def channels_last(args, folder):
    """A classifier's gradient with weights and images channels-last | contiguous."""
    method, batch = prepared("cam", args, folder)
    last, contiguous = method, copy.deepcopy(method).to(memory_format=torch.contiguous_format)

    def step(network: Method, layout: torch.memory_format) -> list[Tensor]:
        images = batch["image"].to(memory_format=layout)
        logits = network.logits(network.backbone(images)["conv6"])
        return gradients(network, {"cls": multilabel_soft_margin(logits, batch["labels"])})

    return (lambda: step(last, torch.channels_last)), (lambda: step(contiguous, torch.contiguous_format))


PATHS = (
    grad_cam,
    frozen_ordinary,
    waiting_classifier,
    waiting_reconstructor,
    draw_targets,
    repelled,
    batched_flip,
    channels_last,
)


def compare(path: Callable, args: argparse.Namespace, folder: Path) -> tuple[str, float, float, float]:
    """What is compared, both times, and the largest difference of the results relative to their size."""
    fast, plain = path(args, folder)
    result, expected = ([value.detach().clone() for value in function()] for function in (fast, plain))
    runs = [(once(fast, args)[0], once(plain, args)[0]) for _ in range(args.repeats)]  # in turns: other work hits both
    ours, theirs = map(min, zip(*runs, strict=True))
    what = path.__doc__.splitlines()[0].removesuffix(".")
    difference = max(float((a - b).norm() / (b.norm() + EPS)) for a, b in zip(result, expected, strict=True))
    if not difference < TOLERANCE or not any(b.any() for b in expected):
        sys.exit(f"{what}: the results differ by {difference:.0e} of their size, or are all zero")
    return what, ours, theirs, difference


# ---- the report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--paper-sizes", action="store_true", help="released networks, crops and batches")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--warmup", type=int, help="steps before those that are measured; CUDA: a multiple of 10")
    parser.add_argument("--steps", type=int, help="measured; CUDA: a multiple of 10, where the loop waits for the GPU")
    parser.add_argument("--repeats", type=int, default=3, help="of everything that is no training; the best counts")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.warmup = args.warmup or (10 if args.device == "cuda" else 2)
    args.steps = args.steps or (20 if args.device == "cuda" else 4)
    peak = matrix_peak(args) if args.device == "cuda" else None
    rows, comparisons = [], []
    with tempfile.TemporaryDirectory() as name:
        for method in args.methods:
            rate, flops = train_rate(method, args, Path(name))
            share = f"{flops / peak:.0%}" if peak else "-"
            rows.append((method, rate, localize_rate(method, args, Path(name)), flops / 1e12, share))
            print(f"{method}: trains {rate:.2f} images/s, localizes {rows[-1][2]:.2f}; {share} of peak", flush=True)
        for path in PATHS:
            comparisons.append(compare(path, args, Path(name)))
            what, ours, theirs, difference = comparisons[-1]
            print(f"{what}: {theirs / ours:.2f} times as fast, results within {difference:.0e}", flush=True)
    print("\n| method | training images/s | localizing images/s | training TFLOP/s | of peak |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for method, rate, shown, tera, share in rows:
        print(f"| {method} | {rate:.2f} | {shown:.2f} | {tera:.3f} | {share} |")
    print("\n| fast path \\| plain | fast, s | plain, s | ratio | difference |\n| --- | ---: | ---: | ---: | ---: |")
    for what, ours, theirs, difference in comparisons:
        what = what.replace(" | ", " \\| ")
        print(f"| {what} | {ours:.4f} | {theirs:.4f} | {theirs / ours:.2f} | {difference:.0e} |")


if __name__ == "__main__":
    main()
