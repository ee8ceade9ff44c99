"""SEAM: Wang et al., CVPR 2020, arXiv:2004.04581. mIoU on VOC train: CAM 55.41, with CRF 56.83, with random walk 63.61.

Paper   Symbol  Here                  |  Shapes: B batch, C foreground classes, K = C + 1 (channel 0 is background),
Eq. 3   A       EquivariantTransform  |  D features, h w = conv6's, P = h w, H W = image, H' W' = transformed image.
Eq. 6   y       pixel_correlation     |  Views: _o original, _t transformed, compared in the frame of A(I):
Eq. 7-8 L_cls   in seam_losses        |  cam_o = A(F(I)), cam_t = F(A(I)); revised_o, revised_t after PCM likewise.
Eq. 9   L_ER    er_loss               |  Compared maps are max-normalised, absent classes 0.
Eq. 10  L_ECR   ecr_loss
Eq. 11          with_background, keep_strongest
Eq. 12  L       seam_losses
How the release SEAM@3212261 (the default) departs from the paper ("->": how to follow the paper)
D1  a further term L_rvmin makes revised maps small on the least active quarter of pixels -> method.loss_weights.rvmin 0
D2  class scores are means of the CAM upsampled to the image (align_corners), not of the CAM    -> method.as_paper: [D2]
D3  L_ER is a mean over all C channels: n present classes count n / C (nothing undoes this exactly, since n differs from
    image to image; ``method.loss_weights.er`` is the factor of the term)
D4  OHEM keeps the largest 20 % of (channel, pixel) entries of an image, not of its pixels      -> method.as_paper: [D4]
D5  L_ER and L_ECR compare maps normalised to [0, 1] per class, of the present classes; PCM gets maps divided by their
    maximum. The text has no such step: it takes the rectified maps of all classes as they are; 1 - max may be negative
                                                                                                -> method.as_paper: [D5]
D7  SGD has momentum 0.0005, the weight decay handed over at the wrong place            -> train.optimizer.momentum 0.9
Choices that the text leaves open; these are the release's (D9: ours; D6 names another reading)
D6  1 - max (Eq. 11) is the background of the original CAM, in PCM and in the target of L_ECR; the revised map keeps the
    background that PCM made of it. In PCM absent classes, too, compete to be the strongest of a cell. Channel 0 of the
    CAM head itself is never used            -> method.as_paper: [D6], 1 - max as the background of CAM and revised map
D8  the features of "stage 3 and stage 4" are the activated inputs of b5 and b6 (taps conv4, conv5)
D9  the release only rescales; flip, rotation and translation (Table 3) are ours: drawn per image, translation by 15
    pixels in a random direction per axis, zeros from outside
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import resize
from wsss.groups import poly_groups
from wsss.methods.base import EPS, Method, head, max_norm, multilabel_soft_margin
from wsss.settings.base import Below1, NonNegative, NonNegativeInt, Positive, Probability, Section, Share

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class LossWeights(Section):
    """Factors of the loss terms."""

    cls: NonNegative
    er: NonNegative
    ecr: NonNegative
    rvmin: NonNegative


class Moves(Section):
    """The transformation of the second view."""

    rescale: Positive
    flip: Probability
    rotation: NonNegative
    translation: NonNegativeInt


class SettingsOfSeam(Moves):
    """Section ``method``."""

    name: Literal["seam"]
    dropout: Below1
    er: bool
    pcm: bool
    ohem: Share | None
    rvmin_keep: Share
    loss_weights: LossWeights
    as_paper: list[Literal["D2", "D4", "D5", "D6"]]


COLUMNS = 4096  # cells of a map that PCM handles at once: bounds its memory, not its result
Transform = Callable[[Tensor], Tensor]
Views = tuple[dict[str, Tensor], dict[str, Tensor]]


# ---- pixel correlation module


def with_background(maps: Tensor) -> Tensor:
    """Replace channel 0 of ``B×K×h×w`` by 1 - max over the foreground (Eq. 11)."""
    foreground = maps[:, 1:]
    return torch.cat([1 - foreground.amax(1, keepdim=True), foreground], 1)


def keep_strongest(maps: Tensor) -> Tensor:
    """Set all foreground values of ``B×K×h×w`` but the largest of each cell to zero; channel 0 is untouched."""
    foreground = maps[:, 1:]
    strongest = foreground == foreground.amax(1, keepdim=True)
    return torch.cat([maps[:, :1], foreground * strongest], 1)


def pixel_correlation(q: Tensor, features: Tensor, columns: int = COLUMNS) -> Tensor:
    """Compute Eq. 6: y_j = sum_i q_i A_ij, A_ij = ReLU(cos(f_i, f_j)), each column of A divided by its sum.

    ``q`` is ``B×K×h×w``, ``features`` ``B×D×h×w``; returns ``B×K×h×w``. Only ``columns`` columns of A exist at a time.
    """
    B, K, h, w = q.shape
    f = features.flatten(2)  # B D P
    f = f / (f.norm(dim=1, keepdim=True) + EPS)  # B D P   eps is added, as released
    q_and_1 = torch.cat([q.flatten(2), q.new_ones(B, 1, h * w)], 1)  # B K+1 P   the row of ones sums the columns of A
    with torch.autocast(q.device.type, enabled=False):  # products in the precision of q and f
        sums = torch.cat([q_and_1 @ F.relu(f.mT @ f_j) for f_j in f.split(columns, dim=2)], 2)  # B K+1 P
    return (sums[:, :K] / (sums[:, K:] + EPS)).view(B, K, h, w)


# ---- losses


def present_channels(labels: Tensor) -> Tensor:
    """List background and the present classes of each image, ``B×K'``, K' as many as the fullest image has, at least 2.

    Absent classes fill the gaps. Losses of absent classes are zero, so only maps of the listed channels are needed.
    """
    y = F.pad(labels, (1, 0), value=1.0)  # B K
    return y.argsort(dim=1, descending=True, stable=True)[:, : max(2, int(y.sum(1).max()))]


def mean_of_resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Compute ``resize(maps, size, align_corners=True).mean((2, 3))`` without large maps; ``B×K×h×w`` -> ``B×K``."""
    h, w = (
        resize(torch.eye(small, device=maps.device)[None, :, :, None], (large, 1), align_corners=True).mean((0, 2, 3))
        for small, large in zip(maps.shape[2:], size, strict=True)
    )  # how much each row and column counts
    with torch.autocast(maps.device.type, enabled=False):
        return torch.einsum("bkhw,h,w->bk", maps, h, w)


