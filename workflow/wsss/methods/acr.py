"""ACR: Kweon, Yoon and Yoon, "Weakly Supervised Semantic Segmentation via Adversarial Learning of Classifier and
Reconstructor", CVPR 2023. Seed on VOC train: 60.3 mIoU (poster), 59.9 (released weights); classifier alone 48.4.

If a segment is complete, nothing outside of it tells what it looks like. A reconstructor learns to paint the image
inside a class map from the features outside, and outside from those inside. The classifier learns maps on which the
reconstructor fails.

Symbol   Here                  |  Shapes: B batch, C foreground classes, D feature channels, H W image, h w cells.
M(a)     max_norm(ReLU(a))     |  B C h w
t, c_t   target, ``class_map`` |  B; B 1 H W    map of one present class per image, in [0, 1], at image size
F, D     features, decoder     |  B D h w; upsampled B D H W -> B 3 H W, in the normalised image's units: R_full of all
                                  features, R_t and R_nt of those that rows RU and CU name
g        srf_mask              |  B 1 H W       stochastic random feeding (SRF): cells where features may be taken away
u, v     hidden_maps           |  B 1 H W       u = c_t g, v = (1 - c_t) g
e_t e_nt judged_maps           |  B 1 H W       where the classifier's reconstructions are judged
RU       reconstructor_loss    |  features are fed outside u (outside v), the error counts inside u (inside v)
CU       classifier_loss       |  features are fed inside c_t (outside c_t), the error counts where c_t = 0 (inside c_t)

How the release sangrockEG/ACR@443dff9 (the default) departs from the poster; (ours): how we depart from the release
D1  L1 errors are means over all pixels of the image, not over the judged area.                            release
D2  e_t is hard ([c_t = 0]), e_nt soft (c_t) and only where t wins among all classes, present or not.      release
D3  R_full sees detached features: reconstruction of the whole image trains the decoder alone.             release
D4  the factors .3 and .5 of RU are constants in the release; here they are ``method.reconstructor.t`` and ``.nt``.
D5  100 epochs are run on a schedule of 40; the last 60 have learning rate 6e-7. Here ``train.epochs`` is 40
    (for all 100: ``train.epochs`` 100, ``train.optimizer.poly_epochs`` 40).                                  release
D6  only transposed convolutions learn at 10 times the backbone's rate. The classification layers learn at its rate
    itself (``method.new_lr``); in PSA they learn at 10 times it. The momentum is 5e-4.                          release
D7  the release's classifier also owns heads and a decoder that it never uses; they are not built here.
D8  the "pre-trained" strategy and "no SRF" are rows of the poster without a switch in the release. Our reading of the
    first: three trainings of full length, each on the one before (``train.start``): the classifier alone, the
    reconstructor on it, the classifier against that (``method.strategy``). Our reading of the second is
    ``method.srf: null``, g = 1.
D9  features of a backbone whose taps differ in resolution are joined at the finest; depth and width of the decoder
    can be lowered for small crops.                                                                        ours
D10 the poster's "ACR + ViT" names no network, taps or settings, and nothing of it is released. Our guess: DeiT-S
    (backbone ``vit``) for both networks, its tokens after 6, 9 and 12 of 12 blocks as conv4, conv5 and conv6 at stride
    16, the rest as on ResNet38d.                                                                            ours
D11 a step whose loss is NaN or infinite is left out, as in the release. Here such steps are also counted and reported,
    and the training ends if they are more than a thousandth of all (``train.may_skip``; with 0 the first such step ends
    it).
D12 pseudo masks: the poster says "CRF, random walking, etc.", the README of the release names RIB's IRNet. The runs of
    the tables take IRNet (sections ``irn_*``). AffinityNet is the option: stage ``walk``, ``deeplab.labels: walk``.
D13 the release scores maps on masks of the training images after every epoch, names the best epoch and keeps all. Its
    inference takes the last of 100; we guess that the poster's values are of the best. The runs on ``voc12`` measure
    every eighth epoch and keep the best of these (``train.select``, ``select_every``); others keep the last.
D14 AffinityNet has PSA's dropout (.3/.5) and frozen parts, as it has in the file that the release ships for it; ACR's
    classifier has other dropout, and nothing is frozen but the batch norms (``affinity.backbone``).
D15 nothing is released of AffinityNet's walk over these maps. The walk has the values of AEFT, the only one that the
    group released (alpha 19, one CRF iteration). AffinityNet learns from the exponents of ACR's released CRF (6 and
    24).                                                                                                            ours
D16 an image without any class has c_t = 0. The classifier learns from its BCE alone, the reconstructor from BCE, R_full
    and R_nt.                                                                                                  ours
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones
from wsss.backbones.base import resize
from wsss.errors import WsssError
from wsss.groups import poly_groups
from wsss.methods.base import Method, head, max_norm, multilabel_soft_margin
from wsss.methods.turns import waiting
from wsss.methods.unet import UNet
from wsss.settings.base import Backbone, NonNegative, PositiveInt, Probability, Section, rule

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class Srf(Section):
    """Stochastic random feeding."""

    grid: PositiveInt
    share: Probability
    per_epoch: float


class ReconstructorWeights(Section):
    """Factors of the terms of the reconstructor's loss."""

    cls: NonNegative
    full: NonNegative
    t: NonNegative
    nt: NonNegative
    min_fed: NonNegative


