"""OC-CSE: Kweon et al., ICCV 2021, "Unlocking the Potential of Ordinary Classifier".

Seeds 56.0 mIoU on VOC train (paper), 47.8 for the ordinary classifier that teaches it (supplement, Table I).
CGNet is the network that is trained. A frozen ordinary classifier (OC) looks at the image from which CGNet's class map
of one present class t is erased. It should miss t and still find all other classes. What it still sees of t, or does
not see of the others any more, trains the map.

Symbol   Here              |  Shapes: B batch, C foreground classes, H W image size, h w = H / 8, W / 8 on ResNet38d.
A        cam               |  B C h w   class maps of CGNet; z = GAP(A)                                    B C
t        target            |  B         one present class per image
m        erasing_mask      |  B 1 H W   ReLU(upsampled A_t), divided by its maximum
z'       erased_logits     |  B C       OC(x (1 - m))
L_cls    BCE(z, y)
L_erase  erasing_loss      |  BCE(z', y without t)
L        L_cls + w_e L_erase, w_e = cc_init + cc_slope * epoch
How the release KAIST-vilab/OC-CSE@a833aea (the default) departs from the paper or from what one would expect
D1  m is divided by the maximum over the whole batch, so faint maps erase little (``method.maximum``: batch or image).
    On several GPUs, here each GPU takes the maximum over its own images.
D2  nothing is detached: the gradient reaches A through m, and through the maximum.
D3  new layers learn at the rate of the backbone; PSA's fc8 at ten times that (``method.new_lr``).
D4  the release keeps, and never uses, gradients of the OC's weights; here they are not computed. Same gradient of A.
D5  masking inside the OC (``method.masking_depth`` > 0) and other OC backbones (supplement, A and B) are not released.
    Here the map is resized to the feature at that depth, then divided by its maximum there.
D6  an OC (here VGG16) whose input is normalised otherwise than CGNet's gets the same image, converted. What is erased
    has the mean colour of the OC's own normalisation.
D7  the authors keep the epoch whose maps score best on masks of the training images, measured after every epoch. So do
    the runs on ``voc12``, with every third epoch (``train.select``, ``select_every``); others keep the last.
D8  nothing is released of AffinityNet's walk. It has the values of AEFT (``walk.alpha`` 19, ``walk.crf`` true), the
    only walk that the group released, over maps that are normalised alike; SEAM's alpha of 6 is for SEAM's own maps.
D9  an image without any class has no map to erase. The OC sees it whole, so L_erase has no gradient there, and the
    network learns from L_cls alone.  ours
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss import backbones
from wsss.backbones.base import Edit, resize
from wsss.backbones.formats import read_state
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.data.pixels import PIXELS
from wsss.errors import WsssError
from wsss.groups import poly_groups
from wsss.methods.base import EPS, Method, head, multilabel_soft_margin
from wsss.settings.base import Backbone, File, NonNegative, NonNegativeInt, Section

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class OrdinarySettings(Section):
    """The ordinary classifier: its network, and the file that holds it."""

    backbone: Backbone
    weights: File | None


class SettingsOfOcCse(Section):
    """Section ``method``."""

    name: Literal["occse"]
    ordinary: OrdinarySettings
    masking_depth: NonNegativeInt
    maximum: Literal["batch", "image"]
    cc_init: NonNegative
    cc_slope: float
    new_lr: NonNegative


OrdinaryClassifier = Callable[[Tensor, Edit], Tensor]  # (images, edit hook) -> logits

MAXIMUM: dict[str, tuple[int, ...]] = {
    "batch": (0, 1, 2, 3),
    "image": (1, 2, 3),
}  # axes the mask's maximum is taken over (D1)


def sample_target(labels: Tensor) -> Tensor:
    """Draw t, ``B``: one class of each row of ``B×C`` labels, all present classes equally likely; any if none is."""
    empty = (labels.sum(1, keepdim=True) == 0).to(labels.dtype)
    return torch.multinomial(labels + empty, 1).squeeze(1)


def erasing_mask(cam: Tensor, target: Tensor, size: Sequence[int], maximum: str = "batch") -> Tensor:
    """Compute m: the target's map of ``B×C×h×w`` as a mask ``B×1×H×W`` in [0, 1)."""
    one = torch.arange(len(cam), device=cam.device)
    m = F.relu(resize(cam[one, target][:, None], size))  # B 1 H W
    return m / (m.amax(MAXIMUM[maximum], keepdim=True) + EPS)


