"""EADER: Stammes et al., "Find it if You Can: End-to-End Adversarial Erasing for Weakly-Supervised Semantic
Segmentation", arXiv:2011.04626. CAM on VOC val: 43.89 mIoU at alpha = .05, 41.37 at alpha = 0 (thesis slides).

A localizer G classifies images and shows where; an adversary F classifies images from which a class was erased there.
G learns maps that leave F nothing to see; F learns to see what is left.

Symbol    Here               |  Shapes: B batch, C foreground classes, D channels, P pairs (image i, present class c),
A         features           |  H W image, h w cells of the last feature map.
a_ic      attention          |  P 1 H W    in [0, 1]; Grad-CAM or CAM of the pair
M_ic      soft_mask          |  P 1 H W    sigmoid(omega (a - sigma))
x~_ic     erase              |  P 3 H W    x (1 - M), the mean colour where erased
p, q_ic                      |  B C of G(x); P C of F(x~): probabilities, of which the code has the logits
L_loc     localizer_loss     |  BCE(p, y)
L_am      localizer_loss     |  mean q_ic[c]: attention mining
L_reg     localizer_loss     |  mean a_ic
L_G       their sum          |  L_loc + alpha L_am + beta L_reg
L_adv     adversary_loss     |  BCE(q_ic, y_i)

How the release ErikStammes/EADER@9d81e40 (the default) departs from paper and slides; (ours): how we depart from it
D1  L_am and L_reg are means over pairs; the slides divide an image's sums over its classes by C: ``method.average``.
D2  L_adv asks for all labels of the image, the erased class included.                                      release
D3  200 steps train G, the next 200 F, and so on (``method.alternate_steps``); the slides leave the order open.
D4  both networks stay in training mode, so the batch norms of each also follow the other's steps: ``method.follow``.
D5  Grad-CAM's channel weights are constants, CAM's are trained through; only Grad-CAM has a ReLU before normalisation.
D6  (ours) Grad-CAM without its backward pass: before GAP and a linear head, the gradient of y_c is w_c / (h w), and
    the normalisation removes the h w. ``gcam_backward`` differentiates as the release does; equal up to rounding.
D7  the released evaluation never leaves training mode, so each image is normalised by its own statistics:
    ``cam.norm: image``; ``running`` (default) uses the trained ones. Which made the published table is unknown.
D8  alpha = 0 in the table may mean F without influence (``alpha: 0``) or no F at all (``adversary: null``). In the
    second case all steps here train G with L_loc alone, whereas the release still adds beta L_reg (1e-5 times the maps'
    mean).
D9  EADER inside PSA (slides, integrability) has no released code: ``method.head: psa`` with PSA's backbone, head,
    parameter groups and optimizer, and F at ``adversary.lr_scale`` times the localizer's rate, is our reading.
D10 the release takes the classes of an image from its mask. Here no classifier takes its labels from masks: the classes
    are the data set's image-level labels, for VOC those of the annotations, or of any file that the data set's
    ``labels`` names.
D11 the release also trains on the last, smaller batch of an epoch: ``train.drop_last``.
D12 an image without any class is in no pair and adds to L_loc alone; a batch of such images teaches F nothing.   ours
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsss import backbones
from wsss.backbones.base import resize
from wsss.groups import poly_groups
from wsss.methods.base import Method, multilabel_soft_margin
from wsss.methods.turns import waiting
from wsss.settings.base import Backbone, NonNegative, NonNegativeInt, Positive, Probability, Section, rule

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class AdversarySettings(Section):
    """The adversary's network, and the factor from the localizer's learning rate to its own."""

    backbone: Backbone
    lr_scale: Positive


class SettingsOfEader(Section):
    """Section ``method``."""

    name: Literal["eader"]
    adversary: AdversarySettings | None
    head: Literal["linear", "psa"]
    attention: Literal["gcam", "cam", "gcam_backward"]
    alpha: NonNegative
    beta: NonNegative
    average: Literal["pairs", "classes"]
    omega: Positive
    sigma: Probability
    alternate_steps: Annotated[list[NonNegativeInt], rule("two whole numbers of 0 or more", min_length=2, max_length=2)]
    follow: bool


def gcam(features: Tensor, image: Tensor, cls: Tensor, head: nn.Linear) -> Tensor:
    """Compute Grad-CAM of a linear head over GAP, times h w (D6): ReLU(w_c A_i) with constant w, ``P×h×w``."""
    return F.relu(torch.einsum("bdhw,cd->bchw", features, head.weight.detach())[image, cls])


def gcam_backward(features: Tensor, image: Tensor, cls: Tensor, head: nn.Linear) -> Tensor:
    """Compute Grad-CAM by differentiating the head: ReLU(w_ic A_i), ``P×h×w``.

    w_ic is the mean over cells of d logit_ic / d A_i.
    """
    weights = features.new_empty(len(image), features.shape[1])  # P D
    with torch.enable_grad():
        watched = features.detach().requires_grad_()
        logits = head(watched.mean((2, 3)))  # B C
        for c in cls.unique().tolist():  # one backward pass per class: images do not mix
            gradient = torch.autograd.grad(logits[:, c].sum(), watched, retain_graph=True)[0]
            weights[cls == c] = gradient.mean((2, 3))[image[cls == c]]
    return F.relu(torch.einsum("pdhw,pd->phw", features[image], weights))


def cam(features: Tensor, image: Tensor, cls: Tensor, head: nn.Linear) -> Tensor:
    """Compute CAM: w_c A_i, ``P×h×w``; the gradient also reaches w (D5)."""
    return torch.einsum("bdhw,cd->bchw", features, head.weight)[image, cls]


ATTENTION = {"gcam": gcam, "gcam_backward": gcam_backward, "cam": cam}


def attention(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Compute a: maps ``P×h×w`` at image size ``P×1×H×W``, with minimum 0 and maximum 1 (or all 0)."""
    maps = resize(maps[:, None].float(), size)
    maps = maps - maps.amin((2, 3), keepdim=True)
    high = maps.amax((2, 3), keepdim=True)
    return maps / torch.where(high == 0, 1.0, high)


