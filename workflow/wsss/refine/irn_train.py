"""Stage ``irn_train``: IRNet learns from confident areas of class scores (Ahn et al., CVPR 2019, arXiv:1904.05044).

The network is in ``irn_net``, its losses are in ``losses``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.backbones.weights import initial
from wsss.data.transforms import MaskedView, normalise, resize_label, to_tensor
from wsss.errors import WsssError
from wsss.refine import check_size, irn_net
from wsss.stores import Masks
from wsss.train import Training

if TYPE_CHECKING:
    from wsss.data.index import Dataset
    from wsss.job import Given
    from wsss.settings.sections import IrnLoop


def reduce_label(label: Tensor) -> Tensor:
    """Reduce the label map of an image, ``H×W`` uint8, to IRNet's stride: ``h×w``, nearest neighbour."""
    h, w = (-(-size // irn_net.STRIDE) for size in label.shape)
    return torch.from_numpy(resize_label(label.numpy(), h, w).copy())


class IrnSample(TypedDict):
    """An image ``3×crop×crop`` float32 and its label map ``h×w`` uint8 at stride 4, 255 ignore."""

    id: str
    image: Tensor
    label: Tensor


class IrnSamples:
    """Training samples of IRNet.

    Args:
        dataset: the images.
        mask_paths: mask shards of stage ``irn_marks``.
        train: the section ``irn_train.train``; ``crop``, ``scale`` and ``flip`` are read.
        convention: the pixels that the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an image is in no shard.
    """

    def __init__(
        self, dataset: Dataset, mask_paths: Iterable[str | Path], train: IrnLoop, convention: str = "rgb"
    ) -> None:
        self.dataset, self.paths = dataset, list(mask_paths)
        self.view = MaskedView(train["crop"], train["scale"] or None, train["flip"], input=convention)
        known = Masks(self.paths)
        for image_id in dataset.ids:
            if image_id not in known:
                raise WsssError(f"no marks for image '{image_id}'; give --masks of irn_marks for all training images")

    @cached_property
    def marks(self) -> Masks:
        """The marks, opened at the first use: a loader process must not share file positions with its parent."""
        return Masks(self.paths)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> IrnSample:
        """Augment the ``index``-th image at random, together with its marks.

        Raises:
            WsssError: the marks have another size; the message names the image.
        """
        image_id = self.dataset.records[index].id
        image, label = self.dataset.image(image_id), self.marks.get(image_id)
        check_size(image_id, image, label)
        view, seen = self.view(image, label, rng)
        return {"id": image_id, "image": view, "label": reduce_label(seen)}


def top_left(image: np.ndarray, crop: int, convention: str) -> Tensor:
    """Cut out the upper left pixels of an image, normalised and padded with the mean colour: ``3×crop×crop``."""
    x = to_tensor(normalise(image[:crop, :crop], convention))
    return F.pad(x, (0, crop - x.shape[2], 0, crop - x.shape[1]))


@torch.no_grad()
def mean_displacement(net: irn_net.IRNet, images: Iterable[Tensor]) -> Tensor:
    """Average the displacements over images (``3×H×W``, of one size) and cells, in evaluation mode, to a vector."""
    net.eval()
    device = net.mean_shift.running_mean.device
    return torch.stack([net(image[None].to(device))[1].mean((0, 2, 3)) for image in images]).mean(0)


def irn_train(given: Given) -> Training:
    """Set up the training of IRNet on the marks of ``given.images``.

    Nothing supervises the mean displacement of an image. After training, the mean over the images of the split
    ``measured`` is stored in the model, which subtracts it from then on. Official weights have one, too.

    Raises:
        WsssError: an image is in no shard.
    """
    section = given.settings["irn_train"]
    train = section["train"]
    net = irn_net.build(initial(section, train))
    if train["weights"]:
        return Training(net, None, train)
    convention = net.backbone.input
    measured = given.dataset.part("measured", given.settings["dataset"]["splits"])

    def centre(trained: irn_net.IRNet) -> None:
        views = (top_left(measured.image(image_id), train["crop"], convention) for image_id in measured.ids)
        trained.mean_shift.running_mean += mean_displacement(trained, views)

    return Training(net, IrnSamples(given.images, given.masks or (), train, convention), train, centre)
