"""PAMR against the release (visinf/1-stage-wseg@d905fca), whose module ran unmodified on the CPU in float32.

``pamr.npz`` holds an image ``48×60×3`` uint8, planes ``4×48×60`` float32 that sum to 1, and the release's results:
``default`` of dilations 1 to 24 and 10 iterations, ``one`` of a single iteration, ``near`` of dilation 1 and 3
iterations. The release was given the image divided by 255.

The inputs come from ``numpy.random.default_rng(2005)``. The image is a random colour per cell of 12×12 pixels, plus
normal noise of standard deviation 9, rounded and clipped, but for one flat patch of 20×20 pixels in a corner. The
planes are the softmax of 3 times normal numbers, one per cell of 6×6 pixels.

Float64 results of the release differ from its float32 ones by at most 2.2e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import load

from wsss.refine.pamr import refine

TOLERANCE = 1e-5
SETTINGS = {
    "default": {"iterations": 10, "dilations": [1, 2, 4, 8, 12, 24]},
    "one": {"iterations": 1, "dilations": [1, 2, 4, 8, 12, 24]},
    "near": {"iterations": 3, "dilations": [1]},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_planes_are_those_of_the_release(case):
    golden = load("pamr")
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1) / 255
    planes = torch.from_numpy(golden["planes"])
    refined = refine(image, planes, SETTINGS[case]).numpy()
    np.testing.assert_allclose(refined, golden[case], rtol=0, atol=TOLERANCE)
    assert np.abs(planes.numpy() - golden[case]).max() > 0.1
