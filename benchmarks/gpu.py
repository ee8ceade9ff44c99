"""What one GPU does: images per second and share of its matrix peak, at the papers' sizes, in under eight minutes.

    python benchmarks/gpu.py                               # results in benchmarks/gpu.json; goes on where it stopped
    python benchmarks/gpu.py --into docs/benchmarks.md     # put them there, too
    python benchmarks/gpu.py --device cpu --sizes small --out gpu.json

The most valuable measurements come first. Each is written as soon as it is made, and none starts after ``--minutes``.
The same command goes on with those that are missing; one that failed is kept with its reason, and tried again.

Training is ``fit`` on images in memory, without decoding: loader, losses, backward passes and optimizers of all phases.
It is measured for the methods, and for AffinityNet and DeepLab, which learn from masks.
Localizing takes the released scales and mirror images of pictures of 500×375. Three precisions: bf16; tf32, which is
PyTorch's default for convolutions in float32; float32, without TF32. The peak is what a product of 8192×8192 matrices
reaches in that precision. The last line is ``ratio <training in bf16 / in the slowest precision that was measured>``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from gpu_report import Row, machine, markdown, put_into, ratio
from methods import COUNTED
from paths import C, labels_of, picture, replace_networks, settings
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from walk import inputs as walk_inputs

from wsss import devices
from wsss.cam import scores_of_each
from wsss.data.transforms import classification_view, multi_scale
from wsss.files import read_json, sha256, write_json
from wsss.loop import LOG_EVERY
from wsss.methods import METHODS, build
from wsss.refine import affinity_net
from wsss.refine.walk import random_walk
from wsss.schedule import Progress
from wsss.segment import presets
from wsss.segment.task import SegmentTask
from wsss.train import Training, fit

PRECISIONS = ("bf16", "tf32", "float32")
BEHIND = ("affinity", "deeplab")  # networks after the classifier; they learn from masks
SMALL = {"backbone": "tiny", "crop": 32, "batch": 2, "height": 30, "width": 40, "cells": (12, 16), "walks": 2}
PAPERS = {"backbone": None, "crop": None, "batch": None, "height": 375, "width": 500, "cells": (94, 125), "walks": 100}


class TimeUp(Exception):
    """A training was measured for long enough."""


class Samples:
    """Images in memory. Notes when each is asked for, and ends a training by an exception.

    Args:
        train: the options of the training.
        stride: pixels per cell of its label maps; None for a classifier, whose images have labels of classes.
        ends: tells from the number of images so far whether the training ends.
    """

    def __init__(self, train: dict, stride: int | None, ends: Callable[[int], bool]):
        size, crop, generator = train["batch_size"], train["crop"], torch.Generator().manual_seed(0)
        self.images = torch.randn(size, 3, crop, crop, generator=generator)
        self.labels, self.ends, self.times = {"labels": labels_of(size)}, ends, []
        if stride:
            coarse = torch.randint(0, C + 1, (size, 1, 4, 4), generator=generator).float()
            side = -(-crop // stride)
            self.labels = {"label": nn.functional.interpolate(coarse, (side, side)).squeeze(1).long()}

    def __len__(self) -> int:
        return len(self.images)

    def get(self, index: int, rng: np.random.Generator) -> dict:
        if self.ends(len(self.times)):
            raise TimeUp
        self.times.append(time.perf_counter())
        label = {key: values[index] for key, values in self.labels.items()}
        return {"id": str(index), "image": self.images[index], **label}


class Bench:
    """The measurements: each a method that returns a row's values.

    Args:
        args: the command line.
        folder: for files of trainings.
    """

    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder, self.cuda = args, folder, args.device == "cuda"
        self.size = argparse.Namespace(**(SMALL if args.sizes == "small" else PAPERS))
        self.where = torch.device(args.device)
        self.deadline = time.monotonic() + 60 * args.minutes
        self.peaks: dict[str, float] = {}
        self.counted: dict[str, float] = {}

    # ---- precisions

    @contextlib.contextmanager
    def precision(self, name: str) -> Iterator[argparse.Namespace]:
        """The arguments of ``paths.settings`` in a precision."""
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = name != "float32"
        ours = "bf16" if name == "bf16" else "float32"
        size = {"backbone": self.size.backbone, "crop": self.size.crop, "batch": self.size.batch}
        yield argparse.Namespace(
            **size, device=self.args.device, precision=ours, paper_sizes=self.args.sizes == "papers"
        )
        torch.backends.cudnn.allow_tf32 = before

    def peak(self, precision: str) -> Row:
        n = 8192 if self.cuda else 256
        a = torch.randn(n, n, device=self.where, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        rate = 2 * n**3 * self.rate(lambda: a @ a)
        torch.backends.cuda.matmul.allow_tf32 = before
        return {"tflops": rate / 1e12}

    def share(self, tflops: float, precision: str) -> float | None:
        """Share of the peak, where that was measured."""
        return tflops / self.peaks[precision] if precision in self.peaks else None

    # ---- training

    def train(self, method: str, precision: str, **how: bool) -> Row:
        rate, config = self.trained(method, precision, **how)
        tflops = rate * self.flops(method, config) / 1e12
        return {"images_s": rate, "tflops": tflops, "share": self.share(tflops, precision)}

    def trained(self, method: str, precision: str, **how: bool) -> tuple[float, dict]:
        """Images per second of ``fit``, between two steps at which it waits for the GPU."""
        with self.precision(precision) as args:
            config = self.settings(method, args)
            torch.manual_seed(0)
            task, train, stride = task_of(method, config)
            size, unit = train["batch_size"], LOG_EVERY if self.cuda else 1
            least, until = 2 * unit * size, 0.0

            def ends(asked: int) -> bool:
                nonlocal until
                if asked == unit * size:  # warm from here on
                    until = time.monotonic() + self.args.seconds
                return asked > least and time.monotonic() > until and asked % (unit * size) == 1

            samples = Samples(train, stride, ends)
            longer = train | {"steps": 5000, "epochs": 1}
            with contextlib.suppress(TimeUp), contextlib.redirect_stderr(io.StringIO()):
                fit(Training(task, samples, longer), {"seed": 0}, self.new(), self.args.device, **how)
        units = (len(samples.times) - 1) // (unit * size)
        seconds = samples.times[units * unit * size] - samples.times[unit * size]
        return (units - 1) * unit * size / seconds, config

    def flops(self, method: str, config: dict) -> float:
        """Floating-point operations of training, per image; they are counted once, over two steps."""
        if method in self.counted:
            return self.counted[method]
        task, train, stride = task_of(method, config)
        samples = Samples(train, stride, lambda asked: False)
        counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
        with counter, contextlib.redirect_stderr(io.StringIO()):
            shorter = train | {"steps": 2, "epochs": 1}
            fit(Training(task, samples, shorter), {"seed": 1}, self.new(), self.args.device)
        self.counted[method] = counter.get_total_flops() / 2 / train["batch_size"]
        return self.counted[method]

    def settings(self, name: str, args: argparse.Namespace) -> dict:
        """The released settings of a method, or of a network after the classifier, at the sizes asked for."""
        if name not in BEHIND:
            return settings(name, args, self.folder)
        config = presets.resolve(settings("cam", args, self.folder))
        train = config[name]["train"] | {"precision": args.precision}
        if not args.paper_sizes:
            replace_networks(config, args.backbone)
            train |= {"crop": 2 * args.crop, "batch_size": args.batch}  # as many cells as a pair needs
        return config | {name: config[name] | {"train": train}}

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    # ---- localizing

    def localize(self, method: str, precision: str, batch: int) -> Row:
        with self.precision(precision) as args:
            config = settings(method, args, self.folder)
            devices.choose_kernels(self.where, deterministic=False, fixed_shapes=False)
            network = devices.placed(build(config, C).eval(), self.where)
            side = (self.size.height, self.size.width)
            image = picture(max(side))[: side[0], : side[1]]
            views = multi_scale(image, config["cam"]["scales"], config["cam"]["flip"], network.backbone.input)
            inputs, labels = [torch.cat([x] * batch) for x in views], labels_of(batch).numpy()

            def once() -> list[np.ndarray]:
                return [found.cpu().numpy() for found in scores_of_each(network, inputs, labels, side, config["cam"])]

            with devices.autocast_on(self.where, args.precision):
                with FlopCounterMode(display=False) as counter:
                    once()
                rate = batch * self.rate(once)
        tflops = rate * counter.get_total_flops() / batch / 1e12
        return {"images_s": rate, "tflops": tflops, "share": self.share(tflops, precision)}

    def rate(self, function: Callable[[], Any]) -> float:
        """Calls per second, after one to warm up."""
        function()
        self.wait()
        start, calls = time.perf_counter(), 0
        while calls < 3 or time.perf_counter() - start < self.args.seconds / 4:
            function()
            calls += 1
            self.wait()
        return calls / (time.perf_counter() - start)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    # ---- what else

    def walk(self) -> Row:
        """The walk of many images, a few at once, as the stage has them."""
        (h, w), images = self.size.cells, self.size.walks
        at_once = min(devices.AT_ONCE[self.args.device], images)
        scores, affinity = walk_inputs(at_once, h, w, 4, self.args.device)
        rate = self.rate(lambda: random_walk(scores, affinity, 5, 8, 8))
        return {"images_s": at_once * rate, "seconds": images / (at_once * rate), "images": images}

    def resume(self, deterministic: bool) -> Row:
        """Whether a training that was stopped and resumed ends in the bytes of one that was not."""
        size = {"backbone": "tiny" if self.args.sizes == "small" else "resnet50", "crop": 64, "batch": 4}
        args = argparse.Namespace(**size, device=self.args.device, precision="float32", paper_sizes=False)
        config = settings("cam", args, self.folder)
        train = config["train"] | {"steps": 6, "epochs": 1}

        def run(out: Path, stop: int) -> Path:
            torch.manual_seed(0)
            samples = Samples(train, None, lambda asked: asked == stop)
            training = Training(build(config, C), samples, train)
            with contextlib.redirect_stderr(io.StringIO()):
                return fit(training, {"seed": 0}, out, self.args.device, 0, 0, deterministic)

        whole, parts = run(self.new(), -1), self.new()
        with contextlib.suppress(TimeUp):
            run(parts, 3 * 4)
        return {"equal": sha256(whole) == sha256(run(parts, -1))}

    def loading(self) -> Row:
        """Images per second that one process decodes and makes inputs of."""
        with self.precision("float32") as args:
            config = settings("cam", args, self.folder)
        packed, rng = io.BytesIO(), np.random.default_rng(0)
        Image.fromarray(picture(self.size.width)[: self.size.height]).save(packed, "jpeg", quality=90)
        view = classification_view(config["train"])

        def decoded() -> np.ndarray:
            return np.asarray(Image.open(packed).convert("RGB"))

        train = self.rate(lambda: view(decoded(), rng))
        scales, flip = config["cam"]["scales"], config["cam"]["flip"]
        return {"images_s": train, "localizing_images_s": self.rate(lambda: multi_scale(decoded(), scales, flip))}

    def ddp(self) -> Row:
        """Two processes on this one device share each batch, and exchange gradients by gloo."""
        with self.precision("bf16") as args:
            config = settings("cam", args, self.folder)
        size, crop = max(config["train"]["batch_size"] // 2, 1), config["train"]["crop"]
        found, store = mp.get_context("spawn").SimpleQueue(), self.new() / "store"
        given = (config, size, crop, self.args, str(store), found)
        mp.spawn(_half, given, nprocs=2)
        seconds = max(found.get(), found.get())
        return {"images_s": 2 * size / seconds}


def task_of(name: str, config: dict) -> tuple[nn.Module, dict, int | None]:
    """Make a task; return it, the options of its training, and the pixels per cell of its label maps, if there are."""
    if name == "affinity":
        net = affinity_net.build(config)
        return net, config["affinity"]["train"], net.stride
    if name == "deeplab":
        return SegmentTask(config["deeplab"], C), config["deeplab"]["train"], 1
    return build(config, C), config["train"], None


class _Summed(nn.Module):
    """The sum of a method's losses, as the forward pass that DDP knows."""

    def __init__(self, method: nn.Module):
        super().__init__()
        self.method = method

    def forward(self, batch: dict) -> torch.Tensor:
        return sum(self.method.losses(batch, self.method.phases[0], Progress(0, 1, 0, 1)).values())