def soft_mask(attention: Tensor, omega: float, sigma: float) -> Tensor:
    """Compute M = sigmoid(omega (a - sigma)): a smooth step at ``sigma``."""
    return torch.sigmoid(omega * (attention - sigma))


def localizer_loss(
    logits: Tensor, labels: Tensor, attention: Tensor, found: Tensor, cls: Tensor, w: SettingsOfEader
) -> dict[str, Tensor]:
    """Compute the terms of L_G = L_loc + alpha L_am + beta L_reg.

    ``found`` are F's logits of the erased images, ``P×C``.
    ``w`` has ``alpha``, ``beta`` and ``average``: "pairs", or "classes" for the slides' 1 / C (D1).
    """
    mined = torch.sigmoid(found.float()).gather(1, cls[:, None])  # P 1    q_ic[c]
    divisor = {"pairs": len(cls), "classes": labels.numel()}[w["average"]]
    return {
        "loc": multilabel_soft_margin(logits, labels),
        "am": w["alpha"] * mined.sum() / divisor,
        "reg": w["beta"] * attention.mean((1, 2, 3)).sum() / divisor,
    }


def adversary_loss(found: Tensor, labels: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Compute L_adv: the BCE of the erased images with all labels of the images they were made from (D2)."""
    return {"adv": multilabel_soft_margin(found, labels[image])}


class Adversary(nn.Module):
    """F: a backbone, GAP and a linear layer. ``B×3×H×W`` -> ``B×C`` logits."""

    def __init__(self, spec: Backbone, n_classes: int):
        super().__init__()
        self.backbone = backbones.build(spec)
        self.fc = nn.Linear(self.backbone.channels["conv6"], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.backbone(images)["conv6"].mean((2, 3)))
        return logits


class Eader(Method):
    """``backbone`` and ``fc`` are the localizer."""

    weights_kind = "eader"

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        settings: SettingsOfEader = config["method"]
        self.settings = settings
        self.psa = settings["head"] == "psa"
        self.maps = ATTENTION[settings["attention"]]
        shown = config.get("cam")  # a training has it only with train.select: best
        self.image_norm = shown is not None and shown["norm"] == "image"
        self.fc = nn.Linear(self.backbone.channels["conv6"], n_classes, bias=not self.psa)
        self.drop = nn.Dropout(0.5 if self.psa else 0.0)
        if self.psa:
            nn.init.xavier_uniform_(self.fc.weight)
        adversary = settings["adversary"]
        self.adversary = Adversary(adversary["backbone"], n_classes) if adversary else None
        self.phases = ("localizer", "adversary") if adversary else ("localizer",)

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        adversary = self.settings["adversary"]
        if phase == "adversary" and self.adversary is not None and adversary is not None:
            return _one_group([self.adversary], adversary["lr_scale"])
        if self.psa:
            return poly_groups((10.0, [self.fc]), (1.0, [self.backbone]))
        return _one_group([self.backbone, self.fc])

    def active_phases(self, progress: Progress) -> tuple[str, ...]:
        """Alternate in blocks of ``alternate_steps`` steps of G and of F; without adversary always G (D3)."""
        if self.adversary is None:
            return self.phases
        steps, others = self.settings["alternate_steps"]
        return ("localizer",) if progress.step % (steps + others) < steps else ("adversary",)

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        images, labels, follow = batch["image"], batch["labels"], self.settings["follow"]
        if self.adversary is None:
            return {"loc": multilabel_soft_margin(self._logits(self._features(images)), labels)}
        image, cls = labels.nonzero(as_tuple=True)  # P, P
        if phase == "adversary":
            if not len(cls):
                return {"adv": 0 * self.adversary(images).sum()}  # D12
            with torch.no_grad(), waiting(self.backbone, training=follow):
                a = self.attention(self._features(images), image, cls, images.shape[2:])
            return adversary_loss(self.adversary(self.erase(images, a, image)), labels, image)
        features = self._features(images)  # B D h w
        if not len(cls):
            nothing = features.new_zeros(())
            return {"loc": multilabel_soft_margin(self._logits(features), labels), "am": nothing, "reg": nothing}  # D12
        a = self.attention(features, image, cls, images.shape[2:])  # P 1 H W
        with waiting(self.adversary, training=follow):
            found = self.adversary(self.erase(images, a, image))  # P C
        return localizer_loss(self._logits(features), labels, a, found, cls, self.settings)

    def attention(self, features: Tensor, image: Tensor, cls: Tensor, size: Sequence[int]) -> Tensor:
        """Compute a of the pairs (``image``, ``cls``), ``P×1×H×W``."""
        return attention(self.maps(features, image, cls, self.fc), size)

    def erase(self, images: Tensor, attention: Tensor, image: Tensor) -> Tensor:
        """Compute x~ = x (1 - M), ``P×3×H×W``: the mean colour where the attention is high."""
        return images[image] * (1 - soft_mask(attention, self.settings["omega"], self.settings["sigma"]))

    def classify(self, images: Tensor) -> Tensor:
        return self._logits(self._features(images))

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        with image_statistics(self.backbone) if self.image_norm else nullcontext():
            parts = images.split(1) if self.image_norm else [images]
            features = torch.cat([self._features(part) for part in parts])
        return torch.einsum("bdhw,cd->bchw", features, self.fc.weight)

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)["conv6"]
        return features

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.drop(features.mean((2, 3))))
        return logits


@contextmanager
def image_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms in the block normalise by the statistics of their input, and not record these (D7)."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, (training, track) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, track


def _one_group(networks: list[nn.Module], lr_scale: float = 1.0) -> list[ParameterGroup]:
    learning = [p for network in networks for p in network.parameters() if p.requires_grad]
    return [{"params": learning, "lr_scale": lr_scale, "decay_scale": 1.0}]
