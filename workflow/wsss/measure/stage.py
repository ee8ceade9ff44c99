"""Stage ``measure``: every metrics file. ``docs/architecture.md`` describes its content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss.data.masks import MODES, values
from wsss.errors import WsssError
from wsss.files import read_yaml, write_json
from wsss.measure.counts import Counts, Sweep, best_class, count, threshold_grid
from wsss.measure.instances import Pair, average_precision, true_instances
from wsss.measure.metrics import iou, summary
from wsss.progress import bar
from wsss.stores import IGNORE, Instances, Masks, Scores

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import Measure

Found = dict[str, Any]  # a part of the metrics file
SELECTED = "the ground truth of the images it is measured on"  # on which all five papers choose, too
AP_IOU = 0.5  # overlap from which an instance counts as found: AP50 of IRN


def measure(given: Given, stage: str, images: str, out: str | Path) -> None:
    """Compare a stage's result with the ground truth of all images and write the metrics file.

    Score shards hold either foreground classes, which are swept over thresholds, or the results of several background
    exponents under ``<id>@<alpha>``.

    Args:
        given: the images to measure, and score shards, mask shards or instance shards.
        stage: the stage whose result it is.
        images: the role of the images.
        out: the JSON file to write.

    Raises:
        WsssError: there are no shards, or shards of several kinds; they are of another stage or of other images; an
            image has no result, no ground truth or a result of another size. The line names the image or the file.
    """
    dataset, settings = given.images, given.settings["measure"]
    kinds = [paths for paths in (given.scores, given.masks, given.instances) if paths]
    if len(kinds) != 1:
        raise WsssError("give either score shards, mask shards or instance shards")
    _refuse_other_stages(stage, kinds[0])
    if given.instances:
        found = _measure_instances(dataset, Instances(given.instances), out)
    elif given.masks:
        found = _measure_masks(settings, dataset, Masks(given.masks), out)
    else:
        scores = Scores(given.scores)
        alphas = _alphas(dataset, scores)
        found = (
            _measure_alphas(settings, dataset, scores, alphas, out)
            if alphas
            else _measure_scores(settings, dataset, scores, out)
        )
    names = ["background", *dataset.classes]
    write_json(out, {"stage": stage, "images": images, "count": len(dataset), "classes": names, **found})


def _refuse_other_stages(stage: str, paths: Iterable[str]) -> None:
    """Refuse shards whose folder's settings are those of another stage."""
    for folder in sorted({Path(path).parent for path in paths}):
        config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
        made_by = config.get("stage", stage) if isinstance(config, dict) else stage
        if made_by != stage:
            raise WsssError(f"{folder}: holds results of stage {made_by}, not {stage}; give shards of stage {stage}")


def _refuse_other_images(dataset: Dataset, store: Scores | Masks | Instances) -> None:
    """Refuse shards that hold results of other images than those to measure."""
    ids = set(dataset.ids)
    for key in store.ids:
        if key not in ids and key.rpartition("@")[0] not in ids:
            raise WsssError(
                f"the shards hold image '{key}', which is not among the {len(ids)} images to measure; "
                "give the shards of these images, or another --images"
            )


def _measure_masks(settings: Measure, dataset: Dataset, masks: Masks, out: str | Path) -> Found:
    n, total = len(dataset.classes) + 1, Counts.zeros(len(dataset.classes) + 1)
    for image_id, truth in _truths(dataset, masks, [""], out):
        picture = masks.picture(image_id)
        if picture.mode not in MODES:
            cure = "make it a palette or grey PNG of 8 bits"
            raise WsssError(f"mask of image '{image_id}' has mode {picture.mode}; {cure}")
        predicted = values(picture, n - 1)
        _check_size(image_id, predicted.shape, truth.shape)
        if predicted.max() >= n:
            raise WsssError(f"mask of image '{image_id}' has the value {predicted.max()}; classes are 1 to {n - 1}")
        total += count(predicted, truth, n)
    return {"points": {"argmax": _point(total, settings)}}


