"""AEFT: Yoon et al., ECCV 2022, "Adversarial Erasing Framework via Triplet with Gated Pyramid Pooling Layer".

Seeds 54.2 mIoU on VOC train with the gated pyramid pooling (GPP) layer alone, 56.0 with the triplet (paper).
The triplet: an anchor image, the same image with its foreground erased (positive), and one of other classes (negative).

Symbol     Here             |  Shapes: B batch, C foreground classes, H W image size, h w = H / 8, W / 8 on ResNet38d.
A          cam              |  B C h w   fc9(ReLU(fc8(F)))
G_k        pyramid          |  B C h w   A averaged in k×k bins and resized back, k = 2, 4, 8, 16
G          pool             |  B C h w   gate(gate(gate(G_2, G_4), G_8), G_16), "gpp"
z          signed_logits    |  B C       GAP(ReLU(A) ReLU(G)) - GAP(ReLU(-A) ReLU(-G)), the sign-preserving attention
x+         x mask_soft      |  B 3 H W   positive image
L_cls      BCE(z, y)        |  over the first 8 images of the batch
L_attract  attract_soft     |  mean |P(G(x)) y - P(G(x+)) y|, P = GAP(ReLU(.))
L_repel    repel            |  hinge on the distance of anchor and negative in normalised G
L          W_cls L_cls + W_attract L_attract + W_repel L_repel; before epoch T only the first (T: ``triplet_from``)
How the release KAIST-vilab/AEFT@dc81899 (the default) departs from the paper or from what one would expect
D1  L_cls sees the first 8 images of a batch: all of them before epoch T (phase 1), and still 8 when batches then have
    32 (phase 2; ``method.cls_images``). On several GPUs the release counts them in the whole batch; here each GPU
    counts its own.
D2  where the soft foreground is below TH0 (``method.erase_above``), x+ is x times this foreground, and elsewhere 0. So
    background is erased, too. In the first version of the repository it was x [foreground < TH0] (``method.mask``: soft
    or hard). Nothing is detached.
D3  L_attract is the L1 distance; in the first version of the repository the squared distance of L2-normalised vectors,
    summed over present classes. Here that is the option soft_l2, with the norm taken over all classes: over the present
    ones alone, an image of one class would always have distance 0. The poster's "Attract (Rigid)", BCE of x+ with all
    labels, is not released (``method.attract``: soft, soft_l2 or rigid).
D4  there is no triplet margin between L_attract and L_repel. Labels of anchor and negative are disjoint, so their
    distance is the sum of both squared norms, and L_repel lifts both until that sum is ``method.margin``.
D5  only the activated region of the anchor is left out of its average. The negative's threshold is 1, which no
    normalised map reaches, so its whole map is averaged.
D6  an anchor whose batch has no image of other classes ends the released run; here it is left out of L_repel.
D7  new layers learn at the rate of the backbone; PSA's fc8 at ten times that (``method.new_lr``).
D8  the poly schedule counts every epoch as if its batches were those of phase 1 (``wsss.schedule``): with 10582 images
    52880 steps, of which 31056 are made, so the rate ends at 0.45 of its start (``train.optimizer.poly_epochs``).
D9  bn8 of the release is never used and does not exist here. Class maps are the CAM A before pooling, not what the
    pooling layer gives.
D10 the authors keep the epoch of the classifier, and of AffinityNet, whose result scores best on masks of the training
    images. They measure the classifier after every epoch from 17 on. On ``voc12`` our classifiers do so with every
    fourth epoch from 19 on (``train.select``, ``select_every``, ``select_from``); others, and AffinityNets, keep the
    last.
D11 AffinityNet has PSA's dropout (.3/.5) and frozen parts, not the classifier's dropout (``affinity.backbone``).
D12 AffinityNet trains without dropout from step 1600 of 10,576 on: the release's validation during training leaves the
    network in evaluation mode (``affinity.dropout_until``; null: dropout to the end).
D13 an image without any class counts in L_cls, adds 0 to L_attract (with ``method.attract: rigid``, its BCE), and may
    be drawn in L_repel as the partner of any image, even of itself.                                                ours
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import resize
from wsss.groups import poly_groups
from wsss.methods.base import EPS, Method, head, max_norm, multilabel_soft_margin
from wsss.schedule import batch_sizes
from wsss.settings.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Probability, Section, rule

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Loop, Settings
    from wsss.train import LabelledBatch


class LossWeights(Section):
    """Factors of the loss terms."""

    cls: NonNegative
    attract: NonNegative
    repel: NonNegative


class SettingsOfAeft(Section):
    """Section ``method``."""

    name: Literal["aeft"]
    width: PositiveInt
    pooling: Annotated[
        str,
        rule(
            "one of coarse_to_fine, fine_to_coarse, average, single:<level>",
            pattern=r"^(coarse_to_fine|fine_to_coarse|average|single:[1-9][0-9]*)$",
        ),
    ]
    levels: Annotated[list[PositiveInt], rule("a list of whole numbers of 1 or more", min_length=1)]
    triplet_from: NonNegativeInt
    loss_weights: LossWeights
    cls_images: PositiveInt | None
    mask: Literal["soft", "hard"]
    attract: Literal["soft", "soft_l2", "rigid"]
    erase_above: Probability
    repel_below: Probability
    margin: Positive
    min_hard: NonNegativeInt
    new_lr: NonNegative


class Output(NamedTuple):
    """The network's output for a batch: A ``B×C×h×w``, G ``B×C×h×w``, z ``B×C``."""

    cam: Tensor
    gpp: Tensor
    logits: Tensor