def rvmin_loss(revised: Tensor, y: Tensor, keep: float) -> Tensor:
    """Compute L_rvmin (D1): the mean of the highest present map over the share ``keep`` of lowest pixels."""
    v = (revised * y)[:, 1:].amax(1).flatten(1)  # B H*W
    return F.relu(v.topk(int(keep * v.shape[1]), dim=1, largest=False).values).mean()


def er_loss(cam_o: Tensor, cam_t: Tensor) -> Tensor:
    """Compute Eq. 9: | A(F(I)) - F(A(I)) |, summed over foreground channels, mean over pixels; D3 divides it by C."""
    return (cam_o[:, 1:] - cam_t[:, 1:]).abs().sum(1).mean()


def ecr_loss(revised: Tensor, cam: Tensor, channels: int, keep: float | None, per_pixel: bool = False) -> Tensor:
    """Compute one half of Eq. 10.

    It pulls the revised maps of a view to the CAM of the *other* view, which gets no gradient.

    ``revised`` and ``cam`` are ``B×K'×H×W``, K' of all ``channels`` maps. The other maps are 0 in both, but count in
    the mean. ``keep`` is the share of the hardest (channel, pixel) entries that count (D4), or of the hardest pixels;
    with ``None`` all count (no OHEM).
    """
    target = keep_strongest(with_background(cam.detach()))
    gap = (target - revised).abs().flatten(2)  # B K' H*W
    P = gap.shape[2]
    gap, entries = (gap.sum(1) / channels, P) if per_pixel else (gap.flatten(1), channels * P)
    if keep is None:
        return gap.sum(1).mean() / entries
    kept = int(keep * entries)
    return gap.topk(min(kept, gap.shape[1]), dim=1).values.sum(1).mean() / kept