def _measure_scores(settings: Measure, dataset: Dataset, scores: Scores, out: str | Path) -> Found:
    grid, tried, fixed = threshold_grid(*settings["sweep"]), threshold_grid(*settings["thresholds"]), settings["fixed"]
    thresholds = np.unique([*grid, *tried, fixed])
    n = len(dataset.classes) + 1
    sweep = Sweep(thresholds, n, settings["floor"])
    for image_id, truth in _truths(dataset, scores, [""], out):
        sweep.add(*_planes(scores, image_id, truth.shape, range(1, n)), truth)
    counts = sweep.counts()
    swept = summary(counts, settings["absent"])

    def at(threshold: float) -> Found:
        i = int(np.searchsorted(thresholds, threshold))
        return {**_point(counts[i], settings), "threshold": float(threshold)}

    def selected(candidates: np.ndarray) -> Found:
        miou = swept["miou"][np.searchsorted(thresholds, candidates)]
        return {**at(candidates[miou.argmax()]), "selected_on": SELECTED}  # the first of equals, as released

    shown = np.searchsorted(thresholds, grid)
    curves = {name: values[shown] for name, values in swept.items()}
    return {
        "points": {"best": selected(tried), "highest": selected(grid), "fixed": at(fixed)},
        "sweep": {"thresholds": grid.tolist(), **_plain(curves), **_plain(vars(counts[shown]))},
    }


def _measure_alphas(settings: Measure, dataset: Dataset, scores: Scores, alphas: list[str], out: str | Path) -> Found:
    n = len(dataset.classes) + 1
    total = {alpha: Counts.zeros(n) for alpha in alphas}
    for image_id, truth in _truths(dataset, scores, [f"@{alpha}" for alpha in alphas], out):
        for alpha in alphas:
            label, _ = best_class(*_planes(scores, f"{image_id}@{alpha}", truth.shape, range(n)))
            total[alpha] += count(label, truth, n)
    points = {f"alpha={alpha}": _point(total[alpha], settings) for alpha in alphas}
    best = max(points, key=lambda name: points[name]["miou"])
    return {"points": {**points, "best": {**points[best], "selected": best, "selected_on": SELECTED}}}


def _measure_instances(dataset: Dataset, found: Instances, out: str | Path) -> Found:
    """Compute the AP per class and its mean, and count detections and objects.

    The AP is null for the background and for classes without objects.
    """
    detected, true = np.zeros((2, len(dataset.classes) + 1), int)

    def images() -> Iterator[Pair]:
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


def _point(counts: Counts, settings: Measure) -> Found:
    """Compute metrics and counts at one operating point."""
    return _plain({**summary(counts, settings["absent"]), "iou": iou(counts), **vars(counts)})


def _plain(arrays: dict[str, np.ndarray]) -> Found:
    """Turn arrays into numbers and lists for JSON, which has no NaN: a mean over nothing is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return None if value != value else value

    return {name: plain(array.tolist()) for name, array in arrays.items()}


def _alphas(dataset: Dataset, scores: Scores) -> list[str]:
    """List the background exponents of refined scores, ascending. Other scores have none."""
    ids = set(dataset.ids)
    pairs = (key.rpartition("@") for key in scores.ids if key not in ids)
    return sorted({alpha for image_id, _, alpha in pairs if image_id in ids}, key=float)


def _truths(
    dataset: Dataset, store: Scores | Masks | Instances, suffixes: list[str], out: str | Path
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the id and ground truth of every image, after a check that each has a result and a ground truth."""
    _refuse_other_images(dataset, store)
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


def _planes(scores: Scores, key: str, size: tuple[int, int], known: range) -> tuple[np.ndarray, np.ndarray]:
    """Read the scores of an image, whose classes must be ``known`` label values."""
    classes, planes = scores.get(key)
    _check_size(key, planes.shape[1:], size)
    if strange := [value for value in classes.tolist() if value not in known]:
        raise WsssError(
            f"scores of image '{key}' have class {strange[0]}, not {known[0]} to {known[-1]}; run the step before again"
        )
    return classes, planes


def _check_size(key: str, size: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if size != truth:
        here, there = ("×".join(map(str, shape)) for shape in (size, truth))
        raise WsssError(f"result of image '{key}' is {here}, its ground truth {there}; run the step before again")
