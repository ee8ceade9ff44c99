"""CAM: Zhou et al., CVPR 2016, arXiv:1512.04150, trained as PSA does (Ahn and Kwak, CVPR 2018, arXiv:1803.10464).

The baseline of SEAM (47.43 mIoU on VOC train), AEFT and ACR (48.4), the ordinary classifier of OC-CSE (47.8), and the
seeds of PSA (48.0) and IRN (48.3).

Symbol   Here                  |  Shapes: B batch, C foreground classes, D feature channels, h w = cells of a tap.
F_k      features              |  B D h w
w_k^c    fc8.weight            |  C D
M_c      class_maps            |  B C h w   M_c = sum_k w_k^c F_k                                          Zhou, Eq. (2)
y^c      logits                |  B C       y^c = sum_k w_k^c GAP(F_k) = GAP(M_c)                                Zhou, 2
a_k^c    grad_cam_weights      |  B D       mean over cells of g = dy^c / dF_k       Grad-CAM, arXiv:1610.02391, Eq. (1)
         grad_cam_pp_weights   |  B D       sum over cells of alpha ReLU(g)              Grad-CAM++, arXiv:1710.11063, 3
Choices where papers and releases differ, or say nothing
D1  Grad-CAM and Grad-CAM++ are taken at the tap ``cam.tap``. At conv6, before GAP and a linear head, each cell has
    g = w_k^c / (h w), and Grad-CAM is CAM / (h w). SEAM's Table 2 (46.53, 47.37 against CAM's 47.43) names no layer.
D2  Grad-CAM++ differentiates exp(y^c); the factor exp(y^c) is the same for all k and is left to the normalisation.
D3  PSA takes sqrt(ReLU(M_c)) as maps of VGG16, but of no other network (``method.power`` 0.5).              psa@9493e59
D4  PSA and its heirs have no bias in the head and put Dropout2d before it; IRN has no dropout, and starts its head as
    torch does, not as Xavier (``method.dropout`` 0, ``method.head_init`` torch).                          irn@a2ece00
D5  IRN makes two kinds of maps: at stride 4 for the walk and, for labels, maps whose sides are rounded up to multiples
    of 16. The latter are resized to that larger size and then cut to the image, so they are a little stretched
    (``cam.round_up`` 16). Here only the maps for labels are stored; those at stride 4 are resampled from them. IRN also
    rounds training sizes in another way (``train.by_factor``).                                              irn@a2ece00
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.errors import choose
from wsss.groups import poly_groups
from wsss.methods.base import Method, head, multilabel_soft_margin
from wsss.settings.base import Below1, NonNegative, Positive, Section

if TYPE_CHECKING:
    from wsss.groups import ParameterGroup
    from wsss.schedule import Progress
    from wsss.settings.sections import Settings
    from wsss.train import LabelledBatch


class SettingsOfCam(Section):
    """Section ``method``."""

    name: Literal["cam"]
    dropout: Below1
    head_init: Literal["xavier", "torch"]
    power: Positive
    norm_decay: NonNegative


Weights = Callable[[Tensor, Tensor], Tensor]  # features B D h w, their gradient B D h w -> a_k B D


def grad_cam_weights(features: Tensor, g: Tensor) -> Tensor:
    """Compute a_k of Grad-CAM: the mean over cells of the gradient; two ``B×D×h×w`` -> ``B×D``."""
    return g.mean((2, 3))


def grad_cam_pp_weights(features: Tensor, g: Tensor) -> Tensor:
    """Compute a_k of Grad-CAM++: the sum over cells of alpha ReLU(g); two ``B×D×h×w`` -> ``B×D``.

    alpha = g^2 / (2 g^2 + g^3 sum_cells F_k) = 1 / (2 + g sum_cells F_k).
    """
    g = F.relu(g)  # alpha matters only where g > 0                                 B D h w
    total = F.relu(features.sum((2, 3), keepdim=True))  # >= 0 for rectified features B D 1 1
    return (g / (2 + g * total)).sum((2, 3))  # B D


ATTENTION: dict[str, Weights] = {"gradcam": grad_cam_weights, "gradcam++": grad_cam_pp_weights}


class Cam(Method):
    """A classifier whose class maps are CAM, Grad-CAM or Grad-CAM++."""

    def __init__(self, config: Settings, n_classes: int):
        super().__init__(config, n_classes)
        self.weights_kind = "irn_cam" if config["backbone"]["name"] == "resnet50" else "psa"
        settings: SettingsOfCam = config["method"]
        self.drop = nn.Dropout2d(settings["dropout"])
        self.fc8 = head(self.backbone.channels["conv6"], n_classes)
        if settings["head_init"] == "torch":
            self.fc8.reset_parameters()
        self.power, self.norm_decay = settings["power"], settings["norm_decay"]
        self.shown: Mapping[str, Any] = config.get("cam", {})  # a training has it only with train.select: best

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        return poly_groups((10.0, [self.fc8]), (1.0, [self.backbone]), norm_decay=self.norm_decay)

    def losses(self, batch: LabelledBatch, phase: str, progress: Progress) -> dict[str, Tensor]:
        features = self.backbone(batch["image"])["conv6"]
        return {"cls": multilabel_soft_margin(self.logits(self.drop(features)), batch["labels"])}

    def logits(self, features: Tensor) -> Tensor:
        """Compute y^c, ``B×C``, of features ``B×D×h×w``."""
        logits: Tensor = self.fc8(F.adaptive_avg_pool2d(features, 1)).flatten(1)
        return logits

    def class_maps(self, features: Tensor) -> Tensor:
        """Compute M_c, ``B×C×h×w``, of features ``B×D×h×w``; with a power of 0.5 its rectified root (D3)."""
        maps: Tensor = self.fc8(features)
        return maps if self.power == 1 else F.relu(maps) ** self.power

    def classify(self, images: Tensor) -> Tensor:
        return self.logits(self.backbone(images)["conv6"])

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        if self.shown["attention"] == "cam":
            return self.class_maps(self.backbone(images)["conv6"])
        return self.grad_maps(images, labels, ATTENTION[self.shown["attention"]], self.shown["tap"])

    def grad_maps(
        self, images: Tensor, labels: Tensor, weights: Weights, tap: str, closed: bool | None = None
    ) -> Tensor:
        """Compute sum_k a_k^c F_k of the classes present in ``labels``, zero for others; ``B×C×h×w`` of the tap.

        ``closed`` takes g = w / (h w) instead of differentiating. This is exact at conv6, and the default there.
        """
        closed = tap == "conv6" if closed is None else closed
        with torch.set_grad_enabled(not closed):
            taps = self.backbone(images.detach().requires_grad_(not closed))
            features = choose(taps, tap, "cam.tap")
            logits = self.logits(taps["conv6"])
        gradient = self._uniform_gradient if closed else partial(_gradient, logits)
        maps = features.new_zeros(*labels.shape, *features.shape[2:])
        for c in labels.any(0).nonzero().flatten().tolist():
            a = weights(features.detach(), gradient(features, c))  # B D
            maps[:, c] = torch.einsum("bd,bdhw->bhw", a, features.detach())
        return maps * labels[:, :, None, None]

    def _uniform_gradient(self, features: Tensor, c: int) -> Tensor:
        return (self.fc8.weight[c, :, 0, 0].detach() / features[0, 0].numel())[None, :, None, None].expand_as(features)


def _gradient(logits: Tensor, features: Tensor, c: int) -> Tensor:
    """Compute g of class c for every image, ``B×D×h×w``: images do not mix, so one backward pass serves them all."""
    one = F.one_hot(torch.full((len(logits),), c, device=logits.device), logits.shape[1]).to(logits)
    return torch.autograd.grad(logits, features, one, retain_graph=True)[0]
