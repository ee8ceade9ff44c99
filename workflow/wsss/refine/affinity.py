"""Stage ``affinity``: AffinityNet learns from the confident areas of CRF results (PSA, arXiv:1803.10464, 3.2).

The network is in ``affinity_net``, its losses are in ``losses``, its training samples in ``labels``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsss.backbones.weights import initial
from wsss.refine.affinity_net import build
from wsss.refine.labels import AffinitySamples
from wsss.train import Training

if TYPE_CHECKING:
    from wsss.job import Given


def affinity(given: Given) -> Training:
    """Set up the training of AffinityNet on ``given.images`` and their CRF results.

    Raises:
        WsssError: an exponent was not computed, an image is in no shard, or the crop is too small to hold pairs.
    """
    settings = given.settings
    train = settings["affinity"]["train"]
    net = build(initial(settings, train))
    if train["weights"]:
        return Training(net, None, train)
    samples = AffinitySamples(given.images, given.scores, settings, net.stride, net.backbone.input)
    return Training(net, samples, train)
