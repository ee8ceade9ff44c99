"""Random walk: sparse Chebyshev products against the releases' squarings of a dense matrix, on the same inputs.

    python benchmarks/walk.py            # 47×63 cells (a 375×500 image at stride 8), 256 steps, CPU
    python benchmarks/walk.py --help

Prints times and memory peaks of both; the last line is ``ratio <dense time / ours>``. With a CUDA device, 100 images of
94×125 cells (stride 4) in one batch as well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from wsss.refine.affinity_net import pair_affinity
from wsss.refine.paths import at, half_disc
from wsss.refine.walk import random_walk

RADIUS, BETA = 5, 8


def dense_walk(scores: Tensor, affinity: Tensor, radius: int, beta: float, log_steps: int) -> Tensor:
    """What the releases do for one image: ``K×h×w`` scores, ``P×h'×w'`` affinities, an ``n×n`` matrix, float32."""
    K, h, w = scores.shape
    cells = torch.arange(h * w, device=scores.device).view(h, w)
    source = at(cells, (0, 0), radius).flatten()
    i = torch.cat([source for _ in half_disc(radius)])
    j = torch.cat([at(cells, offset, radius).flatten() for offset in half_disc(radius)])
    everyone = cells.flatten()
    indices = torch.stack([torch.cat([i, j, everyone]), torch.cat([j, i, everyone])])
    values = torch.cat([affinity.flatten(), affinity.flatten(), torch.ones_like(everyone, dtype=affinity.dtype)])
    matrix = torch.sparse_coo_tensor(indices, values, (h * w, h * w), check_invariants=False).to_dense() ** beta
    matrix = matrix / matrix.sum(0, keepdim=True)
    for _ in range(log_steps):
        matrix = matrix @ matrix
    return (scores.flatten(1) @ matrix).view(K, h, w)


def inputs(images: int, h: int, w: int, planes: int, device: str) -> tuple[Tensor, Tensor]:
    """Random smooth score planes and affinities of random features, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(images, planes, -(-h // 8), -(-w // 8), generator=generator)
    features = torch.randn(images, 16, -(-h // 4), -(-w // 4), generator=generator)
    resize = {"size": (h, w), "mode": "bilinear", "align_corners": False}
    scores, features = (torch.nn.functional.interpolate(x, **resize).to(device) for x in (coarse, features))
    return scores, torch.cat([pair_affinity(f, RADIUS) for f in features.split(1)])


def timed(function, repeats: int, device: str) -> tuple[float, Tensor]:
    """Best time in seconds, and the result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best, result


def peak(walk: Callable, args: argparse.Namespace) -> float:
    """MiB that one walk adds to the resident memory of a process of its own."""
    mine, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_grown, args=(walk, args, theirs))
    process.start()
    grown = mine.recv()
    process.join()
    return grown


def _grown(walk: Callable, args: argparse.Namespace, pipe) -> None:
    given = inputs(1, args.height, args.width, args.planes, "cpu")
    start = resident()
    walk(*given, args)
    pipe.send(resident() - start)


def resident() -> float:
    """Most MiB of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_release(scores: Tensor, affinity: Tensor, args: argparse.Namespace) -> Tensor:
    return dense_walk(scores[0], affinity[0], RADIUS, BETA, args.log_steps)


def of_ours(scores: Tensor, affinity: Tensor, args: argparse.Namespace) -> Tensor:
    return random_walk(scores, affinity, RADIUS, BETA, args.log_steps)[0]


def compare(args: argparse.Namespace) -> float:
    memory = {walk: peak(walk, args) for walk in (of_release, of_ours)}  # first: a child inherits its parent's peak
    given = inputs(1, args.height, args.width, args.planes, "cpu")
    ours, sparse = timed(lambda: of_ours(*given, args), 5, "cpu")
    theirs, dense = timed(lambda: of_release(*given, args), 2, "cpu")
    same = (sparse.argmax(0) == dense.argmax(0)).float().mean()
    work = f"{args.height}×{args.width} cells, {args.planes} planes, 2^{args.log_steps} steps"
    print(f"{work}, CPU, {args.threads} thread(s)")
    print(f"dense  {theirs:8.3f} s   {memory[of_release]:8.1f} MiB")
    print(f"ours   {ours:8.3f} s   {memory[of_ours]:8.1f} MiB")
    print(f"same argmax {same:.2%}, largest difference {(sparse - dense).abs().max():.1e} of {dense.max():.2f}")
    return theirs / ours


def on_gpu(args: argparse.Namespace, images: int = 100, h: int = 94, w: int = 125) -> None:
    scores, affinity = inputs(images, h, w, args.planes, "cuda")
    settings = (RADIUS, BETA, args.log_steps)
    random_walk(scores[:1], affinity[:1], *settings)  # loads the kernels
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ours, sparse = timed(lambda: random_walk(scores, affinity, *settings), 3, "cuda")
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20
    theirs, dense = timed(lambda: dense_walk(scores[0], affinity[0], *settings), 2, "cuda")
    same = (sparse[0].argmax(0) == dense.argmax(0)).float().mean()
    print(f"{images} images of {h}×{w} cells, {torch.cuda.get_device_name()}")
    print(f"dense  {theirs * images:8.3f} s   (one image, times {images})")
    print(f"ours   {ours:8.3f} s   {memory:8.1f} MiB   same argmax {same:.2%} on the first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=47, help="cells")
    parser.add_argument("--width", type=int, default=63, help="cells")
    parser.add_argument("--planes", type=int, default=4, help="background and classes")
    parser.add_argument("--log_steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of both sides; 1 is what a job of the workflow has")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ratio = compare(args)
    if torch.cuda.is_available():
        on_gpu(args)
    print(f"ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
