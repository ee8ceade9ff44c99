"""Dense CRF of two background exponents: shared lattices and a process pool against one plain call after the other.

    python benchmarks/crf.py             # 16 images of 375×500, alphas 4 and 24, two processes
    python benchmarks/crf.py --help

The plain calls are those of the releases: per image and alpha, build the CRF, run it, save the float32 result.
Both sides read the same images and score shard, and write all results, each in a fresh process. The printed memory is
the peak of that process, or of the largest process of our pool if that is larger. The last line is
``ratio <plain time / ours>``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax

from wsss.data.index import Dataset, Record
from wsss.job import Given
from wsss.run_shards import run_shards
from wsss.stages import STAGES
from wsss.stores import Scores, write_scores

SETTINGS = {
    "alphas": [4, 24],
    "gaussian": {"sxy": 3, "compat": 3},
    "bilateral": {"sxy": 80, "srgb": 13, "compat": 10},
    "iterations": 10,
}


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth colours, edges and noise: ``height×width×3`` uint8."""
    coarse = rng.integers(0, 256, (height // 32, width // 32, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image[height // 4 : -height // 4, width // 4 : -width // 4] = rng.integers(0, 256, 3)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def make(folder: Path, images: int, height: int, width: int, classes: int) -> tuple[Dataset, Path]:
    """A data set of drawn images and the score shard of their classes."""
    rng, records = np.random.default_rng(0), []
    names = [f"class{c}" for c in range(classes)]
    with write_scores(folder / "scores.npz") as store:
        for n in range(images):
            Image.fromarray(photograph(rng, height, width)).save(folder / f"{n:02}.png")
            coarse = [Image.fromarray(rng.random((12, 16), np.float32)) for _ in names]
            store.put(
                f"{n:02}", range(1, classes + 1), np.stack([np.asarray(c.resize((width, height))) for c in coarse])
            )
            records.append(Record(f"{n:02}", f"{n:02}.png", None, (), tuple(names), width, height, "", None))
    return Dataset("benchmark", names, folder, records), folder / "scores.npz"


def plain(dataset: Dataset, shard: Path, folder: Path) -> None:
    """What the releases do."""
    scores = Scores([shard])
    for image_id in dataset.ids:
        image, (_, maps) = dataset.image(image_id), scores.get(image_id)
        for alpha in SETTINGS["alphas"]:
            planes = np.concatenate([np.power(1 - maps.max(0, keepdims=True), alpha), maps])
            crf = DenseCRF2D(*image.shape[1::-1], len(planes))
            crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(planes)))
            crf.addPairwiseGaussian(**SETTINGS["gaussian"])
            crf.addPairwiseBilateral(**SETTINGS["bilateral"], rgbim=np.copy(image))
            q = np.array(crf.inference(SETTINGS["iterations"]), np.float32).reshape(planes.shape)
            np.save(folder / f"{image_id}@{alpha}.npy", q)


def largest_difference(ids: list[str], folder: Path, out: Path) -> float:
    results = Scores([out])
    keys = [f"{image_id}@{alpha}" for image_id in ids for alpha in SETTINGS["alphas"]]
    return max(float(np.abs(results.get(key)[1] - np.load(folder / f"{key}.npy")).max()) for key in keys)


def measured(function) -> tuple[float, float, float]:
    """Seconds on the wall and of all processors, and MiB of the largest process, of ``function`` in a fork."""
    mine, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_measure, args=(function, theirs))
    process.start()
    result = mine.recv()
    process.join()
    return result


def _measure(function, pipe) -> None:
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    pipe.send((seconds, cpu, max(usage.ru_maxrss for usage in used) / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, shard = make(folder, args.images, args.height, args.width, args.classes)
        theirs, their_cpu, their_peak = measured(lambda: plain(dataset, shard, folder))
        given = Given({"crf": SETTINGS}, dataset, dataset, scores=(str(shard),), workers=args.workers)
        ours, our_cpu, our_peak = measured(lambda: run_shards(STAGES["crf"], given, folder / "crf.npz"))
        difference = largest_difference(dataset.ids, folder, folder / "crf.npz")
        print(f"{args.images} images of {args.height}×{args.width} with {args.classes} classes")
        print(f"plain calls  {theirs:7.2f} s  {their_cpu:7.2f} CPU s  {their_peak:6.0f} MiB")
        print(f"{args.workers} processes  {ours:7.2f} s  {our_cpu:7.2f} CPU s  {our_peak:6.0f} MiB each at most")
        print(f"float16 results within {difference:.1e} of the plain float32 ones")
        print(f"ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
