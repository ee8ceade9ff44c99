"""Settings and inputs of the benchmark of the methods, and every fast path with its plain equivalent.

A path takes the arguments of ``methods.py`` and a folder for files; it returns (fast, plain), two functions with
the same result, a list of tensors. The first line of its description says what is compared.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.backbones.base import resize
from wsss.cam import summed
from wsss.data.transforms import multi_scale
from wsss.devices import keep_freed_memory
from wsss.methods import Method, acr, aeft, build, eader, seam
from wsss.methods.base import EPS, max_norm, multilabel_soft_margin
from wsss.plan.resolve import method_settings

C = 20
PAPER_NETWORKS = ("resnet38d", "resnet101", "resnet50", "resnet18", "vgg16")
TURNS = {"eader": {"alternate_steps": [1, 1]}, "aeft": {"triplet_from": 0}}  # so that a few steps show all phases


def labels_of(size: int) -> Tensor:
    """One or two of the classes per image, ``B×C``."""
    labels, i = torch.zeros(size, C), torch.arange(size)
    labels[i, i % C] = labels[i, i * 7 % 5] = 1
    return labels


def settings(name: str, args: argparse.Namespace, folder: Path) -> dict:
    """A method's released settings at the sizes asked for."""
    config = method_settings(name)
    config["method"] |= TURNS.get(name, {})
    train = config["train"]
    if isinstance(train["batch_size"], dict):  # AEFT's triplet has the last of its sizes
        train["batch_size"] = list(train["batch_size"].values())[-1]
    if not args.paper_sizes:
        replace_networks(config, args.backbone)
        train["crop"], train["batch_size"] = args.crop, args.batch
        if name == "acr":
            halvings = (args.crop & -args.crop).bit_length() - 1
            config["method"] |= {"unet_depth": min(8, halvings), "unet_width": 16}
    train |= {"precision": args.precision, "epochs": 1}
    if "ordinary" in config["method"]:
        torch.save(build(settings("cam", args, folder), C).state_dict(), folder / "ordinary.pt")
        config["method"]["ordinary"]["weights"] = str(folder / "ordinary.pt")
    return config


def replace_networks(config: dict, backbone: str) -> None:
    """Put a small network in the place of each of the papers'."""
    for value in config.values():
        if isinstance(value, dict):
            replace_networks(value, backbone)
    if isinstance(config.get("backbone"), dict) and config["backbone"]["name"] in PAPER_NETWORKS:
        config["backbone"] = dict.fromkeys(config["backbone"]) | {"name": backbone}


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def batch_of(args: argparse.Namespace, crop: int, size: int) -> dict:
    images = torch.randn(size, 3, crop, crop, generator=torch.Generator().manual_seed(1))
    return {"image": images.to(args.device), "labels": labels_of(size).to(args.device)}


def prepared(name: str, args: argparse.Namespace, folder: Path) -> tuple[Method, dict]:
    config = settings(name, args, folder)
    torch.manual_seed(0)
    method = build(config, C).to(args.device, memory_format=torch.channels_last).eval()  # no dropout: same results
    return method, batch_of(args, config["train"]["crop"], config["train"]["batch_size"])


