"""Names in charts: told apart, and none over another. What a chart says in words."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from toys import metrics_file

from wsss.report import charts
from wsss.report.alternatives import describe
from wsss.report.drawing import row_name
from wsss.report.fonts import families, unwritable
from wsss.report.placement import write_names
from wsss.report.style import STYLE


def test_names_of_close_points_do_not_meet():
    """Ten points, most of them within a hair of each other, as methods and their baselines are."""
    figure, axis = plt.subplots(figsize=(4, 3.5), dpi=200)
    points = [(50 + 0.3 * i, 60 + 0.2 * (i % 3)) for i in range(8)] + [(62, 55), (40, 70)]
    for point in points:
        axis.plot(*point, "o")
    axis.margins(0.15)
    write_names(axis, [(f"CAM (method {i})", [point]) for i, point in enumerate(points)], points)
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    leaders = {text.arrow_patch.get_visible() for text in axis.texts if np.hypot(*text.get_position()) <= 9}
    inside = [axis.bbox.x0 < box.x0 < box.x1 < axis.bbox.x1 for box in boxes]
    plt.close(figure)
    assert leaders == {False}  # a name beside its mark needs none
    assert all(inside)
    assert len(boxes) == 10
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_rows_of_one_label_are_told_apart_by_their_words():
    rows = [{"label": "CAM", "attributes": {"of": "ACR"}}, {"label": "SEAM", "attributes": {"er": "✓"}}, {"label": "x"}]
    assert [row_name(row) for row in rows] == ["CAM (ACR)", "SEAM", "x"]
    assert row_name({"label": "", "attributes": {"aggregation": "A", "level2": "✓"}}) == "A"


def test_a_chart_says_in_words_what_it_shows():
    figure, (curve, bars) = plt.subplots(1, 2)
    curve.plot([0, 0.5, 1], [20, 45.04, 30], label="CAM")
    curve.plot([0, 1], [0, 1])  # without a label: no series
    curve.set(xlabel="threshold", ylabel="mIoU (%)")
    bars.bar([0, 1], [91, 12.34], label="CRF")
    bars.set_xticks([0, 1], ["cat", "dog"])
    bars.set_ylabel("IoU (%)")
    says = describe(figure)
    plt.close(figure)
    assert says == (
        "mIoU (%) over threshold. CAM: 20 at 0, 30 at 1, highest 45 at 0.5. Bars of IoU (%). CRF: cat 91.0, dog 12.3."
    )


def test_a_curve_is_described_by_the_points_that_have_a_value():
    figure, axis = plt.subplots()
    nothing = float("nan")
    axis.plot([0, 0.5, 1], [nothing] * 3, label="CAM")  # no true positive at any threshold
    axis.plot([0, 0.5, 0.75, 1], [1, 3, 2, nothing], label="SEAM")
    axis.set(xlabel="threshold", ylabel="under-activation")
    says = describe(figure)
    plt.close(figure)
    assert says == "under-activation over threshold. CAM: no value; SEAM: 1 at 0, 2 at 0.75, highest 3 at 0.5."


@pytest.mark.parametrize(
    ("label", "cell", "says"),
    [
        ("masks", {"metric": "miou"}, "masks, mIoU (%)"),
        ("objects", {"metric": "map"}, "objects, AP50 (%)"),
        ("dog", {"metric": "iou", "class": "dog"}, "dog, IoU of dog (%)"),
        ("CAM", {"metric": "precision", "scale": 1}, "CAM, precision"),
        ("test (%)", {"metric": "miou"}, "test (%)"),
    ],
)
def test_an_axis_of_dots_says_what_was_measured_and_in_what_unit(label, cell, says):
    row = {"label": "one", "cells": [{**cell, "reported": 0.5}]}
    figure = charts.table_dots({"columns_shown": [{"key": "a", "label": label}], "rows": [row]})
    shown = figure.axes[0].get_xlabel()
    plt.close(figure)
    assert shown == says


def test_a_grid_of_pictures_names_its_columns():
    figure, axes = plt.subplots(2, 4)
    for i, axis in enumerate(axes.flat):
        axis.imshow(np.zeros((2, 2)))
        axis.set_title(("image", "class\nmaps")[i % 2] if i < 4 else "")  # two blocks side by side
    says = describe(figure)
    plt.close(figure)
    assert says == "4 images, each as: image, class maps."


@pytest.mark.parametrize("n", [2, 21, 200])
def test_names_of_classes_do_not_meet(tmp_path, n):
    classes = ["background", *(f"long class name {i}" for i in range(1, n))]
    path = Path(metrics_file(tmp_path / "cam.json", 0.5))
    content = json.loads(path.read_text())
    content["classes"] = classes
    content["points"]["best"]["iou"] = np.linspace(0, 1, n).tolist()
    path.write_text(json.dumps(content))
    series = [{"label": label, "at": "best", "metrics": [str(path)]} for label in ("CAM", "SEAM")]
    with plt.rc_context(STYLE):
        figure = charts.class_bars({"series": series})
        figure.draw_without_rendering()
    shown, heights = [], []
    for axis in figure.axes:
        boxes = [Text.get_window_extent(label) for label in axis.get_xticklabels()]
        height = axis.get_xticklabels()[0].get_fontsize() * figure.dpi / 72
        middles = [(box.x0 + box.x1) / 2 if n > 40 else box.x1 for box in boxes]
        apart = height if n > 8 else max(box.width for box in boxes)
        assert np.diff(middles).min() >= 0.9 * apart
        shown += [label.get_text() for label in axis.get_xticklabels()]
        heights += [bar.get_height() for bar in axis.containers[0]]
    plt.close(figure)
    assert shown == classes
    assert heights == pytest.approx(np.linspace(0, 100, n).tolist())


def test_a_name_that_no_font_can_write_is_found():
    assert families()[0] == "DejaVu Sans"
    assert unwritable(["Kätzchen", "кот", "γάτα"]) == []
    assert unwritable(["cat", "\U000f0000"]) == ["\U000f0000"]  # of no font: for private use
