"""Names in charts: told apart, and none over another. What a chart says in words."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.text import Text

from wsss.report.alternatives import describe
from wsss.report.drawing import row_name
from wsss.report.placement import write_names


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


def test_a_grid_of_pictures_names_its_columns():
    figure, axes = plt.subplots(2, 4)
    for i, axis in enumerate(axes.flat):
        axis.imshow(np.zeros((2, 2)))
        axis.set_title(("image", "class\nmaps")[i % 2] if i < 4 else "")  # two blocks side by side
    says = describe(figure)
    plt.close(figure)
    assert says == "4 images, each as: image, class maps."
