"""Stage ``irn_marks``: mark the confident foreground and background that IRNet learns from; pixels between are ignored.

IRNet: Ahn et al., CVPR 2019, arXiv:1904.05044; thresholds and CRF are those of irn@a2ece00, cam_to_ir_label.
K classes of an image, H W its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from wsss.pool import mapped
from wsss.refine import scored_image
from wsss.refine.crf import dense_crf, unary_from_labels
from wsss.stores import IGNORE, Scores

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import IrnMarks, MarksCrf

Entry = tuple[str, np.ndarray]  # id, marks


def above(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Find the highest of ``[threshold, *scores]`` at each pixel, 0 for the threshold: ``K×H×W`` -> ``H×W``."""
    return np.concatenate([np.full_like(scores[:1], threshold), scores]).argmax(0)


def smooth(image: np.ndarray, indices: list[np.ndarray], count: int, crf: MarksCrf) -> list[np.ndarray]:
    """Smooth index maps by a dense CRF.

    Args:
        image: ``H×W×3`` uint8 RGB.
        indices: index maps ``H×W``.
        count: the number of labels; indices are below it.
        crf: the section ``irn_marks.crf``.
    """
    unaries = [unary_from_labels(index, count, crf["gt_prob"]) for index in indices]
    return [q.argmax(0) for q in dense_crf(image, unaries, crf)]


def marks_of(image: np.ndarray, classes: np.ndarray, scores: np.ndarray, marks: IrnMarks) -> np.ndarray:
    """Mark the pixels of an image.

    The best class is marked where it passes ``fg_threshold``, the background where none passes ``bg_threshold``. The
    CRF smooths both maps before they are combined.

    Args:
        image: ``H×W×3`` uint8 RGB.
        classes: label values ``K``.
        scores: ``K×H×W``.
        marks: the section ``irn_marks``.

    Returns:
        ``H×W`` uint8: label values, 0 background, 255 ignore.
    """
    if len(classes) == 0:
        return np.zeros(image.shape[:2], np.uint8)
    passing = [above(scores, threshold) for threshold in (marks["fg_threshold"], marks["bg_threshold"])]
    fg, bg = smooth(image, passing, len(classes) + 1, marks["crf"])
    label = np.concatenate([[IGNORE], classes]).astype(np.uint8)[fg]
    label[(fg == 0) & (bg == 0)] = 0
    return label


class _Work:
    """The work on one image: its entry."""

    def __init__(self, dataset: Dataset, scores: Scores, marks: IrnMarks):
        self.dataset, self.scores, self.marks = dataset, scores, marks

    def __call__(self, image_id: str) -> list[Entry]:
        return [(image_id, marks_of(*scored_image(self.dataset, self.scores, image_id), self.marks))]


def irn_marks(given: Given) -> Iterator[list[Entry]]:
    """Mark confident areas of each image.

    Yields:
        For each image one entry: its id and its marks ``H×W`` uint8. They do not depend on the number of processes.

    Raises:
        WsssError: scores are missing, not of the image's size, or of unknown classes; names the image.
    """
    work = _Work(given.images, Scores(given.scores), given.settings["irn_marks"])
    yield from mapped(work, given.images.ids, given.workers)