class ClassifierWeights(Section):
    """Factors of the terms of the classifier's loss."""

    cls: NonNegative
    t: NonNegative
    nt: NonNegative


class SettingsOfAcr(Section):
    """Section ``method``."""

    name: Literal["acr"]
    hidden: PositiveInt
    feature_channels: Annotated[list[PositiveInt], rule("three whole numbers of 1 or more", min_length=3, max_length=3)]
    unet_depth: Annotated[int, rule("a whole number of 2 or more", ge=2)]
    unet_width: PositiveInt
    new_lr: NonNegative
    strategy: Literal["adversarial", "reconstructor", "classifier"]
    srf: Srf | None
    reconstructor: ReconstructorWeights
    classifier: ClassifierWeights


Decoder = Callable[[Tensor], Tensor]
TAPS = ("conv4", "conv5", "conv6")  # what the reconstructor paints from


def draw_target(labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one present class per image, uniformly. ``B×C`` of 0 and 1 -> ``B``."""
    lots = torch.rand(labels.shape, generator=generator, device=labels.device)
    return (labels * (1 - lots)).argmax(1)  # 1 - lots > 0: a present class always beats an absent one


def draw_cells(
    batch: int, grid: int, share: float, device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Draw ``B×1×grid×grid`` of 0 and 1; a cell is 1 with probability ``share``."""
    return (torch.rand((batch, 1, grid, grid), generator=generator, device=device) < share).float()


def srf_mask(cells: Tensor, size: Sequence[int]) -> Tensor:
    """Compute g: enlarge each cell to a block of pixels, ``B×1×H×W``."""
    return F.interpolate(cells, size, mode="nearest")


def class_map(cam: Tensor, labels: Tensor, target: Tensor, size: Sequence[int]) -> Tensor:
    """Compute c_t = up(M(cam) y)_t: the target's map ``B×1×H×W`` in [0, 1], from maps ``B×C×h×w``."""
    present = max_norm(F.relu(cam.float())) * labels[:, :, None, None]  # B C h w
    return resize(present.gather(1, _index(target, present)), size)


def hidden_maps(c_t: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Compute u and v: the part of the target's features that is taken away, and that of all other features."""
    return c_t * g, (1 - c_t) * g


def judged_maps(cam: Tensor, c_t: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute e_t and e_nt, ``B×1×H×W``, without gradient."""
    winner = resize(cam.detach().float(), c_t.shape[2:]).argmax(1, keepdim=True)  # B 1 H W
    return (c_t.detach() == 0).float(), c_t.detach() * (winner == target.view(-1, 1, 1, 1))


def l1(reconstruction: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """Compute the error of each image, weighted per pixel: a mean over all pixels and channels (D1). ``B``."""
    return ((reconstruction.float() - images) * weight).abs().mean((1, 2, 3))


def reconstructor_loss(
    images: Tensor,
    logits: Tensor,
    labels: Tensor,
    features: Tensor,
    decoder: Decoder,
    c_t: Tensor,
    g: Tensor,
    w: ReconstructorWeights,
) -> dict[str, Tensor]:
    """Compute RU: w_cls BCE + w_full |R_full - x| + w_t |R_t - x| u + w_nt |R_nt - x| v.

    ``w`` are the weights ``cls``, ``full``, ``t``, ``nt``, and ``min_fed``. An image of which at most ``min_fed``
    pixels are fed counts nothing in the t term.
    """
    u, v = hidden_maps(c_t, g)  # B 1 H W
    fed = resize(features, images.shape[2:])  # B D H W
    error_full = l1(decoder(fed.detach()), images, torch.ones_like(u))  # B   D3
    error_t = l1(decoder(fed * (1 - u)), images, u)  # B
    error_nt = l1(decoder(fed * (1 - v)), images, v)  # B
    valid = ((1 - u).sum((1, 2, 3)) > w["min_fed"]).float()  # B
    return {
        "cls": w["cls"] * multilabel_soft_margin(logits, labels),
        "full": w["full"] * error_full.mean(),
        "t": w["t"] * (error_t * valid).sum() / valid.sum().clamp(min=1),
        "nt": w["nt"] * error_nt.mean(),
    }


def classifier_loss(
    images: Tensor,
    logits: Tensor,
    labels: Tensor,
    cam: Tensor,
    target: Tensor,
    features: Tensor,
    decoder: Decoder,
    w: ClassifierWeights,
) -> dict[str, Tensor]:
    """Compute CU: w_cls BCE - w_t |R_t - x| e_t - w_nt |R_nt - x| e_nt.

    The gradient reaches ``cam`` through the features that are fed.

    ``w`` are the weights ``cls``, ``t``, ``nt``; a term of weight 0 is not computed.
    """
    losses = {"cls": w["cls"] * multilabel_soft_margin(logits, labels)}
    if not (w["t"] or w["nt"]):
        return losses
    fed = resize(features, images.shape[2:])  # B D H W
    c_t = class_map(cam, labels, target, images.shape[2:])  # B 1 H W
    e_t, e_nt = judged_maps(cam, c_t, target)
    if w["t"]:
        losses["t"] = -w["t"] * l1(decoder(fed * c_t), images, e_t).mean()
    if w["nt"]:
        losses["nt"] = -w["nt"] * l1(decoder(fed * (1 - c_t)), images, e_nt).mean()
    return losses


class Classifier(nn.Module):
    """A backbone and two 1×1 convolutions: CAM = fc9(ReLU(fc8(feature))), logits = GAP(CAM)."""

    def __init__(self, spec: Backbone, hidden: int, n_classes: int):
        super().__init__()
        self.backbone = backbones.build(spec)
        self.fc8 = head(self.backbone.channels["conv6"], hidden)
        self.fc9 = head(hidden, n_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute CAM ``B×C×h×w`` and logits ``B×C`` of images ``B×3×H×W``."""
        cam = self.cam(self.backbone(images)["conv6"])
        return cam, cam.mean((2, 3))

    def cam(self, feature: Tensor) -> Tensor:
        """Compute class maps ``B×C×h×w`` of features ``B×D×h×w``."""
        maps: Tensor = self.fc9(F.relu(self.fc8(feature)))
        return maps


class Reconstructor(Classifier):
    """A classifier that also reduces three taps to one feature map, and a decoder that paints the image from it."""

    def __init__(self, spec: Backbone, settings: SettingsOfAcr, n_classes: int):
        super().__init__(spec, settings["hidden"], n_classes)
        channels = dict(zip(TAPS, settings["feature_channels"], strict=True))
        self.dr1 = head(self.backbone.channels["conv4"], channels["conv4"])
        self.dr2 = head(self.backbone.channels["conv5"], channels["conv5"])
        self.fc_recon = head(self.backbone.channels["conv6"], channels["conv6"])
        self.genUnet = UNet(sum(channels.values()), 3, settings["unet_depth"], settings["unet_width"])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits ``B×C`` and features ``B×D×h×w``."""
        taps = self.backbone(images)
        return self.cam(taps["conv6"]).mean((2, 3)), self.features(taps)

    def features(self, taps: dict[str, Tensor]) -> Tensor:
        """Compute F, ``B×D×h×w``: the three taps, reduced and joined at the finest resolution."""
        reduced = [self.dr1(taps["conv4"]), self.dr2(taps["conv5"]), self.fc_recon(taps["conv6"])]
        size = reduced[0].shape[2:]  # the finest                                                   D9
        return torch.cat([resize(f, size) for f in reduced], 1)


class Acr(Method):
    """A classifier and the reconstructor that it learns to defeat; ``backbone`` is the classifier's."""

    weights_kind = "acr"
    new_parts = ("reconstructor",)  # a classifier that the training starts from may lack it

    def __init__(self, config: Settings, n_classes: int):
        nn.Module.__init__(self)  # not Method's: the backbone of the class maps lies inside ``classifier``
        self.config, self.n_classes = config, n_classes
        self.settings: SettingsOfAcr = config["method"]
        self.classifier = Classifier(config["backbone"], self.settings["hidden"], n_classes)
        strategy = self.settings["strategy"]
        opposed = self.settings["classifier"]["t"] or self.settings["classifier"]["nt"]
        both = ("reconstructor", "classifier") if opposed else ("classifier",)
        self.phases = both if strategy == "adversarial" else (strategy,)
        self.reconstructor = self._reconstructor() if opposed or strategy == "reconstructor" else None
        _check_start(strategy, config["train"]["start"])
        if self.reconstructor:
            _check_crop(config["train"]["crop"], self.settings["unet_depth"])

    def _reconstructor(self) -> Reconstructor:
        return Reconstructor(self.config["backbone"], self.settings, self.n_classes)

    def complete(self) -> Acr:
        """Return itself with a reconstructor; that of the baseline is untrained.

        The authors' files have one, and its decoder twice (D7)."""
        if self.reconstructor is None:
            torch.manual_seed(self.config["seed"])
            self.reconstructor = self._reconstructor()
            print("acr: trained without a reconstructor; the one in the written file is untrained", file=sys.stderr)
        return self

    @property
    def backbone(self) -> backbones.Backbone:  # type: ignore[override]  # nobody sets it
        return self.classifier.backbone

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        network: Classifier = getattr(self, phase)
        rising = [module for module in network.modules() if isinstance(module, nn.ConvTranspose2d)]  # D6
        heads = [network.fc8, network.fc9]
        return poly_groups((self.settings["new_lr"], heads), (10.0, rising), (1.0, [network]))

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        # both phases of a step draw alike for the same images: the loop seeds torch anew at every step
        shown = zlib.crc32(repr(batch["id"]).encode())
        draws = torch.Generator(batch["image"].device).manual_seed(torch.initial_seed() ^ shown)
        target = draw_target(batch["labels"], draws)  # B
        if phase == "reconstructor" and self.reconstructor is not None:
            return self._reconstructor_losses(self.reconstructor, batch, target, progress, draws)
        return self._classifier_losses(batch["image"], batch["labels"], target)

    def _reconstructor_losses(
        self,
        network: Reconstructor,
        batch: LabelledBatch,
        target: Tensor,
        progress: Progress,
        draws: torch.Generator,
    ) -> dict[str, Tensor]:
        images, labels = batch["image"], batch["labels"]
        with torch.no_grad(), waiting(self.classifier):
            cam, _ = self.classifier(images)  # B C h w
        c_t = class_map(cam, labels, target, images.shape[2:])  # B 1 H W
        g = torch.ones_like(c_t)
        if srf := self.settings["srf"]:
            share = srf["share"] + srf["per_epoch"] * progress.epoch
            g = srf_mask(draw_cells(len(images), srf["grid"], share, images.device, draws), images.shape[2:])
        logits, features = network(images)
        weights = self.settings["reconstructor"]
        return reconstructor_loss(images, logits, labels, features, network.genUnet, c_t, g, weights)

    def _classifier_losses(self, images: Tensor, labels: Tensor, target: Tensor) -> dict[str, Tensor]:
        cam, logits = self.classifier(images)  # B C h w; B C
        if self.reconstructor is None:
            return {"cls": self.settings["classifier"]["cls"] * multilabel_soft_margin(logits, labels)}
        with waiting(self.reconstructor) as waits:
            with torch.no_grad():
                features = waits.features(waits.backbone(images))  # B D h w
            weights = self.settings["classifier"]
            return classifier_loss(images, logits, labels, cam, target, features, waits.genUnet, weights)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        maps: Tensor = self.classifier(images)[0]
        return maps


def _index(target: Tensor, maps: Tensor) -> Tensor:
    return target.view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[2:])


def _check_start(strategy: str, start: str | None) -> None:
    if strategy != "adversarial" and not start:
        raise WsssError(
            f"train.start: method.strategy '{strategy}' freezes the other network, which must be trained already; "
            "name its run, run:<paper>/<run>"
        )


def _check_crop(crop: int, depth: int) -> None:
    if crop % 2**depth:
        raise WsssError(
            f"train.crop: ACR's decoder halves {depth} times, so {crop} must be a multiple of {2**depth}; "
            "change train.crop or method.unet_depth"
        )
