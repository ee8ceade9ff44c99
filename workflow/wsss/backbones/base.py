"""What every backbone has: named taps, an edit hook, and frozen parts that stay frozen in ``train()``.

B batch, C channels, H W image size, h w = ceil(H / stride), ceil(W / stride) of a tap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wsss.errors import WsssError

Edit = Callable[[int, Tensor], Tensor]
Stage = tuple[str | None, Callable[[Tensor], Tensor]]  # the tap of its output, if it is one, and the function
TAPS = ("conv2", "conv3", "conv4", "conv5", "conv6")


def resize(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize maps ``B×C×h×w`` to ``B×C×H×W``, bilinear; maps of that size stay as they are."""
    if maps.shape[2:] == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


class Backbone(nn.Module):
    """A feature extractor for images of any size, whose outputs are maps.

    ``channels`` and ``strides`` describe the taps ``conv2`` ... ``conv6``; ``input`` names the pixel convention it was
    made for: ``rgb`` (RGB / 255, ImageNet mean and standard deviation) or ``vgg_bgr`` (BGR minus mean, unscaled).
    ``name`` is that of the settings, for example ``vgg16`` or ``timm:xception65``. Settings and weight files name
    modules and tensors without ``prefix``.
    """

    input = "rgb"
    name = ""  # until ``backbones.build`` sets it
    prefix = ""
    channels: dict[str, int]
    strides: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self._frozen: tuple[str, ...] = ()
        self._fixed_norms = False

    @property
    def stride(self) -> int:
        """Pixels per cell of ``conv6``."""
        return self.strides["conv6"]

    def stages(self) -> Iterator[Stage]:
        """Yield the stages of the network in order; ``edit`` is called after each."""
        raise NotImplementedError

    def forward(self, x: Tensor, edit: Edit | None = None) -> dict[str, Tensor]:
        """Map normalised images ``B×3×H×W`` to taps ``B×C×h×w``; ``conv6`` is the last feature map.

        ``edit(depth, feature)`` replaces the image (depth 0) and the output of every stage (1, 2, ...).
        """
        taps = {}
        x = edit(0, x) if edit else x
        for depth, (tap, stage) in enumerate(self.stages(), start=1):
            x = edit(depth, stage(x)) if edit else stage(x)
            if tap:
                taps[tap] = x
        return taps

    def fix(self, freeze: Iterable[str] = (), freeze_norm: bool | str = False) -> Backbone:
        """Freeze the modules named in ``freeze`` and the batch norms; returns itself.

        ``freeze_norm``: ``True`` fixes statistics and affine parameters (PSA, SEAM, OC-CSE, AEFT, ACR),
        ``"statistics"`` the statistics only (IRN), ``False`` neither.

        Raises:
            WsssError: there is no module of that name, or ``freeze_norm`` is none of these values.
        """
        frozen = tuple(self.prefix + name for name in freeze)
        modules = dict(self.named_modules())
        for name in frozen:
            if name == self.prefix or name not in modules:
                raise WsssError(f"backbone.freeze: no module '{name.removeprefix(self.prefix)}' in {self._parts()}")
            modules[name].requires_grad_(False)
        if freeze_norm not in (True, False, "statistics"):
            raise WsssError(f"backbone.freeze_norm: '{freeze_norm}' is none of true, false, statistics")
        self._frozen, self._fixed_norms = frozen, bool(freeze_norm)
        if freeze_norm is True:
            for norm in self._norms():
                norm.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Act as ``nn.Module.train``, but keep frozen modules and fixed norms in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        if self._fixed_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def _parts(self) -> str:
        """Return the network and the names of its modules, for errors."""
        network = self.get_submodule(self.prefix.rstrip("."))
        names = ", ".join(name for name, _ in network.named_children())
        return f"{self.name or type(self).__name__}; it has {names}"

    def _norms(self) -> Iterator[nn.Module]:
        return (module for module in self.modules() if isinstance(module, _BatchNorm))


def offered(name: str, output_stride: int, choices: tuple[int, ...]) -> int:
    """Return ``output_stride`` if the backbone offers it, else raise an error of one line."""
    if output_stride not in choices:
        raise WsssError(f"backbone.output_stride: {name} offers {', '.join(map(str, choices))}, not {output_stride}")
    return output_stride


def probability(dropout: float) -> float:
    """Return ``dropout`` if it is a probability, else raise an error of one line."""
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise WsssError(f"backbone.dropout: '{dropout}' is no probability in [0, 1)")
    return dropout


def limit_stride(stages: Iterable[nn.Module], stride: int, output_stride: int, dilate: bool = True) -> None:
    """Remove every stride that would exceed ``output_stride`` and dilate all later 3×3 convolutions instead.

    ``stride`` is the stride of the input of ``stages``. The finer network, sampled at the coarse cells, equals the
    original one ("à trous"; DeepLab, arXiv:1606.00915, 3.1). ``dilate=False`` only removes the strides, as IRN does.
    """
    rate = 1
    for stage in stages:
        convs = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
        step = max((conv.stride[0] for conv in convs), default=1)
        if stride * step <= output_stride and rate == 1:
            stride *= step
            continue
        for conv in convs:  # a strided 1×1 is a shortcut: it loses its stride, too, but spans no neighbours
            strided = conv.stride[0] > 1
            conv.stride = (1, 1)
            if conv.kernel_size[0] > 1 and dilate:
                conv.dilation = (conv.dilation[0] * rate,) * 2
                conv.padding = (int(conv.padding[0]) * rate,) * 2
                rate *= 2 if strided else 1