def erased_logits(
    images: Tensor, cam: Tensor, target: Tensor, ordinary: OrdinaryClassifier, depth: int = 0, maximum: str = "batch"
) -> Tensor:
    """Compute z': what the ordinary classifier says with the target erased at depth ``depth`` (0: the image)."""

    def erase(at: int, feature: Tensor) -> Tensor:
        return feature * (1 - erasing_mask(cam, target, feature.shape[2:], maximum)) if at == depth else feature

    return ordinary(images, erase)


def erasing_loss(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """Compute L_erase, a scalar: the BCE of logits ``B×C`` with labels ``B×C`` from which the target ``B`` is taken."""
    return multilabel_soft_margin(logits, labels.scatter(1, target[:, None], 0))


def convert(images: Tensor, source: str, target: str) -> Tensor:
    """Convert images of one pixel convention (``Backbone.input``) to another, ``B×3×H×W``."""
    if source == target:
        return images
    (mean, scale), (new_mean, new_scale) = (
        (images.new_tensor(value)[:, None, None] for value in PIXELS[name]) for name in (source, target)
    )
    rgb = images.flip(1) if source == "vgg_bgr" else images
    rgb = (rgb * scale + mean - new_mean) / new_scale
    return rgb.flip(1) if target == "vgg_bgr" else rgb


class Ordinary(nn.Module):
    """The ordinary classifier: trained beforehand, frozen, always in evaluation mode. Its logits are GAP(fc8(F)).

    ``spec`` has ``backbone`` and ``weights``: the file of PSA's classifier, or of a trained ``cam``, with this
    backbone. Without weights it can be filled from a model file, but no training can use it.
    """

    def __init__(self, spec: OrdinarySettings, n_classes: int, source: str):
        super().__init__()
        self.trained = bool(spec["weights"])
        self.source = source  # pixel convention of the images it is given
        self.backbone = backbones.build(spec["backbone"])
        self.fc8 = head(self.backbone.channels["conv6"], n_classes)
        if spec["weights"]:
            state = {name.removeprefix("backbone."): value for name, value in read_state(spec["weights"]).items()}
            load_official(self, state, KINDS["psa"], spec["weights"])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Ordinary:
        return super().train(False)

    def forward(self, images: Tensor, edit: Edit | None = None) -> Tensor:
        """Compute logits ``B×C`` of images ``B×3×H×W``; ``edit`` as in ``Backbone.forward``."""
        return self.fc8(self.backbone(convert(images, self.source, self.backbone.input), edit)["conv6"]).mean((2, 3))


class OcCse(Method):
    """CGNet, trained against a frozen ordinary classifier."""

    weights_kind = "occse"

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        settings: SettingsOfOcCse = config["method"]
        self.fc8 = head(self.backbone.channels["conv6"], n_classes)
        self.ordinary = Ordinary(settings["ordinary"], n_classes, self.backbone.input)
        self.cc_init, self.cc_slope = settings["cc_init"], settings["cc_slope"]
        self.maximum, self.depth = settings["maximum"], settings["masking_depth"]
        self.new_lr = settings["new_lr"]
        self._check_depth()

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        if not self.ordinary.trained:
            raise WsssError("method.ordinary.weights: name a trained classifier (a file or run:<paper>/<run>)")
        return poly_groups((self.new_lr, [self.fc8]), (1.0, [self.backbone]))

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        return self.terms(batch["image"], batch["labels"], sample_target(batch["labels"]), progress.epoch)

    def terms(self, images: Tensor, labels: Tensor, target: Tensor, epoch: int) -> dict[str, Tensor]:
        """Compute L_cls and w_e L_erase of images ``B×3×H×W``, labels ``B×C`` and given target classes ``B``."""
        cam = self.localize(images).float()  # B C h w; bf16 has too few digits for what follows
        shown = cam * labels.amax(1)[:, None, None, None]  # D9
        z_erased = erased_logits(images, shown, target, self.ordinary, self.depth, self.maximum)  # B C
        return {
            "cls": multilabel_soft_margin(cam.mean((2, 3)), labels),
            "erase": self.erase_weight(epoch) * erasing_loss(z_erased, labels, target),
        }

    def erase_weight(self, epoch: int) -> float:
        """Compute w_e, which rises by ``cc_slope`` per epoch of the schedule."""
        return self.cc_init + self.cc_slope * epoch

    def localize(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.fc8(self.backbone(images)["conv6"])

    @torch.no_grad()
    def _check_depth(self) -> None:
        """Refuse a depth that the ordinary classifier lacks: nothing would be masked, and nobody would notice."""
        depths: list[int] = []

        def note(at: int, feature: Tensor) -> Tensor:
            depths.append(at)
            return feature

        self.ordinary(torch.zeros(1, 3, 32, 32), note)
        if self.depth not in depths:
            raise WsssError(f"method.masking_depth: this ordinary classifier has 0 to {depths[-1]}, not {self.depth}")
