"""The evaluation scripts of SEAM, ACR, IRN, OC-CSE, AEFT and EADER: counts exactly, metrics to float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from golden import load

from wsss.measure.counts import Counts, Sweep, best_class, count, threshold_grid
from wsss.measure.metrics import MIOU, iou, precision, recall, summary
from wsss.plan.resolve import method_settings

Image = tuple[np.ndarray, np.ndarray, np.ndarray]  # label values of planes, planes, ground truth


def seam_images(golden: dict) -> Iterator[Image]:
    for i in range(sum(key.startswith("gt") for key in golden)):
        yield golden[f"pred_keys{i}"] + 1, golden[f"pred{i}"], golden[f"gt{i}"]


def kaist_images(golden: dict) -> Iterator[Image]:
    for i in range(int(golden["n_images"])):
        yield golden[f"classes_{i}"] + 1, golden[f"maps_{i}"], golden[f"gt_{i}"]


def swept(images: Iterator[Image], thresholds: Sequence[float], n: int, floor: bool = False) -> Counts:
    sweep = Sweep(thresholds, n, floor)
    for image in images:
        sweep.add(*image)
    return sweep.counts()


def close(actual, expected) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


def equal(counts: Counts, tp: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> None:
    np.testing.assert_array_equal(counts.tp, tp)
    np.testing.assert_array_equal(counts.predicted, predicted)
    np.testing.assert_array_equal(counts.true, true)


def test_seam_sweep_over_thresholds():
    golden = load("evaluation")
    thresholds = golden["thresholds_f64"]
    expected = golden["counts_TP_P_T"]  # T K 3
    counts = swept(seam_images(golden), thresholds, expected.shape[1])
    equal(counts, *np.moveaxis(expected, 2, 0))
    close(100 * iou(counts), golden["iou_percent_f64"])
    miou = 100 * summary(counts)["miou"]
    close(miou, golden["miou_percent_f64"])
    assert miou.argmax() == golden["best_index"]
    close([thresholds[miou.argmax()], miou.max()], [golden["best_threshold"], golden["best_miou"]])


def test_seam_label_images():
    golden = load("evaluation")
    expected = golden["png_counts_TP_P_T"]  # K 3
    counts = Counts.zeros(len(expected))
    for i, (_, _, truth) in enumerate(seam_images(golden)):
        counts += count(golden[f"png{i}"], truth, len(expected))
    equal(counts, *expected.T)
    close(100 * iou(counts), golden["png_iou_percent_f64"])
    close(100 * summary(counts)["miou"], golden["png_miou_percent"])


def test_acr_precision_and_recall():
    golden = load("evaluation")
    expected = golden["acr_counts_TP_P_T"]
    counts = swept(seam_images(golden), golden["acr_thresholds_f64"], expected.shape[1])
    equal(counts, *np.moveaxis(expected, 2, 0))
    metrics = summary(counts)
    rows = np.stack([100 * metrics["miou"], metrics["precision"], metrics["recall"]], axis=1)
    close(rows, golden["acr_miou_mp_mr_f64"])
    best = int(metrics["miou"].argmax())
    close([golden["acr_thresholds_f64"][best], *rows[best]], golden["acr_best_th_miou_mp_mr_f64"])


@pytest.mark.parametrize("kind", ["cam", "sem"])
def test_irn_mean_over_occurring_classes(kind):
    golden = load("evaluation")
    confusion = golden[f"irn_{kind}_confusion"]  # truth, prediction
    n = len(confusion)
    if kind == "cam":
        counts = swept(seam_images(golden), [float(golden["irn_cam_threshold"])], n)[0]
    else:
        counts = Counts.zeros(n)
        for i, (_, _, truth) in enumerate(seam_images(golden)):
            counts += count(golden[f"png{i}"], truth, n)
    equal(counts, confusion.diagonal(), confusion.sum(0), confusion.sum(1))
    close(iou(counts), np.nan_to_num(golden[f"irn_{kind}_iou_f64"]))
    close(MIOU["skip"](counts), golden[f"irn_{kind}_miou"])


@pytest.mark.parametrize("method", ["occse", "aeft", "acr"])
def test_sweeps_of_the_resnet38d_family(method):
    golden = load("kaist_eval")
    thresholds = golden[f"{method}_thresholds"]
    n = golden["occse_counts"].shape[2]
    counts = swept(kaist_images(golden), thresholds, n)
    miou = 100 * summary(counts)["miou"]
    close(miou, golden[f"{method}_miou"])
    if method == "aeft":  # its best threshold is of the sweep in the training script, which is the shorter one
        miou = miou[: np.diff(golden["aeft_training_range"])[0]]
    close(miou.max(), golden[f"{method}_best_miou"])
    close(thresholds[miou.argmax()], golden[f"{method}_best_threshold"])
    if method == "occse":
        equal(counts, *np.moveaxis(golden["occse_counts"], 1, 0))
        close(100 * iou(counts), golden["occse_iou"])
    if method == "acr":
        p, r = (metric(counts).mean(-1) for metric in (precision, recall))
        close([p, r], [golden["acr_precision"], golden["acr_recall"]])
        close([p[miou.argmax()], r[miou.argmax()]], [golden["acr_best_precision"], golden["acr_best_recall"]])


def test_crf_scores_need_no_threshold():
    golden = load("kaist_eval")
    n, counts = len(golden["occse_crf_iou"]), 0
    for classes, maps, truth in kaist_images(golden):
        background = (1 - maps.max(0, keepdims=True)) ** float(golden["occse_crf_alpha"])
        label, _ = best_class([0, *classes], np.concatenate([background, maps]).astype(np.float32))
        image = count(label, truth, n)
        counts = image + counts if counts else image
    close(100 * iou(counts), golden["occse_crf_iou"])
    close(100 * summary(counts)["miou"], golden["occse_crf_miou"])


def test_label_images_made_at_a_threshold():
    golden = load("kaist_eval")
    counts = swept(kaist_images(golden), [float(golden["aeft_png_threshold"])], len(golden["aeft_png_iou"]))[0]
    close(100 * iou(counts), golden["aeft_png_iou"])
    close(100 * summary(counts)["miou"], golden["aeft_png_miou"])


def test_eader_rule():
    golden = load("eader_eval")
    n = len(golden["intersection"])
    counts = swept(kaist_images(golden), [float(golden["threshold"])], n, floor=True)[0]
    np.testing.assert_array_equal(counts.tp, golden["intersection"])
    np.testing.assert_array_equal(counts.true + counts.predicted - counts.tp, golden["union"])
    np.testing.assert_array_equal(counts.true[1:], golden["gt_pixels"][1:])
    np.testing.assert_array_equal(counts.predicted[1:], golden["pred_pixels"][1:])
    for i, (classes, maps, truth) in enumerate(kaist_images(golden)):
        swept_pixels = swept(iter([(classes, maps, truth)]), [float(golden["threshold"])], n, floor=True)[0]
        equal(swept_pixels, *vars(count(golden[f"pred_{i}"], truth, n)).values())
    metrics = summary(counts)
    for key in ("miou", "precision_fg", "recall_fg"):  # released in float32
        np.testing.assert_allclose(metrics[key], golden[key], rtol=1e-7, atol=0)


@pytest.mark.parametrize(("method", "name"), [("seam", "evaluation"), ("occse", "kaist_eval"), ("aeft", "kaist_eval")])
def test_the_configured_grids_are_the_released_ones(method, name):
    golden = load(name)
    released = golden["thresholds_f64" if name == "evaluation" else f"{method}_thresholds"].astype(np.float32)
    grid = threshold_grid(*method_settings(method)["measure"]["thresholds"]).astype(np.float32)
    if method == "aeft":
        released = released[: np.diff(golden["aeft_training_range"])[0]]
    np.testing.assert_array_equal(grid, released)
