"""Training of IRNet on confident areas of class scores (Ahn et al., CVPR 2019, arXiv:1904.05044).

scores -> irn_labels -> irn_train (network in irn_net, losses in losses) -> irn_walk | irn_instances
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.backbones import initial
from wsss.data.transforms import MaskedView, normalise, resize_label, to_tensor
from wsss.errors import WsssError
from wsss.refine import check_size, irn_net
from wsss.stores import Masks
from wsss.train import fit


def reduce_label(label: Tensor) -> Tensor:
    """Label map of an image, ``H×W`` uint8, at IRNet's stride: ``h×w``, nearest neighbour."""
    h, w = (-(-size // irn_net.STRIDE) for size in label.shape)
    return torch.from_numpy(resize_label(label.numpy(), h, w).copy())


class IrnSamples:
    """Training samples: ``id``, ``image`` ``3×crop×crop`` and ``label`` ``h×w`` at stride 4 (255 ignore).

    Args:
        dataset: the training split.
        mask_paths: mask shards of :func:`wsss.refine.irn_labels.irn_labels_stage`.
        train: crop, scale (range of the random factor of the image size) and flip (its chance).
        convention: the pixels the backbone expects, ``rgb`` or ``vgg_bgr``.

    Raises:
        WsssError: an image is in no shard.
    """

    def __init__(self, dataset, mask_paths: Iterable[str | Path], train: dict, convention: str = "rgb"):
        self.dataset, self.paths = dataset, list(mask_paths)
        self.view = MaskedView(train["crop"], train["scale"], train["flip"], input=convention)
        known = Masks(self.paths)
        for image_id in dataset.ids:
            if image_id not in known:
                raise WsssError(f"no marks for image '{image_id}'; run irn-labels on all training images")

    @cached_property
    def marks(self) -> Masks:
        """Opened at the first use: a loader process must not share file positions with its parent."""
        return Masks(self.paths)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int, rng: np.random.Generator) -> dict:
        image_id = self.dataset.records[index].id
        image, label = self.dataset.image(image_id), self.marks.get(image_id)
        check_size(image_id, image, label)
        image, label = self.view(image, label, rng)
        return {"id": image_id, "image": image, "label": reduce_label(label)}


def top_left(image: np.ndarray, crop: int, convention: str) -> Tensor:
    """The upper left ``crop×crop`` pixels of an image, normalised and padded with the mean colour: ``3×crop×crop``."""
    x = to_tensor(normalise(image[:crop, :crop], convention))
    return F.pad(x, (0, crop - x.shape[2], 0, crop - x.shape[1]))


@torch.no_grad()
def mean_displacement(net: irn_net.IRNet, images: Iterable[Tensor]) -> Tensor:
    """Mean over images (``3×H×W`` each, of one size) and cells of the displacements in evaluation mode: ``2``."""
    net.eval()
    device = net.mean_shift.running_mean.device
    return torch.stack([net(image[None].to(device))[1].mean((0, 2, 3)) for image in images]).mean(0)


def irnet_stage(
    config: dict, dataset, mask_paths: Iterable[str | Path], out_dir: str | Path, device: str = "auto"
) -> None:
    """Train IRNet on the marks of ``irn_labels_stage`` and write ``model.pt`` to ``out_dir``.

    Without any supervision the displacements of an image have a free additive constant; after training their mean over
    the images of the seed split is stored in the model, which subtracts it from then on. Official weights hold one.
    """
    irn, train = config["irn"], config["irn"]["train"]
    torch.manual_seed(config["seed"])
    net = irn_net.build(initial(irn, train))
    convention = net.backbone.input
    seeds = dataset.split(config["dataset"]["splits"]["seed"])
    samples = None if train.get("weights") else IrnSamples(dataset, mask_paths, train, convention)

    def centre(trained: irn_net.IRNet) -> None:
        views = (top_left(seeds.image(image_id), train["crop"], convention) for image_id in seeds.ids)
        trained.mean_shift.running_mean += mean_displacement(trained, views)

    fit(net, samples, train, config, out_dir, device, finish=centre)
