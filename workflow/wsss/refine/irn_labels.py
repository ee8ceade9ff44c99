"""Marks that IRNet learns from: confident foreground, confident background, ignored pixels between.

IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044; thresholds and CRF are those of irn@a2ece00, cam_to_ir_label.
K classes of an image, H W its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wsss.pool import mapped
from wsss.progress import bar
from wsss.refine import scored_image
from wsss.refine.crf import dense_crf, unary_from_labels
from wsss.stores import IGNORE, Scores, write_masks


def above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Index of the highest of ``[threshold, *scores]`` at each pixel, 0 for the threshold: ``K×H×W`` -> ``H×W``."""
    return np.concatenate([np.full_like(scores[:1], threshold), scores]).argmax(0)


def label_crf(image: np.ndarray, indices: list[np.ndarray], count: int, crf: dict) -> list[np.ndarray]:
    """Each index map ``H×W`` (values below ``count``) smoothed by a dense CRF over ``image`` ``H×W×3`` uint8."""
    unaries = [unary_from_labels(index, count, crf["gt_prob"]) for index in indices]
    return [q.argmax(0) for q in dense_crf(image, unaries, crf)]


def ir_label(image: np.ndarray, classes: np.ndarray, scores: np.ndarray, irn: dict) -> np.ndarray:
    """Label map ``H×W`` uint8: a class where it passes ``fg_threshold``, 0 where none passes ``bg_threshold``, or 255.

    ``image`` ``H×W×3`` uint8, ``classes`` ``K`` label values, ``scores`` ``K×H×W``. Both maps go through the CRF first.
    """
    if len(classes) == 0:
        return np.zeros(image.shape[:2], np.uint8)
    passing = [above(scores, irn[key]) for key in ("fg_threshold", "bg_threshold")]
    fg, bg = label_crf(image, passing, len(classes) + 1, irn["label_crf"])
    label = np.concatenate([[IGNORE], classes]).astype(np.uint8)[fg]
    label[(fg == 0) & (bg == 0)] = 0
    return label


class _Job:
    """The work on one image: its label map."""

    def __init__(self, dataset, scores: Scores, irn: dict):
        self.dataset, self.scores, self.irn = dataset, scores, irn

    def __call__(self, image_id: str) -> np.ndarray:
        return ir_label(*scored_image(self.dataset, self.scores, image_id), self.irn)


def irn_labels_stage(
    config: dict,
    dataset,
    score_paths: Iterable[str | Path],
    out: str | Path,
    shard: tuple[int, int] = (0, 1),
    workers: int = 1,
) -> None:
    """Write the marks of the ``i``-th of ``n`` interleaved parts of ``dataset``'s images to the mask shard ``out``.

    They depend neither on the number of shards nor on that of processes.

    Raises:
        WsssError: scores are missing, not of the image's size, or of unknown classes; names the image.
    """
    i, n = shard
    ids = dataset.ids[i::n]
    labels = mapped(_Job(dataset, Scores(score_paths), config["irn"]), ids, workers)
    with write_masks(out) as store:
        for image_id, label in bar(zip(ids, labels, strict=True), out=out, unit="image", total=len(ids)):
            store.put(image_id, label)
