"""The threshold sweep in one pass against the plain one: an argmax over all classes and class counts per threshold.

    python benchmarks/sweep.py            # 200 images of 375×500
    python benchmarks/sweep.py --help

Both count the same images at the same 60 thresholds in the same process on one core, one after the other per image; the
counts must be equal. The last line is ``ratio <plain time / ours>``.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from wsss.measure.counts import Counts, Sweep, threshold_grid

CLASSES, PRESENT = 21, 2  # an image of VOC has 1.6 classes on average
THRESHOLDS = threshold_grid(0.0, 0.6, 0.01)


def example(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label values, smooth score maps with maximum 1, and ground truth with ignored pixels."""
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.choice(np.arange(1, CLASSES), PRESENT, replace=False))
    cells = rng.uniform(size=(PRESENT, *(-(-side // 8) for side in size))).astype(np.float32)
    scores = cells.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]
    scores = scores * rng.uniform(0.8, 1, scores.shape).astype(np.float32)
    truth = np.concatenate([[0, 255], classes])[(scores > 0.7).argmax(0) + 2 * (scores.max(0) > 0.75)]
    return classes, scores / scores.max((1, 2), keepdims=True), truth.astype(np.uint8)


def plain(image: tuple) -> Counts:
    """What the released scripts do, once their files are read."""
    classes, scores, truth = image
    valid = truth < 255
    full = np.zeros((CLASSES, *truth.shape), np.float32)
    full[classes] = scores
    rows = np.zeros((3, len(THRESHOLDS), CLASSES), np.int64)
    for i, threshold in enumerate(THRESHOLDS):
        full[0] = threshold
        predicted = full.argmax(0)
        hit = (predicted == truth) & valid
        for c in range(CLASSES):
            rows[:, i, c] = ((truth == c) & hit).sum(), ((predicted == c) & valid).sum(), ((truth == c) & valid).sum()
    return Counts(*rows)


def ours(image: tuple) -> Counts:
    sweep = Sweep(THRESHOLDS, CLASSES)
    sweep.add(*image)
    return sweep.counts()


def peak(function: Callable, image: tuple) -> float:
    """Most memory that one image takes beyond its own arrays, in MB."""
    tracemalloc.start()
    function(image)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    args = parser.parse_args()
    size = args.height, args.width
    seconds = {ours: 0.0, plain: 0.0}
    for seed in range(args.images):
        image, results = example(seed, size), []
        for function in seconds:
            start = time.perf_counter()
            results.append(function(image))
            seconds[function] += time.perf_counter() - start
        for a, b in zip(*(vars(counts).values() for counts in results), strict=True):
            np.testing.assert_array_equal(a, b)
    print(f"{args.images} images of {args.height}×{args.width}, {len(THRESHOLDS)} thresholds; counts are equal")
    for function, taken in seconds.items():
        memory = peak(function, example(0, size))
        print(f"{function.__name__:5}  {1e3 * taken / args.images:8.1f} ms per image  peak {memory:.1f} MB")
    print(f"ratio {seconds[plain] / seconds[ours]:.1f}")


if __name__ == "__main__":
    main()
