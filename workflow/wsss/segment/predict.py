"""Label maps of images by a trained segmentation network: scales, mirroring, fusion, dense CRF.

K classes with background, H W image size, h w size of a network input.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import batched
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsss.data.transforms import multi_scale
from wsss.errors import WsssError
from wsss.progress import bar
from wsss.refine.crf import dense_crf, unary_from_scores
from wsss.segment.models import Segmenter, resize
from wsss.segment.presets import resolve
from wsss.segment.stage import load_task
from wsss.segment.task import elementwise_max, scaled
from wsss.stores import write_masks
from wsss.train import make_fabric

AHEAD = 4  # images that are decoded and rescaled while the network is busy
QUEUED = 3  # probability maps per CRF process that are worked on or waiting
FUSION = ("softmax", "logits", "max")
MULTI_SCALE = (False, "image", "pass")