def seam_losses(views: Views, labels: Tensor, y: Tensor, A: Transform, settings: SettingsOfSeam) -> dict[str, Tensor]:
    """Compute the weighted terms cls, er, ecr and rvmin (Eq. 12 and D1).

    ``views`` are the original and the transformed image's ``{"logits", "cam", "revised"}``: class scores ``B×C``, and
    maps ``B×K'×H×W`` and ``B×K'×H'×W'`` before any normalisation. ``y`` (``B×K'×1×1``) says which channels are present.
    All K channels will do, and so will those of ``present_channels``. ``A`` takes ``B×K'×H×W`` to ``B×K'×H'×W'``.
    """
    weights, as_paper, C = settings["loss_weights"], settings["as_paper"], labels.shape[1]
    o, t = views

    def compared(maps: Tensor) -> Tensor:
        return F.relu(maps) if "D5" in as_paper else max_norm(F.relu(maps)) * y

    def revised_map(maps: Tensor) -> Tensor:
        return with_background(compared(maps)) if "D6" in as_paper else compared(maps)

    cls = (multilabel_soft_margin(o["logits"], labels) + multilabel_soft_margin(t["logits"], labels)) / 2  # Eq. 7-8
    losses = {"cls": weights["cls"] * cls}

    cam_o, cam_t = A(compared(o["cam"])), compared(t["cam"])  # B K' H' W'
    if settings["er"]:
        losses["er"] = weights["er"] * er_loss(cam_o, cam_t) / C
    if settings["pcm"]:
        revised_o, revised_t = A(revised_map(o["revised"])), revised_map(t["revised"])
        keep, per_pixel = settings["ohem"], "D4" in as_paper
        pairs = ((revised_o, cam_t), (revised_t, cam_o))
        first, second = (ecr_loss(revised, cam, C + 1, keep, per_pixel) for revised, cam in pairs)
        losses["ecr"] = weights["ecr"] * (first + second)
        first, second = (rvmin_loss(view["revised"], y, settings["rvmin_keep"]) for view in views)
        losses["rvmin"] = weights["rvmin"] * (first + second) / 2
    return losses


# ---- equivariant transform


