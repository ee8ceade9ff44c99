"""Dense CRF (Krähenbühl and Koltun, arXiv:1210.5644) on class scores, by pydensecrf.

K labels (background first), H W image size. Parameter sets are mappings of ``gaussian`` (``sxy``, ``compat``),
``bilateral`` (``sxy``, ``srgb``, ``compat``) and ``iterations``; Potts compatibility, symmetric normalisation.

The kernels depend on the image alone: with several background exponents, or several label maps, the lattices are built
once and only the unary term is exchanged. The result has the same bits as separate calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydensecrf.densecrf import DenseCRF2D

from wsss.errors import WsssError
from wsss.pool import mapped
from wsss.refine import scored_image
from wsss.stores import Scores

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import Crf, DenseCrf

Entry = tuple[str, list[int], np.ndarray]  # key, label values, planes

FLOOR = 1e-5  # lower scores are raised to it, so that no label is impossible
SMALLEST = 2.0**-14  # the least normal float16; probabilities below it are stored as 0


def with_background(scores: np.ndarray, alpha: float) -> np.ndarray:
    """Put the background score ``(1 - max_c score_c)^alpha`` (PSA, SEAM) before ``C×H×W`` scores: ``(C+1)×H×W``."""
    return np.concatenate([(1 - scores.max(0, keepdims=True)) ** alpha, scores])


def unary_from_scores(scores: np.ndarray) -> np.ndarray:
    """Compute energies ``-log(score)`` of ``K×H×W`` scores, clipped to ``[1e-5, 1]``; they need not sum to 1."""
    return -np.log(np.clip(scores, FLOOR, 1.0))


def unary_from_labels(labels: np.ndarray, n_labels: int, gt_prob: float) -> np.ndarray:
    """Compute energies ``K×H×W`` of an ``H×W`` map of labels that is right with probability ``gt_prob`` (IRN: 0.7)."""
    energies = np.full((n_labels, *labels.shape), -np.log((1 - gt_prob) / max(n_labels - 1, 1)), np.float32)
    np.put_along_axis(energies, labels[None].astype(np.intp), -np.log(gt_prob), axis=0)
    return energies


def dense_crf(image: np.ndarray, unaries: Iterable[np.ndarray], settings: DenseCrf) -> list[np.ndarray]:
    """Compute label probabilities by mean-field inference, one ``K×H×W`` float32 array per unary term.

    Args:
        image: ``H×W×3`` uint8 RGB.
        unaries: energies, ``K×H×W`` each with the same ``K``; from :func:`unary_from_scores` or
            :func:`unary_from_labels`.
        settings: the parameter set.

    Raises:
        WsssError: an energy is not of the image's size.
    """
    unaries = list(unaries)
    height, width = image.shape[:2]
    n_labels = len(unaries[0])
    for unary in unaries:
        if unary.shape != (n_labels, height, width):
            raise WsssError(f"dense CRF: unary term {unary.shape} does not fit {n_labels} labels on {height}×{width}")
    model = DenseCRF2D(width, height, n_labels)
    gaussian, bilateral = settings["gaussian"], settings["bilateral"]
    model.addPairwiseGaussian(sxy=gaussian["sxy"], compat=gaussian["compat"])
    model.addPairwiseBilateral(
        sxy=bilateral["sxy"],
        srgb=bilateral["srgb"],
        rgbim=np.array(image, np.uint8, order="C"),  # a copy: pydensecrf refuses read-only arrays
        compat=bilateral["compat"],
    )

    def infer(unary: np.ndarray) -> np.ndarray:
        model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(n_labels, -1), np.float32))
        return np.array(model.inference(settings["iterations"]), np.float32).reshape(unary.shape)

    return [infer(unary) for unary in unaries]


def crf(given: Given) -> Iterator[list[Entry]]:
    """Refine the scores of each image, once per exponent in ``crf.alphas``.

    Yields:
        For each image one entry per alpha: the key ``<image id>@<alpha>``, the label values ``[0, *classes]`` and
        their probabilities ``K×H×W`` float16. They do not depend on the number of processes.

    Raises:
        WsssError: scores are missing, not of the image's size, or of unknown classes; names the image.
    """
    work = _Work(given.images, Scores(given.scores), given.settings["crf"])
    yield from mapped(work, given.images.ids, given.workers)


class _Work:
    """The work on one image: the entries of all alphas."""

    def __init__(self, dataset: Dataset, scores: Scores, settings: Crf):
        self.dataset, self.scores, self.settings = dataset, scores, settings

    def __call__(self, image_id: str) -> list[Entry]:
        image, classes, scores = scored_image(self.dataset, self.scores, image_id)
        alphas, labels = self.settings["alphas"], [0, *classes.tolist()]
        if not len(classes):
            certain = np.ones((1, *image.shape[:2]), np.float16)
            return [(f"{image_id}@{alpha}", labels, certain) for alpha in alphas]
        unaries = [unary_from_scores(with_background(scores, alpha)) for alpha in alphas]
        refined = dense_crf(image, unaries, self.settings)
        return [(f"{image_id}@{alpha}", labels, _half(q)) for alpha, q in zip(alphas, refined, strict=True)]


def _half(q: np.ndarray) -> np.ndarray:
    """Convert probabilities to float16. Tiny ones become 0: large ones lose more by rounding, and it is much faster."""
    return np.where(q < SMALLEST, 0, q).astype(np.float16)
