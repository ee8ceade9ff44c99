"""The methods: images per second of training and localizing, and each fast path against its plain equivalent.

    python benchmarks/methods.py                                          # MobileNetV2, crops of 224, batches of 8, CPU
    python benchmarks/methods.py --device cuda --precision bf16 --paper-sizes
    python benchmarks/methods.py --help

Training is ``fit`` on random images: loader, losses, backward passes and optimizers of all phases, EADER's in turns,
AEFT's with the triplet. Localizing takes the released scales and mirror images of pictures as large as the crop.
``--paper-sizes`` takes the released networks, crops and batches. Fast and plain paths get the same inputs in the same
run, and must agree. On CUDA, ``of peak`` is the share of what a large matrix product reaches in the same precision.
The last line is ``ratio <geometric mean over the fast paths of plain time / ours>``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from paths import PATHS, C, labels_of, picture, settings
from torch.utils.flop_counter import FlopCounterMode

from wsss.cam import scores_of
from wsss.data.transforms import multi_scale
from wsss.methods import METHODS, build
from wsss.methods.base import EPS
from wsss.train import Training, fit, make_fabric

TOLERANCE = 1e-2  # relative; a GPU's convolutions round to TF32


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


# ---- images per second


def train_rate(name: str, args: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Images and floating-point operations per second of training; the latter counts products and convolutions."""
    config = settings(name, args, folder)
    size = config["train"]["batch_size"]
    steps = args.warmup + args.steps
    torch.manual_seed(0)
    method, clock = build(config, C), Clock(size, config["train"]["crop"])
    with contextlib.redirect_stderr(io.StringIO()):  # no progress bar between the results
        longer = config["train"] | {"steps": steps + 1}
        fit(Training(method, clock, longer), {"seed": 0}, folder / name, args.device)
        seconds = clock.times[steps * size] - clock.times[args.warmup * size]
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            shorter = config["train"] | {"steps": 2}
            fit(Training(method, clock, shorter), {"seed": 1}, folder / f"{name}-flops", args.device)
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
    inputs = multi_scale(image, config["cam"]["scales"], config["cam"]["flip"], method.backbone.input)
    with fabric.autocast():
        seconds, _ = timed(lambda: scores_of(method, inputs, label, (crop, crop), config["cam"]), args)
    return 1 / seconds


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


# ---- fast paths


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
    print(f"ratio {np.exp(np.mean([np.log(theirs / ours) for _, ours, theirs, _ in comparisons])):.2f}")


if __name__ == "__main__":
    main()
