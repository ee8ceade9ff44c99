"""Pictures of what a trained model does with an image: what it erases, what its pixels attend to, what it paints.

H W image size, h w cells of a feature map. A picture is ``H×W×3`` uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsss.backbones.base import resize
from wsss.data.index import Dataset
from wsss.data.transforms import multi_scale
from wsss.errors import choose
from wsss.localize import load_method
from wsss.methods import Method, acr, aeft
from wsss.methods.base import EPS
from wsss.methods.occse import PIXELS
from wsss.report.colours import heat
from wsss.stores import IGNORE

Picture = np.ndarray


class Look:
    """One image as a method sees it: ``images`` 1×3×H×W, ``labels`` 1×C, ``target`` the first present class."""

    def __init__(self, method: Method, dataset: Dataset, image_id: str):
        self.method, self.dataset, self.image_id = method, dataset, image_id
        self.image = dataset.image(image_id)  # H W 3
        self.images = multi_scale(self.image, [1.0], False, method.backbone.input)[0]
        self.labels = torch.as_tensor(dataset.labels()[dataset.ids.index(image_id)])[None]
        self.target = self.labels.argmax(1)  # 1

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2:]

    def heat(self, score: Tensor) -> Picture:
        """A map of the first image, of any resolution, over the picture."""
        return heat(resize(score[:1, :1], self.image.shape[:2])[0, 0].numpy(), self.image)

    def picture(self, images: Tensor) -> Picture:
        """Normalised images ``1×3×H×W`` as a picture."""
        mean, scale = (torch.tensor(value)[:, None, None] for value in PIXELS[self.method.backbone.input])
        rgb = images[0].flip(0) if self.method.backbone.input == "vgg_bgr" else images[0]
        pixels = (rgb * scale + mean).clamp(0, 255).byte().permute(1, 2, 0).numpy()
        height, width = self.image.shape[:2]
        return np.asarray(Image.fromarray(pixels).resize((width, height)))


# ---- EADER, AEFT: what is found and erased


def _eader_attention(look: Look) -> Tensor:
    features = look.method.backbone(look.images)["conv6"]
    return look.method.attention(features, torch.zeros(1, dtype=torch.long), look.target, look.size)  # 1 1 H W


def _eader_erased(look: Look) -> Picture:
    attention = _eader_attention(look)
    return look.picture(look.method.erase(look.images, attention, torch.zeros(1, dtype=torch.long)))


def _aeft_foreground(look: Look) -> Tensor:
    return aeft.foreground(look.method(look.images).cam, look.labels, look.size)  # 1 1 H W


def _aeft_erased(look: Look) -> Picture:
    settings = look.method.settings
    mask = choose(aeft.MASKS, settings["mask"], "method.mask")
    return look.picture(look.images * mask(_aeft_foreground(look), settings["erase_above"]))


# ---- SEAM: affinities of two neighbouring cells


def _affinity(on_object: bool) -> Callable[[Look], Picture]:
    def draw(look: Look) -> Picture:
        taps = look.method.backbone(look.images)
        features = look.method.f9(look.method.features(look.images, taps))[0]  # D h w
        pair = outline_pair(look.dataset.mask(look.image_id), features.shape[1:])
        if pair is None:
            return look.image
        y, x = pair[0] if on_object else pair[1]
        f = features / (features.norm(dim=0) + EPS)  # D h w
        affinity = torch.relu(torch.einsum("d,dhw->hw", f[:, y, x], f))  # h w
        picture = look.heat(affinity[None, None] / affinity.max())
        return _cross(picture, (y + 0.5) / f.shape[1], (x + 0.5) / f.shape[2])

    return draw


def outline_pair(truth: np.ndarray, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Two neighbouring cells of an ``h×w`` grid, the first on an object, the second beside it.

    ``truth`` is ``H×W`` labels. Of all such pairs it is the one in the middle; None if there is no outline.
    """
    grid = np.asarray(Image.fromarray(truth).resize(size[::-1], Image.Resampling.NEAREST))
    pairs = []
    for dy, dx in ((0, 1), (1, 0)):
        first, second = grid[: size[0] - dy, : size[1] - dx], grid[dy:, dx:]
        known = (first != IGNORE) & (second != IGNORE)
        for y, x in np.argwhere(known & ((first > 0) != (second > 0))):
            cells = (int(y), int(x)), (int(y + dy), int(x + dx))
            pairs.append(cells if grid[y, x] > 0 else cells[::-1])
    return sorted(pairs)[len(pairs) // 2] if pairs else None


def _cross(picture: Picture, y: float, x: float) -> Picture:
    """``picture`` with a white cross at a position given as shares of its height and width."""
    marked, (height, width) = picture.copy(), picture.shape[:2]
    row, column, arm, half = int(y * height), int(x * width), max(height // 20, 2), height // 150
    marked[max(row - half, 0) : row + half + 1, max(column - arm, 0) : column + arm + 1] = 255
    marked[max(row - arm, 0) : row + arm + 1, max(column - half, 0) : column + half + 1] = 255
    return marked


# ---- ACR: what the reconstructor paints


def _acr_map(look: Look) -> Tensor:
    cam, _ = look.method.classifier(look.images)
    return acr.class_map(cam, look.labels, look.target, look.size)  # 1 1 H W


def _painted(inside: bool) -> Callable[[Look], Picture]:
    def draw(look: Look) -> Picture:
        multiple = 2 ** look.method.settings["unet_depth"]  # the decoder halves that often
        size = [max(1, round(side / multiple)) * multiple for side in look.size]
        look.images = resize(look.images, size)
        reconstructor, c_t = look.method.reconstructor, _acr_map(look)
        features = resize(reconstructor.features(reconstructor.backbone(look.images)), size)  # 1 D H W
        return look.picture(reconstructor.genUnet(features * (c_t if inside else 1 - c_t)))

    return draw


SHOW: dict[str, dict[str, Callable[[Look], Picture]]] = {  # kind of column -> method -> picture
    "foreground": {
        "eader": lambda look: look.heat(_eader_attention(look)),
        "aeft": lambda look: look.heat(_aeft_foreground(look)),
        "acr": lambda look: look.heat(_acr_map(look)),
    },
    "erased": {"eader": _eader_erased, "aeft": _aeft_erased},
    "affinity_object": {"seam": _affinity(True)},
    "affinity_beside": {"seam": _affinity(False)},
    "painted_inside": {"acr": _painted(True)},
    "painted_outside": {"acr": _painted(False)},
}


def painter(column: dict, dataset: Dataset) -> Callable[[str], Picture]:
    """What draws a grid's column ``{kind, model, config}``: image id -> picture, at scale 1."""
    name = column["config"]["method"]["name"]
    draw = choose(SHOW[column["kind"]], name, f"method for pictures of kind {column['kind']}:")
    method = load_method(column["config"], len(dataset.classes), column["model"])

    @torch.no_grad()
    def paint(image_id: str) -> Picture:
        return draw(Look(method, dataset, image_id))

    return paint
