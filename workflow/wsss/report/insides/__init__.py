"""Pictures of what a trained model does with an image: what it erases, what its pixels attend to, what it paints.

A method in ``KINDS`` has a module with its kinds of pictures. H W image size, h w cells of a feature map. A picture is
``H×W×3`` uint8.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from wsss.backbones.base import resize
from wsss.cam import load_method
from wsss.data.pixels import PIXELS
from wsss.data.transforms import multi_scale
from wsss.errors import choose
from wsss.registry import Registry, load
from wsss.report.colours import heat
from wsss.report.drawing import PictureColumn

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.data.index import Dataset

Picture = np.ndarray
KINDS: Registry[str] = {  # method -> its pictures, by kind of column
    "eader": "wsss.report.insides.eader:KINDS",
    "aeft": "wsss.report.insides.aeft:KINDS",
    "seam": "wsss.report.insides.seam:KINDS",
    "acr": "wsss.report.insides.acr:KINDS",
}


class Look:
    """One image as a method sees it: ``images`` 1×3×H×W, ``labels`` 1×C, ``target`` the first present class."""

    def __init__(self, method: Any, dataset: Dataset, image_id: str):
        self.method = method
        self.dataset = dataset
        self.image_id = image_id
        self.image = dataset.image(image_id)  # H W 3
        (self.images,) = multi_scale(self.image, [1.0], False, method.backbone.input)
        at = dataset.ids.index(image_id)
        labels = torch.as_tensor(dataset.labels()[at])
        self.labels = labels[None]
        self.target = self.labels.argmax(1)  # 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.images.shape[2:]
        return height, width

    def heat(self, score: Tensor) -> Picture:
        """Put a map of the image, of any resolution, over the picture as heat."""
        height, width = self.image.shape[:2]
        whole = resize(score[:1, :1], (height, width))
        return heat(whole[0, 0].numpy(), self.image)

    def picture(self, images: Tensor) -> Picture:
        """Turn a normalised image ``1×3×H×W`` into a picture."""
        convention = self.method.backbone.input
        mean, scale = map(_per_channel, PIXELS[convention])
        rgb = images[0]
        if convention == "vgg_bgr":
            rgb = rgb.flip(0)
        values = rgb * scale + mean
        whole = values.clamp(0, 255).byte()
        pixels = whole.permute(1, 2, 0).numpy()  # H W 3
        height, width = self.image.shape[:2]
        picture = Image.fromarray(pixels).resize((width, height))
        return np.asarray(picture)


def _per_channel(values: Any) -> Tensor:
    """Return three numbers as a tensor, ``3×1×1``."""
    return torch.tensor(values)[:, None, None]


@functools.cache
def _method(
    config: str,
    n_classes: int,
    model: str,
    stamp: int,
) -> Any:
    """Return a model, read once for all columns that show it.

    Args:
        config: the settings as JSON.
        n_classes: the number of classes.
        model: its file.
        stamp: when that was written; another file of this name is read anew.
    """
    settings = json.loads(config)
    return load_method(settings, n_classes, model)


def painter(column: PictureColumn, dataset: Dataset) -> Callable[[str], Picture]:
    """Load the model of a column and return a function that paints its picture of an image, at scale 1.

    Raises:
        WsssError: the method has no pictures, or none of this kind.
    """
    settings = column["config"]
    name = settings["method"]["name"]
    kinds = load(KINDS, name, "method with pictures of its inside")
    draw: Callable[[Look], Picture] = choose(kinds, column["kind"], f"kind of picture of {name}")
    model = column["model"]
    method = _method(
        config=json.dumps(settings, sort_keys=True),
        n_classes=len(dataset.classes),
        model=model,
        stamp=Path(model).stat().st_mtime_ns,
    )

    @torch.no_grad()
    def paint(image_id: str) -> Picture:
        look = Look(method, dataset, image_id)
        return draw(look)

    return paint