# ---- Gated pyramid pooling


class Gate(nn.Module):
    """Blend two maps; at each cell and for each sign one weight per map, shared by the classes."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.att_p = _attention(n_classes)
        self.att_n = _attention(n_classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self._rectified(self.att_p, x, y) - self._rectified(self.att_n, -x, -y)

    @staticmethod
    def _rectified(attention: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x, y = F.relu(x), F.relu(y)
        a = attention(torch.cat([x, y], 1))  # B 2 h w
        return (x * a[:, :1] + y * a[:, 1:]) / 2


def _attention(n_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2 * n_classes, 2, 3, padding=1, bias=False), nn.Sigmoid())


def pyramid(cam: Tensor, levels: list[int]) -> list[Tensor]:
    """Compute G_k of every level: average ``B×C×h×w`` in k×k bins, then resize to h×w."""
    return [resize(F.adaptive_avg_pool2d(cam, level), cam.shape[2:]) for level in levels]


def signed_logits(cam: Tensor, gpp: Tensor) -> Tensor:
    """Compute z: cells where both maps agree in sign vote for or against a class; two ``B×C×h×w`` -> ``B×C``."""
    return (F.relu(cam) * F.relu(gpp) - F.relu(-cam) * F.relu(-gpp)).mean((2, 3))


# ---- Triplet


def foreground(cam: Tensor, labels: Tensor, size: Sequence[int]) -> Tensor:
    """Take the highest value at each pixel of the normalised present maps, ``B×1×H×W`` in [0, 1)."""
    most = int(labels.sum(1).max())  # images have few of the C classes: only that many maps are upsampled
    present, classes = labels.topk(max(most, 1))  # B K
    maps = cam.gather(1, classes[:, :, None, None].expand(-1, -1, *cam.shape[2:]))  # B K h w
    maps = max_norm(resize(F.relu(maps), size)) * present[:, :, None, None]  # B K H W
    return maps.amax(1, keepdim=True)


def mask_soft(fg: Tensor, threshold: float) -> Tensor:
    """Compute the released mask: the foreground where it is below the threshold, else 0."""
    return fg * (fg < threshold)


def mask_hard(fg: Tensor, threshold: float) -> Tensor:
    """Compute the plain mask: 1 where the foreground is below the threshold, else 0."""
    return (fg < threshold).to(fg.dtype)


def attract_soft(anchor: Output, positive: Output, labels: Tensor) -> Tensor:
    """Compute L_attract: the L1 distance of the pooled G of present classes, mean over images and all classes."""
    return ((_pooled(anchor.gpp) - _pooled(positive.gpp)) * labels).abs().mean()


def attract_soft_l2(anchor: Output, positive: Output, labels: Tensor) -> Tensor:
    """Compute the squared distance of the L2-normalised vectors, summed over present classes, mean over images."""
    a, p = (F.normalize(_pooled(output.gpp), eps=EPS) for output in (anchor, positive))
    return ((a - p) * labels).square().sum(1).mean()


def attract_rigid(anchor: Output, positive: Output, labels: Tensor) -> Tensor:
    """Compute the rigid L_attract: the BCE of the erased image with all labels of the image."""
    return multilabel_soft_margin(positive.logits, labels)


def _pooled(gpp: Tensor) -> Tensor:
    return F.relu(gpp).mean((2, 3))  # B C


def sample_partner(labels: Tensor) -> Tensor:
    """Draw for each image another one without a common class, or itself if there is none; ``B×C`` -> ``B``.

    An image without any class may draw itself, too (D13).
    """
    disjoint = ((labels @ labels.T) == 0).to(labels.dtype)  # B B
    alone = (disjoint.sum(1) == 0).to(labels.dtype)
    return torch.multinomial(disjoint + alone.diag(), 1).squeeze(1)


def repel(
    cam: Tensor, gpp: Tensor, labels: Tensor, partner: Tensor, threshold: float, margin: float, min_hard: int
) -> Tensor:
    """Compute L_repel: the mean of ReLU(margin - d) over hard pairs (d < margin), if more than ``min_hard`` are there.

    d is the squared distance of an anchor, averaged where its class map is below ``threshold``, and its partner.
    Partners that share a class are no pair (D6).
    """
    f = gpp / (gpp.abs().amax((2, 3), keepdim=True) + EPS)  # B C h w
    faint = max_norm(F.relu(cam.detach())) * labels[:, :, None, None] < threshold  # B C h w
    a = (f * faint).sum((2, 3)) / (faint.sum((2, 3)) + EPS) * labels  # B C
    b = f.mean((2, 3)) * labels  # B C   D5
    d = (a - b[partner]).square().sum(1)  # B
    hard = (d < margin) & ((labels * labels[partner]).sum(1) == 0)
    n = hard.sum()
    return (F.relu(margin - d) * hard).sum() / n.clamp(min=1) * (n > min_hard)


MASKS = {"soft": mask_soft, "hard": mask_hard}
ATTRACT = {"soft": attract_soft, "soft_l2": attract_soft_l2, "rigid": attract_rigid}


def triplet_losses(
    anchor: Output,
    images: Tensor,
    labels: Tensor,
    partner: Tensor,
    network: Callable[[Tensor], Output],
    settings: SettingsOfAeft,
) -> dict[str, Tensor]:
    """Compute the weighted L_attract and L_repel. ``network`` sees the positives; a term of weight 0 is left out."""
    weights, terms = settings["loss_weights"], {}
    if weights["attract"]:
        mask, distance = MASKS[settings["mask"]], ATTRACT[settings["attract"]]
        fg = foreground(anchor.cam, labels, images.shape[2:])
        positive = network(images * mask(fg, settings["erase_above"]))
        terms["attract"] = weights["attract"] * distance(anchor, positive, labels)
    if weights["repel"]:
        rule = (settings["repel_below"], settings["margin"], settings["min_hard"])
        loss = repel(anchor.cam, anchor.gpp, labels, partner, *rule)
        terms["repel"] = weights["repel"] * loss
    return terms


def classification_loss(logits: Tensor, labels: Tensor, settings: SettingsOfAeft, seen: int) -> Tensor:
    """Compute the weighted L_cls of the first ``seen`` images (D1)."""
    return settings["loss_weights"]["cls"] * multilabel_soft_margin(logits[:seen], labels[:seen])


def seen_by_classification(settings: SettingsOfAeft, train: Loop) -> int:
    """Count the images of a micro-batch that L_cls sees (D1)."""
    _, first = batch_sizes(train)[0]
    return max((settings["cls_images"] or first) // train["accumulate"], 1)


# ---- Method


def pooling_of(settings: SettingsOfAeft) -> tuple[str, list[int]]:
    """Read ``method.pooling``: how levels are fused, and which. ``single:4`` is level 4 alone; the others use all."""
    pooling, levels = settings["pooling"], settings["levels"]
    kind, _, level = pooling.partition(":")
    if kind == "single":
        return "average", [int(level)]
    orders = {"coarse_to_fine": ("gated", levels), "fine_to_coarse": ("gated", levels[::-1])}
    return {**orders, "average": ("average", levels)}[pooling]


class Aeft(Method):
    """A classifier with gated pyramid pooling, trained on triplets of images."""

    weights_kind = "aeft"

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        self.settings: SettingsOfAeft = config["method"]
        self.seen = seen_by_classification(self.settings, config["train"])
        width = self.settings["width"]
        self.fc8 = head(self.backbone.channels["conv6"], width)
        self.fc9 = head(width, n_classes)
        self.fusion, self.levels = pooling_of(self.settings)
        self.gates = [f"gconv{i}" for i in range(1, len(self.levels))] if self.fusion == "gated" else []
        for name in self.gates:
            setattr(self, name, Gate(n_classes))

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        new = [module for name, module in self.named_children() if name != "backbone"]
        return poly_groups((self.settings["new_lr"], new), (1.0, [self.backbone]))

    def forward(self, images: Tensor) -> Output:
        cam = self.localize(images).float()  # B C h w; bf16 has too few digits for what follows
        gpp = self.pool(cam)  # B C h w
        return Output(cam, gpp, signed_logits(cam, gpp))

    def pool(self, cam: Tensor) -> Tensor:
        """Compute G: fuse the levels of A by gates in their order, or average them."""
        first, *others = pyramid(cam, self.levels)
        if not self.gates:
            return (first + sum(others)) / len(self.levels)
        for name, level in zip(self.gates, others, strict=True):
            first = getattr(self, name)(first, level)
        return first

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        return self.terms(batch["image"], batch["labels"], sample_partner(batch["labels"]), progress.epoch)

    def terms(self, images: Tensor, labels: Tensor, partner: Tensor, epoch: int) -> dict[str, Tensor]:
        """Compute all weighted losses of images ``B×3×H×W``, labels ``B×C`` and negatives ``B``, as of ``epoch``."""
        weights = self.settings["loss_weights"]
        triplet = epoch >= self.settings["triplet_from"] and (weights["attract"] or weights["repel"])
        if not triplet:  # nothing is learned from the others
            images, labels = images[: self.seen], labels[: self.seen]
        anchor = self(images)
        terms = {"cls": classification_loss(anchor.logits, labels, self.settings, self.seen)}
        if triplet:
            terms |= triplet_losses(anchor, images, labels, partner, self, self.settings)
        return terms

    def classify(self, images: Tensor) -> Tensor:
        logits: Tensor = self(images).logits
        return logits

    def localize(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.fc9(F.relu(self.fc8(self.backbone(images)["conv6"])))
