"""Refinement of scores: pixel-adaptive refinement against the dense CRF, on the same images and scores.

    python benchmarks/pamr.py            # 8 images of 375×500 with 3 classes, alphas 4 and 24, one thread each
    python benchmarks/pamr.py --help

Prints the time per image and the memory that each adds to a process of its own. The last line is
``ratio <CRF time / PAMR time>``. With a CUDA device, the time of PAMR on it as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from crf import SETTINGS as CRF
from crf import measured, photograph
from PIL import Image

from wsss.refine.crf import dense_crf, unary_from_scores, with_background
from wsss.refine.pamr import refined_scores

PAMR = {"alphas": CRF["alphas"], "iterations": 10, "dilations": [1, 2, 4, 8, 12, 24]}


def inputs(args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw images ``H×W×3`` uint8 and smooth scores ``C×H×W`` float32, the same in every process."""
    rng = np.random.default_rng(0)
    return [(photograph(rng, args.height, args.width), smooth_scores(rng, args)) for _ in range(args.images)]


def smooth_scores(rng: np.random.Generator, args: argparse.Namespace) -> np.ndarray:
    """Enlarge one coarse map of random scores per class: ``C×H×W`` in [0, 1]."""
    coarse = [Image.fromarray(rng.random((12, 16), np.float32)) for _ in range(args.classes)]
    return np.stack([np.asarray(plane.resize((args.width, args.height))) for plane in coarse]).clip(0, 1)


def by_crf(image: np.ndarray, scores: np.ndarray) -> None:
    dense_crf(image, [unary_from_scores(with_background(scores, alpha)) for alpha in CRF["alphas"]], CRF)


def by_pamr(image: np.ndarray, scores: np.ndarray, device: str = "cpu") -> None:
    refined_scores([image], [scores], PAMR, torch.device(device))


def every(refine: Callable[[np.ndarray, np.ndarray], None], given: list[tuple[np.ndarray, np.ndarray]]) -> None:
    torch.set_num_threads(1)
    for image, scores in given:
        refine(image, scores)


def on_gpu(given: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Print the time per image and the memory of PAMR on a GPU."""
    by_pamr(*given[0], device="cuda")  # loads the kernels
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for image, scores in given:
        by_pamr(image, scores, device="cuda")
    seconds = (time.perf_counter() - start) / len(given)
    memory = torch.cuda.max_memory_allocated() / 2**20
    print(f"PAMR  {seconds:7.3f} s  {memory:6.0f} MiB, {torch.cuda.get_device_name()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--classes", type=int, default=3)
    args = parser.parse_args()
    given = inputs(args)
    *_, empty = measured(lambda: None)  # what a process has before it starts
    crf, _, crf_peak = measured(lambda: every(by_crf, given))
    pamr, _, pamr_peak = measured(lambda: every(by_pamr, given))
    print(f"{args.images} images of {args.height}×{args.width} with {args.classes} classes, one thread; per image")
    print(f"CRF   {crf / args.images:7.3f} s  {crf_peak - empty:6.0f} MiB")
    print(f"PAMR  {pamr / args.images:7.3f} s  {pamr_peak - empty:6.0f} MiB")
    if torch.cuda.is_available():
        on_gpu(given)
    print(f"ratio {crf / pamr:.2f}")


if __name__ == "__main__":
    main()
