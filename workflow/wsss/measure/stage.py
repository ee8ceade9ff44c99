"""The stage behind every ``metrics.json``; its contents are described in ``docs/architecture.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from wsss.errors import WsssError
from wsss.files import write_json
from wsss.measure.counts import Counts, Sweep, best_class, count, threshold_grid
from wsss.measure.instances import average_precision, true_instances
from wsss.measure.metrics import iou, summary
from wsss.progress import bar
from wsss.stores import IGNORE, Instances, Masks, Scores

SELECTED = "the ground truth of the images it is measured on"  # which is how all five papers choose it
AP_IOU = 0.5  # overlap from which an instance counts as found: AP50 of IRN


def measure_stage(
    config: dict,
    dataset,
    out: str | Path,
    score_paths: Iterable[str | Path] | None = None,
    mask_paths: Iterable[str | Path] | None = None,
    instance_paths: Iterable[str | Path] | None = None,
) -> None:
    """Compare results with the ground truth of all images of ``dataset`` and write ``<stage>_<split>.json``.

    Args:
        config: ``measure``: ``sweep`` (start, stop, step), ``thresholds`` (likewise: those that are candidates for the
            best), ``fixed``, and optionally ``floor`` (EADER's rule) and ``absent`` (zero or skip: what classes that
            occur nowhere do to the mIoU).
        dataset: the images to measure, and no others.
        out: stage and split are taken from its name.
        score_paths: score shards: of foreground classes, swept over thresholds, or of a CRF, under ``<id>@<alpha>``.
        mask_paths: mask shards.
        instance_paths: instance shards. One of the three kinds of shards is given.

    Raises:
        WsssError: an image has no result, no ground truth, or a result of another size; the line names the image.
    """
    stage, _, split = Path(out).stem.rpartition("_")
    if not stage:
        raise WsssError(f"{out}: name it <stage>_<split>.json")
    if sum(paths is not None for paths in (score_paths, mask_paths, instance_paths)) != 1:
        raise WsssError(f"{out}: give either score shards, mask shards or instance shards")
    settings, names = config["measure"], ["background", *dataset.classes]
    if instance_paths is not None:
        found = _measure_instances(dataset, Instances(instance_paths), out)
    elif mask_paths is not None:
        found = _measure_masks(settings, dataset, Masks(mask_paths), out)
    else:
        scores = Scores(score_paths)
        alphas = _alphas(dataset, scores)
        found = (
            _measure_alphas(settings, dataset, scores, alphas, out)
            if alphas
            else _measure_scores(settings, dataset, scores, out)
        )
    write_json(out, {"stage": stage, "split": split, "images": len(dataset), "classes": names, **found})


def _measure_masks(settings: dict, dataset, masks: Masks, out: str | Path) -> dict:
    n, total = len(dataset.classes) + 1, Counts.zeros(len(dataset.classes) + 1)
    for image_id, truth in _truths(dataset, masks, [""], out):
        predicted = masks.get(image_id)
        _check_size(image_id, predicted.shape, truth.shape)
        if predicted.max() >= n:
            raise WsssError(f"mask of image '{image_id}' has the value {predicted.max()}, but there are {n} classes")
        total += count(predicted, truth, n)
    return {"points": {"argmax": _point(total, settings)}}


def _measure_scores(settings: dict, dataset, scores: Scores, out: str | Path) -> dict:
    grid, tried, fixed = threshold_grid(*settings["sweep"]), threshold_grid(*settings["thresholds"]), settings["fixed"]
    thresholds = np.unique([*grid, *tried, fixed])
    sweep = Sweep(thresholds, len(dataset.classes) + 1, settings.get("floor", False))
    for image_id, truth in _truths(dataset, scores, [""], out):
        sweep.add(*_planes(scores, image_id, truth.shape, len(dataset.classes)), truth)
    counts = sweep.counts()
    swept = summary(counts, settings.get("absent", "zero"))

    def at(threshold: float) -> dict:
        i = int(np.searchsorted(thresholds, threshold))
        return {**_point(counts[i], settings), "threshold": float(threshold)}

    def selected(candidates: np.ndarray) -> dict:
        miou = swept["miou"][np.searchsorted(thresholds, candidates)]
        return {**at(candidates[miou.argmax()]), "selected_on": SELECTED}  # the first of equals, as released

    shown = np.searchsorted(thresholds, grid)
    curves = {name: values[shown] for name, values in swept.items()}
    return {
        "points": {"best": selected(tried), "highest": selected(grid), "fixed": at(fixed)},
        "sweep": {"thresholds": grid.tolist(), **_plain(curves), **_plain(vars(counts[shown]))},
    }


def _measure_alphas(settings: dict, dataset, scores: Scores, alphas: list[str], out: str | Path) -> dict:
    n = len(dataset.classes) + 1
    total = {alpha: Counts.zeros(n) for alpha in alphas}
    for image_id, truth in _truths(dataset, scores, [f"@{alpha}" for alpha in alphas], out):
        for alpha in alphas:
            label, _ = best_class(*_planes(scores, f"{image_id}@{alpha}", truth.shape, len(dataset.classes)))
            total[alpha] += count(label, truth, n)
    points = {f"alpha={alpha}": _point(total[alpha], settings) for alpha in alphas}
    best = max(points, key=lambda name: points[name]["miou"])
    return {"points": {**points, "best": {**points[best], "selected": best, "selected_on": SELECTED}}}


def _measure_instances(dataset, found: Instances, out: str | Path) -> dict:
    """AP per class (null for background and classes without objects), its mean, and numbers of detections, objects."""
    detected, true = np.zeros((2, len(dataset.classes) + 1), int)

    def images() -> Iterator[tuple]:
        for image_id, mask in _truths(dataset, found, [""], out):
            detections, objects = found.get(image_id), true_instances(image_id, dataset.instances(image_id), mask)
            _check_size(image_id, detections.masks.shape[1:], mask.shape)
            np.add.at(detected, detections.classes, 1)
            np.add.at(true, objects[0], 1)
            yield detections, objects

    result = average_precision(images(), AP_IOU)
    ap = [result["ap"].get(value, np.nan) for value in range(len(dataset.classes) + 1)]
    numbers = {"ap": ap, "map": result["map"], "detected": detected, "true": true}
    return {"points": {f"iou={AP_IOU}": _plain({name: np.asarray(value) for name, value in numbers.items()})}}


def _point(counts: Counts, settings: dict) -> dict:
    """Metrics and counts at one operating point."""
    return _plain({**summary(counts, settings.get("absent", "zero")), "iou": iou(counts), **vars(counts)})


def _plain(arrays: dict[str, np.ndarray]) -> dict:
    """Numbers and lists for JSON, which has no NaN: a mean over nothing is null."""

    def plain(value):
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return None if value != value else value

    return {name: plain(array.tolist()) for name, array in arrays.items()}


def _alphas(dataset, scores: Scores) -> list[str]:
    """The background exponents of CRF results, ascending; none for other scores."""
    ids = set(dataset.ids)
    pairs = (key.rpartition("@") for key in scores.ids if key not in ids)
    return sorted({alpha for image_id, _, alpha in pairs if image_id in ids}, key=float)


def _truths(dataset, store, suffixes: list[str], out: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Id and ground truth of every image, after checking that every one of them has both."""
    for record in dataset.records:
        if record.mask is None:
            raise WsssError(f"image '{record.id}' has no ground truth mask; measure on a split that has masks")
        if isinstance(store, Instances) and record.instances is None:
            raise WsssError(
                f"image '{record.id}' has no ground truth of objects; set the data set's option 'instances' to the "
                "folder of such masks (VOC: SegmentationObject), or measure on a split that has them"
            )
        if missing := [suffix for suffix in suffixes if f"{record.id}{suffix}" not in store]:
            raise WsssError(f"no result for image '{record.id}{missing[0]}'; the step before did not cover it")
    for image_id in bar(dataset.ids, out=out, unit="image"):
        truth = dataset.mask(image_id)
        wrong = truth[(truth > len(dataset.classes)) & (truth != IGNORE)]
        if wrong.size:
            raise WsssError(f"ground truth of image '{image_id}' has the value {wrong[0]}, no class has it; correct it")
        yield image_id, truth


def _planes(scores: Scores, key: str, size: tuple[int, int], n_foreground: int) -> tuple[np.ndarray, np.ndarray]:
    classes, planes = scores.get(key)
    _check_size(key, planes.shape[1:], size)
    if classes.max(initial=0) > n_foreground:
        raise WsssError(
            f"scores of image '{key}' have class {classes.max()} of {n_foreground}; run the step before again"
        )
    return classes, planes


def _check_size(key: str, size: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if size != truth:
        here, there = ("×".join(map(str, shape)) for shape in (size, truth))
        raise WsssError(f"result of image '{key}' is {here}, its ground truth {there}; run the step before again")
