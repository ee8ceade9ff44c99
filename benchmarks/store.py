"""Score shards (float16, deflated) against the releases' files (float32 dictionaries): bytes per image, loss of mIoU.

    python benchmarks/store.py            # 100 drawn images with rough maps of their classes
    python benchmarks/store.py --data results/voc12/data --config results/voc12/seam/seam/seed0/cam/config.yaml \
        --model results/voc12/seam/seam/seed0/train/model.pt --images 100      # CAM scores of real images

Both sides store the same float32 scores. PSA and SEAM save a dictionary of H×W maps per image, IRN maps of full size
and of stride 4. The mIoU is the best of 60 thresholds. The last line is ``ratio <bytes of PSA's files / ours>``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from wsss.data.drawing import BADGES
from wsss.data.index import Dataset
from wsss.data.shapes import scene
from wsss.files import read_yaml
from wsss.measure.counts import Sweep, threshold_grid
from wsss.measure.metrics import miou_of_all
from wsss.stores import IGNORE, Scores, write_scores

THRESHOLDS = threshold_grid(0.0, 0.6, 0.01)


class Scored(NamedTuple):
    """An image's label values ``K``, scores ``K×H×W`` float32 and ground truth ``H×W``."""

    name: str
    classes: np.ndarray
    scores: np.ndarray
    truth: np.ndarray


def rough_maps(truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Label values ``K`` of a mask ``H×W``, and what a CAM might give of them: smooth, of stride 8, maximum 1."""
    classes = np.setdiff1d(truth, (0, IGNORE))
    height, width = truth.shape
    planes = []
    for value in classes:
        blurred = gaussian_filter((truth == value).astype(np.float32), max(height, width) / 24)[4::8, 4::8]
        noisy = np.maximum(blurred + gaussian_filter(rng.standard_normal(blurred.shape), 2), 0)
        planes.append(Image.fromarray(noisy.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    scores = np.array([np.asarray(plane) for plane in planes], np.float32).reshape(len(classes), height, width)
    return classes, scores / (scores.max((1, 2), keepdims=True) + 1e-5)


def drawn(images: int, size: int) -> Iterator[Scored]:
    for seed in range(images):
        rng = np.random.default_rng(seed)
        truth = scene(size, list(BADGES), rng)[1]
        yield Scored(f"{seed:06}", *rough_maps(truth, rng), truth)


def of_model(data: Path, config: dict, model: Path, images: int) -> Iterator[Scored]:
    """Yield CAM scores of every k-th measured image, as ``wsss cam`` computes them, before they are stored."""
    import torch

    from wsss.cam import load_method, multi_scale_cam

    dataset = Dataset.load(data).split(config["dataset"]["splits"]["measured"])
    method = load_method(config, len(dataset.classes), model)
    labels = dataset.labels()
    for n in range(0, len(dataset), max(1, len(dataset) // images)):
        image_id = dataset.ids[n]
        with torch.no_grad():
            scores = multi_scale_cam(method, dataset.image(image_id), labels[n], config["cam"]).numpy()
        yield Scored(image_id, np.flatnonzero(labels[n]) + 1, scores, dataset.mask(image_id))


def save_as_released(folder: Path, found: Scored) -> None:
    """Save what PSA saves (class -> map, classes from 0) and IRN saves (classes, maps of full size and stride 4)."""
    np.save(folder / f"psa_{found.name}.npy", dict(zip((found.classes - 1).tolist(), found.scores, strict=True)))
    maps = {"cam": found.scores[:, ::4, ::4].copy(), "high_res": found.scores}
    np.save(folder / f"irn_{found.name}.npy", {"keys": found.classes - 1, **maps})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=432, help="of drawn images; as many pixels as 375×500")
    parser.add_argument("--data", type=Path, help="folder of an index")
    parser.add_argument("--config", type=Path, help="config.yaml of the stage cam")
    parser.add_argument("--model", type=Path, help="the model.pt it uses")
    args = parser.parse_args()
    source = drawn(args.images, args.size)
    n_classes = len(BADGES)
    if args.data:
        source = of_model(args.data, read_yaml(args.config), args.model, args.images)
        n_classes = len(Dataset.load(args.data).classes)
    full, half = Sweep(THRESHOLDS, n_classes + 1), Sweep(THRESHOLDS, n_classes + 1)
    with tempfile.TemporaryDirectory() as name:
        folder, truths = Path(name), {}
        with write_scores(folder / "ours.npz") as store:
            for found in source:
                store.put(found.name, found.classes, found.scores)
                save_as_released(folder, found)
                full.add(found.classes, found.scores, found.truth)
                truths[found.name] = found.truth
        stored = Scores([folder / "ours.npz"])
        for image_id, truth in truths.items():
            half.add(*stored.get(image_id), truth)
        sizes = {kind: sum(p.stat().st_size for p in folder.glob(f"{kind}*")) for kind in ("psa", "irn", "ours")}
    miou = [100 * miou_of_all(sweep.counts()).max() for sweep in (full, half)]
    print(f"{len(truths)} images, {np.mean([truth.size for truth in truths.values()]) / 1e3:.0f} thousand pixels each")
    for kind, size in sizes.items():
        print(f"{kind:5} {size / len(truths) / 1e3:9.1f} kB per image")
    print(f"mIoU  float32 {miou[0]:.4f}  stored {miou[1]:.4f}  difference {miou[1] - miou[0]:+.5f} points")
    print(f"ratio {sizes['psa'] / sizes['ours']:.2f}")


if __name__ == "__main__":
    main()