class EquivariantTransform:
    """One draw of A for a batch (Eq. 3): flip, rotation and translation of each image, then rescaling of all.

    Draws from torch's global generator. Without flip, rotation and translation it only rescales, as released.
    """

    def __init__(self, size: Sequence[int], batch: int, settings: Moves):
        self.size = tuple(int(side * settings["rescale"]) for side in size)
        flip, degrees, pixels = settings["flip"], settings["rotation"], settings["translation"]
        self.moves = bool(flip or degrees or pixels)
        mirror = 1 - 2 * (torch.rand(batch) < flip).float()  # B   -1 mirrors
        angle = math.radians(degrees) * (2 * torch.rand(batch) - 1)
        shift = pixels * (2 * torch.randint(2, (2, batch)) - 1)  # 2 B   x, y
        H, W = size
        cos, sin, zero = angle.cos(), angle.sin(), 0 * angle
        self.affine = torch.stack(  # B 2 3   output to input coordinates, both -1..1 over the image's sides
            [
                torch.stack([mirror * cos, -sin * H / W, 2 * shift[0] / W + zero], 1),
                torch.stack([mirror * sin * W / H, cos, 2 * shift[1] / H + zero], 1),
            ],
            1,
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """Transform ``B×D×H×W`` to ``B×D×H'×W'``, bilinear."""
        if self.moves:
            grid = F.affine_grid(self.affine.to(maps), list(maps.shape), align_corners=False)
            maps = F.grid_sample(maps, grid, align_corners=False)
        return resize(maps, self.size, align_corners=True)


# ---- network


class Seam(Method):
    """A siamese classifier with the pixel correlation module."""

    weights_kind = "seam"

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        self.settings: SettingsOfSeam = config["method"]
        channels = self.backbone.channels
        self.drop = nn.Dropout2d(self.settings["dropout"])
        self.fc8 = head(channels["conv6"], n_classes + 1)
        if self.settings["pcm"]:
            self.f8_3 = nn.Conv2d(channels["conv4"], 64, 1, bias=False)
            self.f8_4 = nn.Conv2d(channels["conv5"], 128, 1, bias=False)
            self.f9 = head(3 + 64 + 128, 192, gain=4)
            nn.init.kaiming_normal_(self.f8_3.weight)
            nn.init.kaiming_normal_(self.f8_4.weight)

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        new = [self.fc8, self.f8_3, self.f8_4, self.f9] if self.settings["pcm"] else [self.fc8]
        return poly_groups((10.0, new), (1.0, [self.backbone]))

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        images = batch["image"]
        A = EquivariantTransform(images.shape[2:], len(images), self.settings)
        labels = batch["labels"]
        shown = self.compared_channels(labels)
        y = F.pad(labels, (1, 0), value=1.0).gather(1, shown)[:, :, None, None]  # B K' 1 1   background is present
        views = (self.view(images, shown), self.view(A(images), shown))
        return seam_losses(views, labels, y, A, self.settings)

    def compared_channels(self, labels: Tensor) -> Tensor:
        """List ``present_channels``, or all of them where absent classes are compared, too (D5). ``B×K'``."""
        if "D5" in self.settings["as_paper"]:
            return torch.arange(self.n_classes + 1, device=labels.device).expand(len(labels), -1)
        return present_channels(labels)

    def view(self, images: Tensor, shown: Tensor) -> dict[str, Tensor]:
        """Run one branch of the siamese network on images ``B×3×H×W``.

        Its results are class scores ``B×C``, and of the channels ``shown`` (``B×K'``) the raw CAM and the revised CAM
        at image size, ``B×K'×H×W``.
        """
        cam, revised = self.maps(images)
        size = images.shape[2:]
        maps = {"cam": cam} if revised is None else {"cam": cam, "revised": revised}
        index = shown[:, :, None, None].expand(-1, -1, *cam.shape[2:])
        large = {name: resize(low.gather(1, index), size, align_corners=True) for name, low in maps.items()}
        return {"logits": self.logits(cam, size), **large}

    def logits(self, cam: Tensor, size: Sequence[int]) -> Tensor:
        """Compute class scores ``B×C`` of a raw CAM ``B×K×h×w``: the mean of it resized to ``size`` (D2)."""
        pooled = cam.mean((2, 3)) if "D2" in self.settings["as_paper"] else mean_of_resized(cam, size)
        return pooled[:, 1:]

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute raw CAM ``B×K×h×w`` and, with PCM, the revised CAM ``B×K×h×w``."""
        taps = self.backbone(images)
        cam = self.fc8(self.drop(taps["conv6"])).float()
        if not self.settings["pcm"]:
            return cam, None
        return cam, pixel_correlation(self.correlated(cam), self.f9(self.features(images, taps)).float())

    def correlated(self, cam: Tensor) -> Tensor:
        """Compute what PCM spreads (3.4): the strongest class of each cell in CAM / its maximum, and 1 - max.

        The result is ``B×K×h×w``.

        No gradient passes: PCM trains f8_3, f8_4 and f9 only.
        """
        p = F.relu(cam.detach())
        if "D5" not in self.settings["as_paper"]:
            p = F.relu(p - EPS) / (p.amax((2, 3), keepdim=True) + EPS)
        return keep_strongest(with_background(p))  # B K h w

    def features(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        """Join image, conv4 and conv5 at conv6's size (3.3): ``B×195×h×w``; no gradient reaches the backbone."""
        size = taps["conv6"].shape[2:]
        low = [F.relu(conv(taps[tap].detach())) for conv, tap in ((self.f8_3, "conv4"), (self.f8_4, "conv5"))]
        return torch.cat([resize(maps, size, align_corners=True) for maps in (images, *low)], 1)

    def classify(self, images: Tensor) -> Tensor:
        return self.logits(self.maps(images)[0], images.shape[2:])

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute revised CAM at image size (the release upsamples it in two steps); without PCM the CAM."""
        cam, revised = self.maps(images)
        return cam[:, 1:] if revised is None else resize(revised[:, 1:], images.shape[2:], align_corners=True)