def _half(rank: int, config: dict, size: int, crop: int, args: argparse.Namespace, store: str, found: Any) -> None:
    """Run one of two processes; put its seconds per step into ``found``."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    method = build(config, C).to(args.device, memory_format=torch.channels_last).train()
    model = nn.parallel.DistributedDataParallel(_Summed(method), find_unused_parameters=True)
    images, labels = torch.randn(size, 3, crop, crop), labels_of(size)
    batch = {"id": ["0"] * size, "image": images.to(args.device), "labels": labels.to(args.device)}
    for step in range(9):
        if step == 3:  # warm
            start = time.perf_counter()
        with torch.autocast(args.device, torch.bfloat16):
            loss = model(batch)
        loss.backward()
        if args.device == "cuda":
            torch.cuda.synchronize()
    found.put((time.perf_counter() - start) / 6)
    torch.distributed.destroy_process_group()


# ---- what is measured, in order


def plan(methods: list[str], cuda: bool) -> Iterator[tuple[Row, str, dict[str, Any]]]:
    """Yield (key of the row, name of the measurement, its arguments), the most valuable first."""

    def train(method: str, precision: str, **how: bool) -> tuple[Row, str, dict[str, Any]]:
        key = {"what": "train", "method": method, "precision": precision, "how": " ".join(how)}
        return key, "train", {"method": method, "precision": precision, **how}

    def localize(method: str, precision: str, batch: int) -> tuple[Row, str, dict[str, Any]]:
        given = {"method": method, "precision": precision, "batch": batch}
        return {"what": "localize", **given}, "localize", given

    for precision in PRECISIONS:
        yield {"what": "peak", "precision": precision}, "peak", {"precision": precision}
    for method in (*methods, *BEHIND):
        yield train(method, "bf16")
    yield {"what": "resume", "how": "deterministic"}, "resume", {"deterministic": True}
    for method in methods:
        yield localize(method, "bf16", 4)
    yield {"what": "walk"}, "walk", {}
    first = methods[0]
    yield train(first, "bf16", deterministic=True)
    yield localize(first, "bf16", 1)
    yield {"what": "loading"}, "loading", {}
    for method in (*methods, *BEHIND):
        yield train(method, "tf32")
    yield {"what": "resume", "how": "fast"}, "resume", {"deterministic": False}
    if cuda:
        yield train(first, "bf16", compiled=True)
    yield {"what": "ddp"}, "ddp", {}
    for method in methods:
        yield localize(method, "tf32", 4)
    for method in methods:
        yield train(method, "float32")
        yield localize(method, "float32", 4)
    for name in BEHIND:
        yield train(name, "float32")


def key_of(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("what", "method", "precision", "batch", "how"))


def measure(bench: Bench, found: dict[str, Any], path: Path) -> None:
    """Make the measurements that ``found`` lacks, and write it to ``path`` after each."""
    rows = {key_of(row): row for row in found["rows"]}
    for key, name, given in plan(bench.args.methods, bench.cuda):
        done = rows.get(key_of(key))
        if done is None or "failed" in done:
            if time.monotonic() > bench.deadline:
                print(f"time is up; the same command goes on with {key}", flush=True)
                return
            start = time.monotonic()
            try:
                done = {**key, **getattr(bench, name)(**given)}
            except Exception as error:  # a failure, for example for want of memory, must not cost the others
                done = {**key, "failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            done["took_s"] = round(time.monotonic() - start, 1)
            rows[key_of(key)] = done
            found["rows"] = list(rows.values())
            write_json(path, found)
            print(json.dumps(done), flush=True)
            if bench.cuda:
                torch.cuda.empty_cache()
        if key["what"] == "peak" and "tflops" in done:
            bench.peaks[key["precision"]] = done["tflops"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", choices=("papers", "small"), default="papers")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=7.5, help="no measurement starts later")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a training is measured for")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gpu.json"))
    parser.add_argument("--into", type=Path, help="a document with marks that takes the figures in")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is visible; on a CPU: --device cpu --sizes small")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", devices.CUBLAS)  # before the first product
    found = {"machine": machine(args), "rows": []}
    if args.out.exists():
        before = read_json(args.out)
        found = before if before["machine"] == found["machine"] else found
    with tempfile.TemporaryDirectory() as folder:
        measure(Bench(args, Path(folder)), found, args.out)
    text = markdown(found)
    print(text)
    if args.into:
        put_into(args.into, text)
    print(f"ratio {ratio(found):.2f}")


if __name__ == "__main__":
    main()
