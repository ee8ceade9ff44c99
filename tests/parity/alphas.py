"""The dense CRF of scores at every background exponent that a golden file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

import wsss
from wsss.refine.crf import dense_crf, unary_from_scores, with_background

DEFAULTS = yaml.safe_load((Path(wsss.__file__).parent / "defaults.yaml").read_text())
OWN = 5e-3  # from class maps of our own: the CRF magnifies their roundings


def check_alphas(golden: dict, prefix: str, scores: np.ndarray, tolerance: float) -> None:
    """``<prefix><alpha>`` are the probabilities ``K×H×W`` of scores ``C×H×W`` with background exponent alpha."""
    found = {key: int(key.removeprefix(prefix)) for key in golden if key.startswith(prefix)}
    assert len(found) >= 2
    unaries = [unary_from_scores(with_background(scores, alpha)) for alpha in found.values()]
    for key, q in zip(found, dense_crf(golden["image"], unaries, DEFAULTS["crf"]), strict=True):
        np.testing.assert_allclose(q, golden[key], rtol=0, atol=tolerance, err_msg=key)
