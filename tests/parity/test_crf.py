"""Dense CRF against the official calls of PSA, SEAM and IRN."""

from __future__ import annotations

import numpy as np
import pytest
from alphas import DEFAULTS, check_alphas
from golden import load

from wsss.refine.crf import dense_crf, unary_from_labels, unary_from_scores, with_background

PIXELS = 3  # label maps may differ where two probabilities are nearly equal


def test_scores_of_all_alphas():
    golden = load("crf")
    check_alphas(golden, "q_alpha", golden["scores"].astype(np.float32), 1e-5)


@pytest.mark.parametrize("name", ["psa_infer", "seam_infer"])
def test_stored_cams_of_all_alphas(name):
    golden = load(name)
    check_alphas(golden, "crf_alpha", golden["cam"], 1e-5)
    np.testing.assert_array_equal(golden["crf_keys"], [0, *(golden["class_ids"] + 1)])


def test_one_iteration_on_all_labels():
    golden = load("crf")
    planes = with_background(golden["scores"].astype(np.float32), 4)
    rows = [0, *golden["t1_class_rows"]]
    scores = np.zeros((21, *planes.shape[1:]), np.float32)
    scores[rows] = planes
    [q] = dense_crf(golden["image"], [unary_from_scores(scores)], {**DEFAULTS["crf"], "iterations": 1})
    np.testing.assert_allclose(q[rows], golden["q_t1_rows"], rtol=0, atol=1e-5)
    assert (q.argmax(0) != golden["q_t1_21labels_argmax"]).sum() <= PIXELS


@pytest.mark.parametrize(("threshold", "given"), [("030", {}), ("005", {}), ("005_t3_p05", {"t": 3, "gt_prob": 0.5})])
def test_label_crf(threshold, given):
    golden, settings = load("crf"), DEFAULTS["irn_marks"]["crf"]
    labels = golden[f"irn_in_{threshold[:3]}"]
    count = len(golden["scores"]) + 1
    unary = unary_from_labels(labels, count, given.get("gt_prob", settings["gt_prob"]))
    iterations = given.get("t", settings["iterations"])
    [q] = dense_crf(golden["image"], [unary], {**settings, "iterations": iterations})
    assert (q.argmax(0) != golden[f"irn_out_{threshold}"]).sum() <= PIXELS
