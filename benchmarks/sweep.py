"""The threshold sweep in one pass against the plain one: an argmax over all classes and class counts per threshold.

    python benchmarks/sweep.py [images] [images for the plain method]

Both count at the same 60 thresholds in the same process on one core. The plain method takes seconds per image, so by
default it sees the first 20 of 200 images; there the counts must be equal.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from wsss.measure.counts import Counts, Sweep, threshold_grid

CLASSES, SIZE, PRESENT = 21, (375, 500), 2  # an image of VOC has 1.6 classes on average
THRESHOLDS = threshold_grid(0.0, 0.6, 0.01)


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label values, smooth score maps with maximum 1, and ground truth with ignored pixels."""
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.choice(np.arange(1, CLASSES), PRESENT, replace=False))
    cells = rng.uniform(size=(PRESENT, *(-(-side // 8) for side in SIZE))).astype(np.float32)
    scores = cells.repeat(8, 1).repeat(8, 2)[:, : SIZE[0], : SIZE[1]]
    scores = scores * rng.uniform(0.8, 1, scores.shape).astype(np.float32)
    truth = np.concatenate([[0, 255], classes])[(scores > 0.7).argmax(0) + 2 * (scores.max(0) > 0.75)]
    return classes, scores / scores.max((1, 2), keepdims=True), truth.astype(np.uint8)


def plain(image: tuple) -> Counts:
    """What the released scripts do, once their files are read."""
    classes, scores, truth = image
    valid = truth < 255
    full = np.zeros((CLASSES, *SIZE), np.float32)
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


def main(images: int, plain_images: int) -> None:
    seconds, number = {ours: 0.0, plain: 0.0}, {ours: images, plain: plain_images}
    for seed in range(images):
        image, results = example(seed), []
        for function in (function for function in seconds if seed < number[function]):
            start = time.perf_counter()
            results.append(function(image))
            seconds[function] += time.perf_counter() - start
        for a, b in zip(vars(results[0]).values(), vars(results[-1]).values(), strict=True):
            np.testing.assert_array_equal(a, b)
    print(f"images of {SIZE[0]}x{SIZE[1]}, {len(THRESHOLDS)} thresholds; counts of the first {plain_images} are equal")
    for function, taken in seconds.items():
        each, memory = 1e3 * taken / number[function], peak(function, example(0))
        print(f"{function.__name__:5}  {number[function]:4} images  {each:8.1f} ms each  peak {memory:.1f} MB")
    print(f"ratio {seconds[plain] / plain_images / (seconds[ours] / images):.1f}")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [200, 20][len(given) :]))
