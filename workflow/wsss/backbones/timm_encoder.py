"""Networks of timm (pytorch-image-models) as backbones: ``timm:<name>``, for example ``timm:convnext_tiny``.

B batch, C channels, H W image size, h w = ceil(H / stride), ceil(W / stride) of a tap.

conv2 to conv5 are timm's feature maps of reduction 2, 4, 8 and 16. If a network has several of one reduction, the last
counts. If it has none, the next coarser one stands in: conv2 of ConvNeXt is its conv3. conv6 is the map that timm's
classifier pools; an EfficientNet's comes after the last 1×1 convolution. Plain ViTs are ``vit:<name>``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.backbones.base import TAPS, Backbone, Edit, probability
from wsss.errors import WsssError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the convention ``rgb``
REDUCTIONS = dict(zip(TAPS[:-1], (2, 4, 8, 16), strict=True))
COARSEST = 32  # an image whose sides are multiples of it has whole cells at every stride
TRIED = ((128, 160), (97, 110))  # sizes of images: cells fit the first exactly, the second not at all


class TimmEncoder(Backbone):
    """``variant`` is timm's name of the network, with or without a tag. ``edit`` depths 1 to 5 are conv2 to conv6.

    Images are ``rgb``; a network of another mean and standard deviation converts them. ``output_stride`` is 32, or 8
    or 16 where timm offers it. ``freeze`` and weight files use timm's own names of modules and tensors.

    Some networks need images whose sides are multiples of 32. Zeros to the right and below fill images up, and taps are
    cut to h w.
    """

    prefix = "network."
    factor: Tensor | None  # 3 1 1, from ``rgb`` to the network's own pixels
    summand: Tensor | None

    def __init__(self, output_stride: int = 16, dropout: float = 0.0, variant: str = ""):
        super().__init__()
        network = _create(variant, output_stride)
        self.network: nn.Module = network
        self.drop = nn.Dropout2d(probability(dropout))
        self._places = _places(variant)
        self._cells_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        self._multiple = 1  # the sides of images have to be multiples of it
        self._keep_normalisation(network.pretrained_cfg)
        self._measure(variant)

    def forward(self, x: Tensor, edit: Edit | None = None) -> dict[str, Tensor]:
        """Map normalised images ``B×3×H×W`` to taps ``B×C×h×w``, as :meth:`Backbone.forward` says."""
        x = edit(0, x) if edit else x
        height, width = x.shape[2:]
        sizes = {tap: (-(-height // stride), -(-width // stride)) for tap, stride in self.strides.items()}
        taps: dict[str, Tensor] = {}

        def visit(tap: str, maps: Tensor) -> Tensor:
            h, w = sizes.get(tap, maps.shape[2:])
            if edit:
                maps = _replaced(maps, edit(1 + TAPS.index(tap), maps[..., :h, :w]))
            taps[tap] = maps[..., :h, :w]
            return maps

        self._run(self._filled(self._own_pixels(x)), visit)
        return taps

    def _run(self, x: Tensor, visit: Callable[[str, Tensor], Tensor]) -> None:
        """Call the network on ``x``; ``visit(tap, maps)`` sees every tap in order, and what it returns goes on."""

        def hook(tap: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
            return lambda module, inputs, output: self._turned(visit(tap, self._maps(output)))

        with ExitStack() as hooks:
            for tap, place in self._places.items():
                hooks.enter_context(self.network.get_submodule(place).register_forward_hook(hook(tap)))
            last = cast(Any, self.network).forward_features(x)
        visit(TAPS[-1], self.drop(self._maps(last)))

    # ---- pixels

    def _keep_normalisation(self, config: Mapping[str, Any]) -> None:
        """Keep the factor and the summand from ``rgb`` to the network's own mean and standard deviation, or None."""
        own = tuple(config["mean"]), tuple(config["std"])
        factor = summand = None
        if own != (MEAN, STD):
            mean, std = (torch.tensor(value) for value in own)
            factor = (torch.tensor(STD) / std)[:, None, None]
            summand = ((torch.tensor(MEAN) - mean) / std)[:, None, None]
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("summand", summand, persistent=False)

    def _own_pixels(self, x: Tensor) -> Tensor:
        if self.factor is None or self.summand is None:
            return x
        return x * self.factor + self.summand

    def _filled(self, x: Tensor) -> Tensor:
        bottom, right = (-size % self._multiple for size in x.shape[2:])
        return F.pad(x, (0, right, 0, bottom)) if bottom or right else x

    # ---- layout of maps

    def _maps(self, output: Tensor) -> Tensor:
        return output.permute(0, 3, 1, 2) if self._cells_last else output

    def _turned(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1) if self._cells_last else maps

    # ---- what the network is like

    def _measure(self, variant: str) -> None:
        """Find channels, strides and the parameters that no tap needs, on a copy without memory."""
        probe = copy.deepcopy(self).to("meta").eval()
        self.channels, self.strides = {}, {}
        with torch.inference_mode(False), torch.enable_grad():
            maps = probe._tried(*TRIED[0])
            self._describe(maps, variant)
            torch.stack([tap.float().mean() for tap in maps.values()]).sum().backward()
        for name, parameter in probe.named_parameters():
            if parameter.grad is None:  # of the classifier: training in parallel waits for every gradient
                self.get_parameter(name).requires_grad_(False)
        odd = probe._tried(*TRIED[1])
        expected = {tap: tuple(-(-size // stride) for size in TRIED[1]) for tap, stride in self.strides.items()}
        if {tap: tuple(maps.shape[2:]) for tap, maps in odd.items()} != expected:
            self._multiple = COARSEST

    def _tried(self, height: int, width: int) -> dict[str, Tensor]:
        """Return the taps of an image of this size; none where the network takes no such image."""
        taps: dict[str, Tensor] = {}

        def visit(tap: str, maps: Tensor) -> Tensor:
            if isinstance(maps, Tensor):  # a few networks have lists of maps
                taps[tap] = maps
            return maps

        try:
            self._run(torch.empty(1, 3, height, width, device="meta"), visit)
        except (RuntimeError, AssertionError, AttributeError, IndexError, TypeError, ValueError):
            return {}  # an image of another size than its own, or no map at a tap
        return taps

    def _describe(self, taps: Mapping[str, Tensor], variant: str) -> None:
        height, width = TRIED[0]
        for tap in TAPS:
            _, channels, *size = taps[tap].shape if tap in taps else (1, 0)
            stride = height // size[0] if len(size) == 2 and size[0] else 0
            if not stride or [height, width] != [stride * cells for cells in size]:
                raise WsssError(
                    f"backbone.name: 'timm:{variant}' has no maps of images of any size in which each cell stands for "
                    "the same number of pixels; choose another network, such as timm:resnet18"
                )
            self.channels[tap], self.strides[tap] = channels, stride


def _replaced(maps: Tensor, edited: Tensor) -> Tensor:
    """Put ``edited`` in the place of the upper left part of ``maps``."""
    if maps.shape == edited.shape:
        return edited
    maps = maps.clone()
    maps[..., : edited.shape[2], : edited.shape[3]] = edited
    return maps


def _create(variant: str, output_stride: int) -> Any:
    import timm  # takes seconds, and few runs need it

    if not variant:
        raise WsssError("backbone.name: 'timm' alone names no network; give timm:<name>, as timm:resnet18")
    options = {} if output_stride == COARSEST else {"output_stride": output_stride}
    try:
        return timm.create_model(variant, pretrained=False, num_classes=0, **options)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError, ValueError, KeyError) as error:
        if not timm.is_model(variant):
            raise WsssError(f"backbone.name: 'timm:{variant}' is no network of timm; see timm.list_models()") from None
        if not options:
            raise WsssError(f"backbone.name: timm cannot make '{variant}' ({str(error)[:60]})") from None
        raise WsssError(
            f"backbone.output_stride: 'timm:{variant}' does not offer {output_stride}; give {COARSEST}"
        ) from None


def _places(variant: str) -> dict[str, str]:
    """Find the names of the modules whose outputs are conv2 to conv5, in the network of stride 32."""
    with torch.device("meta"):
        network = _create(variant, COARSEST)
    modules = {}
    for feature in getattr(network, "feature_info", ()):
        if feature["module"]:
            modules[feature["reduction"]] = feature["module"]
    if not modules or not hasattr(network, "forward_features"):
        raise WsssError(f"backbone.name: 'timm:{variant}' shows no feature maps; choose another network")
    places = {}
    for tap, reduction in REDUCTIONS.items():
        coarser = [known for known in modules if known >= reduction]
        places[tap] = modules[min(coarser, default=max(modules))]
    return places
