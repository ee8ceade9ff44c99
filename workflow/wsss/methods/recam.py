"""ReCAM: Chen et al., CVPR 2022, "Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation".

arXiv:2203.00962. Seeds 54.8 mIoU on VOC train, pseudo masks 70.5 after IRNet (both as ACR's poster quotes them).
A trained classifier of CAM goes on learning. Each of its class maps cuts out the features of one class, and a second
head must tell which class that is. Its softmax sets classes against each other, which the binary losses of CAM do not.

Symbol   Here                |  Shapes: B batch, C foreground classes, D feature channels, h w = cells of conv6.
F        features            |  B D h w
w, w'    fc8, predictor      |  C D 1 1   heads; the first is that of the classifier it starts from
z                            |  B C       GAP(w F)
M        soft_masks          |  B C h w   ReLU(w F), each map divided by its maximum
f_c      class_features      |  B C D     GAP(M_c F)
L_bce    BCE(z, y)
L_sce    single_label_loss   |  cross entropy of softmax(w' f_c) with c, mean over the classes of an image, then images
L        L_bce + lambda L_sce, "lambda" = ``method.loss_weights.sce``
ReCAM    localize            |  B C h w   (w w') F, the product taken channel by channel
How the release zhaozhengChen/ReCAM@2bdbcd2 (the default) departs from IRN or from what one would expect
D1  class maps are (w w') F in the scripts of VOC. In the scripts of COCO they are w F, the class maps of the first head
    alone, though the training is the same. The release has code for w' F, but nothing calls it (``method.shown``:
    product, classifier or predictor).
D2  nothing is detached: L_sce reaches w through M and through its maximum.
D3  f_c is a mean over all cells, not over those of the mask: a small object has faint features.
D4  an image without any class counts in the mean of L_sce, with a loss of 0.
D5  its classifier is IRN's except for what is trained: IRN trains nothing below layer3, ReCAM fixes only conv1 and bn1.
D6  the release builds B C D h w products and averages them; here they are one matrix product. Same numbers.
D7  w' has 10 times the learning rate of all that is already trained, w included (``method.new_lr``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.groups import poly_groups
from wsss.methods.base import EPS, Method, multilabel_soft_margin
from wsss.settings.base import NonNegative, Section

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class LossWeights(Section):
    """Factors of the loss terms."""

    bce: NonNegative
    sce: NonNegative


class SettingsOfReCam(Section):
    """Section ``method``."""

    name: Literal["recam"]
    loss_weights: LossWeights
    shown: Literal["product", "classifier", "predictor"]
    new_lr: NonNegative


def soft_masks(maps: Tensor) -> Tensor:
    """Compute M: rectified maps ``B×C×h×w``, each divided by its maximum, which passes the gradient on, too (D2)."""
    maps = F.relu(maps)
    return maps / (maps.amax((2, 3), keepdim=True) + EPS)


def class_features(features: Tensor, masks: Tensor) -> Tensor:
    """Compute f_c: the mean over all cells of masked features (D3); ``B×D×h×w``, ``B×C×h×w`` -> ``B×C×D``."""
    cells = features[0, 0].numel()
    return torch.einsum("bchw,bdhw->bcd", masks, features) / cells


def single_label_loss(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Compute L_sce: the cross entropy of telling which class a class feature belongs to.

    Args:
        features: f, ``B×C×D``; those of absent classes are not used.
        labels: ``B×C`` of 0, 1.
        weight: w', ``C×D``.

    Returns:
        The mean over images of the mean over their classes, a scalar; an image without a class adds 0 (D4).
    """
    image, own = labels.nonzero(as_tuple=True)  # N, N: one entry per present class
    losses = F.cross_entropy(features[image, own] @ weight.T, own, reduction="none")  # N
    shares = 1 / labels.sum(1)[image]  # N
    return (losses * shares).sum() / len(labels)


class ReCam(Method):
    """A classifier with a second head, trained on the features that its own class maps cut out."""

    new_parts = ("predictor",)  # a classifier to start from lacks it

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        self.weights_kind = "irn_cam" if config["backbone"]["name"] == "resnet50" else "psa"
        self.settings: SettingsOfReCam = config["method"]
        channels = self.backbone.channels["conv6"]
        self.fc8 = nn.Conv2d(channels, n_classes, 1, bias=False)
        self.predictor = nn.Conv2d(channels, n_classes, 1, bias=False)

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        new, trained = [self.predictor], [self.fc8, self.backbone]
        return poly_groups((self.settings["new_lr"], new), (1.0, trained), norm_decay=1.0)

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        images, labels = batch["image"], batch["labels"]
        features = self.backbone(images)["conv6"].float()  # B D h w; bf16 has too few digits for what follows
        maps = self.fc8(features).float()  # B C h w
        own = class_features(features, soft_masks(maps))  # B C D
        weights = self.settings["loss_weights"]
        return {
            "bce": weights["bce"] * multilabel_soft_margin(maps.mean((2, 3)), labels),
            "sce": weights["sce"] * single_label_loss(own, labels, self.predictor.weight.flatten(1)),
        }

    def classify(self, images: Tensor) -> Tensor:
        return self.fc8(self.backbone(images)["conv6"]).mean((2, 3))

    def localize(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return F.conv2d(self.backbone(images)["conv6"], self.shown_weight())

    def shown_weight(self) -> Tensor:
        """Return the weight ``C×D×1×1`` that class maps are taken with (D1)."""
        if self.settings["shown"] == "classifier":
            return self.fc8.weight
        if self.settings["shown"] == "predictor":
            return self.predictor.weight
        return self.fc8.weight * self.predictor.weight