def gradients(network: torch.nn.Module, losses: dict[str, Tensor]) -> list[Tensor]:
    network.zero_grad(set_to_none=True)
    sum(losses.values()).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def class_maps(name: str, args: argparse.Namespace, folder: Path) -> tuple[Tensor, tuple[int, int], Tensor]:
    """Random class maps ``B×C×h×w`` of stride 8 for a method's batch, the image size, and labels ``B×C``."""
    train = settings(name, args, folder)["train"]
    crop, size = train["crop"], train["batch_size"]
    maps = torch.randn(size, C, crop // 8, crop // 8, generator=torch.Generator().manual_seed(0)) + 0.5
    return maps.to(args.device).requires_grad_(), (crop, crop), labels_of(size).to(args.device)


def with_gradient(result: Tensor, of: Tensor) -> list[Tensor]:
    """``result``, and the gradient of its squares' sum."""
    return [result, *torch.autograd.grad(result.square().sum(), of)]


def grad_cam(args, folder):
    """EADER's Grad-CAM in closed form | by differentiating the head."""
    method, batch = prepared("eader", args, folder)
    image, cls = batch["labels"].nonzero(as_tuple=True)
    with torch.no_grad():
        features = method.backbone(batch["image"])["conv6"]
    size = batch["image"].shape[2:]
    return [
        lambda maps=maps: [eader.attention(maps(features, image, cls, method.fc), size)]
        for maps in (eader.gcam, eader.gcam_backward)
    ]


def frozen_ordinary(args, folder):
    """OC-CSE's step with a frozen ordinary classifier | with one that keeps gradients of its weights."""
    method, batch = prepared("occse", args, folder)
    target = batch["labels"].argmax(1)

    def step(learning: bool) -> list[Tensor]:
        method.ordinary.requires_grad_(learning)
        gradients(method, method.terms(batch["image"], batch["labels"], target, 5))
        return [p.grad for p in (*method.backbone.parameters(), method.fc8.weight) if p.grad is not None]

    return lambda: step(False), lambda: step(True)


def waiting_classifier(args, folder):
    """ACR's reconstructor step, the classifier without graph | with it."""
    method, batch = prepared("acr", args, folder)
    images, labels, net = batch["image"], batch["labels"], method.reconstructor
    target, ones = acr.draw_target(labels, torch.Generator(args.device).manual_seed(0)), torch.ones_like(images[:, :1])

    def step(keep: bool) -> list[Tensor]:
        method.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(keep):
            cam = method.classifier(images)[0]
        c_t = acr.class_map(cam, labels, target, images.shape[2:])
        logits, features = net(images)
        weights = method.settings["reconstructor"]
        terms = acr.reconstructor_loss(images, logits, labels, features, net.genUnet, c_t, ones, weights)
        return gradients(net, terms)

    return lambda: step(False), lambda: step(True)


def waiting_reconstructor(args, folder):
    """ACR's classifier step, the reconstructor's weights constant | with gradients of their own."""
    method, batch = prepared("acr", args, folder)
    images, labels, net = batch["image"], batch["labels"], method.reconstructor
    target = acr.draw_target(labels, torch.Generator(args.device).manual_seed(0))

    def step(keep: bool) -> list[Tensor]:
        method.zero_grad(set_to_none=True)
        net.genUnet.requires_grad_(keep)
        with torch.set_grad_enabled(keep):
            features = net.features(net.backbone(images))
        cam, logits = method.classifier(images)
        weights = method.settings["classifier"]
        terms = acr.classifier_loss(images, logits, labels, cam, target, features, net.genUnet, weights)
        return gradients(method.classifier, terms)

    return lambda: step(False), lambda: step(True)


def draw_targets(args, folder):
    """ACR's draw of a class for each of 64 images in one go | image by image.

    The result to agree on is that every drawn class is one of its image's.
    """
    labels = labels_of(64).to(args.device)

    def loop() -> Tensor:
        return torch.tensor([random.choice(row.nonzero().flatten().tolist()) for row in labels], device=args.device)

    return [lambda draw=draw: [labels.gather(1, draw()[:, None])] for draw in (lambda: acr.draw_target(labels), loop)]


def repelled(args, folder):
    """AEFT's L_repel of 32 images, vectorised | pair by pair."""
    generator = torch.Generator().manual_seed(0)
    cam, gpp = (torch.randn(32, C, 40, 40, generator=generator).to(args.device) + 0.5 for _ in range(2))
    labels = labels_of(32).to(args.device)
    torch.manual_seed(0)
    partner, rule = aeft.sample_partner(labels), (0.2, 0.5, 4)

    def pairwise() -> Tensor:
        hinges = []
        for i, j in enumerate(partner.tolist()):
            pooled = []
            for n, below in ((i, rule[0]), (j, 1.0)):
                f = gpp[n] / (gpp[n].abs().amax((1, 2), keepdim=True) + EPS)
                where = max_norm(cam[n : n + 1].relu())[0] * labels[n, :, None, None] < below
                pooled.append((f * where).sum((1, 2)) / (where.sum((1, 2)) + EPS) * labels[n])
            d = (pooled[0] - pooled[1]).square().sum()
            if d < rule[1] and not (labels[i] * labels[j]).any():
                hinges.append(rule[1] - d)
        return torch.stack(hinges).mean() if len(hinges) > rule[2] else cam.new_zeros(())

    return lambda: [aeft.repel(cam, gpp, labels, partner, *rule)], lambda: [pairwise()]


def present_channels(args, folder):
    """SEAM's step with maps of the present classes at image size | of all classes."""
    method, batch = prepared("seam", args, folder)
    images, labels = batch["image"], batch["labels"]
    A = seam.EquivariantTransform(images.shape[2:], len(images), method.settings)
    everything = torch.arange(C + 1, device=images.device).expand(len(images), -1)

    def step(shown: Tensor) -> list[Tensor]:
        y = F.pad(labels, (1, 0), value=1.0).gather(1, shown)[:, :, None, None]
        views = (method.view(images, shown), method.view(A(images), shown))
        return gradients(method, seam.seam_losses(views, labels, y, A, method.settings))

    return lambda: step(seam.present_channels(labels)), lambda: step(everything)


def mean_of_resized(args, folder):
    """SEAM's class scores and their gradient from weighted rows and columns of the map | from the resized map."""
    maps, size, _ = class_maps("seam", args, folder)

    def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
        return resize(maps, size, align_corners=True).mean((2, 3))

    return [lambda mean=mean: with_gradient(mean(maps, size), maps) for mean in (seam.mean_of_resized, resized)]


def foreground(args, folder):
    """AEFT's foreground and its gradient from maps of the present classes | of all classes."""
    cam, size, labels = class_maps("aeft", args, folder)

    def of_all(cam: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        return (max_norm(resize(F.relu(cam), size)) * labels[:, :, None, None]).amax(1, keepdim=True)

    return [lambda find=find: with_gradient(find(cam, labels, size), cam) for find in (aeft.foreground, of_all)]


def present_maps(args, folder):
    """Inference that resizes maps of the present classes | of all classes."""
    method, batch = prepared("cam", args, folder)
    side, label = batch["image"].shape[2], labels_of(8)[7].numpy()
    rule = method_settings("cam")["cam"]
    inputs = multi_scale(picture(side), rule["scales"], True, "rgb")

    def maps(shown: np.ndarray) -> Tensor:
        return summed(method, inputs, shown, (side, side), rule["relu"])

    return lambda: [maps(label)], lambda: [maps(np.ones_like(label))[np.flatnonzero(label)]]


def batched_flip(args, folder):
    """A classifier's inference, mirror images in the batch of their scale | every view alone, resized alone."""
    method, batch = prepared("cam", args, folder)
    side, label = batch["image"].shape[2], labels_of(8)[7].numpy()
    inputs = multi_scale(picture(side), method_settings("cam")["cam"]["scales"], True, "rgb")
    method.shown = {"attention": "cam"}

    def maps(view: Tensor) -> Tensor:
        return summed(method, [view], label, (side, side), "none")

    return (
        lambda: [sum(maps(x) for x in inputs)],
        lambda: [sum(maps(x[:1]) + maps(x[1:]).flip(2) for x in inputs)],
    )


def kept_memory(args, folder):
    """A classifier's gradient with the memory of freed tensors kept | given back to the kernel."""
    method, batch = prepared("cam", args, folder)

    def step(keep: bool) -> list[Tensor]:
        keep_freed_memory(keep)
        logits = method.logits(method.backbone(batch["image"])["conv6"])
        return gradients(method, {"cls": multilabel_soft_margin(logits, batch["labels"])})

    return (lambda: step(True)), (lambda: step(False))


def channels_last(args, folder):
    """A classifier's gradient with weights and images channels-last | contiguous."""
    method, batch = prepared("cam", args, folder)
    last, contiguous = method, copy.deepcopy(method).to(memory_format=torch.contiguous_format)

    def step(network: Method, layout: torch.memory_format) -> list[Tensor]:
        images = batch["image"].to(memory_format=layout)
        logits = network.logits(network.backbone(images)["conv6"])
        return gradients(network, {"cls": multilabel_soft_margin(logits, batch["labels"])})

    return (lambda: step(last, torch.channels_last)), (lambda: step(contiguous, torch.contiguous_format))


PATHS = (
    grad_cam,
    frozen_ordinary,
    waiting_classifier,
    waiting_reconstructor,
    draw_targets,
    repelled,
    present_channels,
    mean_of_resized,
    foreground,
    present_maps,
    batched_flip,
    kept_memory,
    channels_last,
)
