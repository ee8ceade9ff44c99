"""AEFT's segmentation network against the numbers of the official one."""

from __future__ import annotations

import functools
import json

import numpy as np
import torch
from golden import FOLDER, kaist_weights, load
from kaist import NETWORK, close, network_input, statistics, sub

from wsss.backbones.base import resize
from wsss.backbones.naming import KINDS
from wsss.backbones.weights import load_official
from wsss.segment.presets import resolve
from wsss.segment.task import SegmentTask

NAME = "aeft/segmentation(Net_dl)"


@functools.cache
def task() -> SegmentTask:
    golden = load("netdl_forward")
    deeplab = resolve({"deeplab": {"preset": "aeft"}})["deeplab"]
    built = SegmentTask(deeplab, golden["logits_stride8"].shape[1] - 1)
    report = load_official(built.net, kaist_weights(NAME, gain=float(golden["gain"])), KINDS["aeft"], "documented")
    assert report.missing == report.unexpected == []
    return built


@torch.no_grad()
def test_forward():
    golden = load("netdl_forward")
    net = task().net.eval()
    x = network_input(golden["images_u8"])
    close(statistics(x), golden["input_stats"], "input", NETWORK)

    inner = {}
    hooks = [getattr(net, b).register_forward_hook(lambda m, i, y, b=b: inner.update({b: y})) for b in ("b8", "b9")]
    logits = net(x)
    for hook in hooks:
        hook.remove()
    stages = dict(zip(golden["stage_names"].tolist(), golden["stage_stats"], strict=True))
    for name, tensor in inner.items():
        close(statistics(tensor), stages[f"out:{name}"], name, NETWORK)
    close(logits, golden["logits_stride8"], "logits", NETWORK)

    full = resize(logits, x.shape[2:], net.align_corners)
    close(sub(full, golden["logits_step"], golden["logits_offset"]), golden["logits_sub"], "full size", NETWORK)
    for c, expected in enumerate(golden["logits_stats"]):
        close(statistics(full[0, c]), expected, f"map {c}", NETWORK)
    labels = sub(full.argmax(1), golden["argmax_step"], golden["argmax_offset"])
    assert (labels.numpy() != golden["argmax_sub"]).sum() <= 3


def test_parameter_groups():
    golden = load("netdl_forward")
    groups = {(g["lr_scale"], g["decay_scale"]): g["params"] for g in task().train().parameter_groups("segment")}
    order = [(1.0, 1.0), (2.0, 0.0), (10.0, 1.0), (20.0, 0.0)]
    assert [len(groups.get(key, [])) for key in order] == golden["group_sizes"].tolist()
    assert [sum(p.numel() for p in groups.get(key, [])) for key in order] == golden["group_numel"].tolist()
    assert set(groups) <= set(order)


def test_every_parameter_is_in_its_official_group():
    entries = json.loads((FOLDER / "keys_eader_occse_aeft_acr.json").read_text())[NAME]
    official = {name: group for name, _, _, group, _ in entries if group is not None}
    names = {id(p): name.removeprefix("backbone.") for name, p in task().net.named_parameters()}
    order = {(1.0, 1.0): 0, (2.0, 0.0): 1, (10.0, 1.0): 2, (20.0, 0.0): 3}
    ours = {
        names[id(p)]: order[g["lr_scale"], g["decay_scale"]]
        for g in task().parameter_groups("segment")
        for p in g["params"]
    }
    assert ours == official


def test_maximum_over_scales_at_the_image_size():
    """The release's MSC: each map upsampled to its input, then to the image; the maximum of all."""
    net = task().net.eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32))
    label = torch.zeros(1, 48, 64, dtype=torch.uint8)
    with torch.no_grad():
        losses = task().eval().losses({"image": x, "label": label}, "segment", None)
        maps = []
        for factor in (1, 0.75, 0.5):
            size = [int(side * factor) for side in x.shape[2:]]
            scaled = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=True)
            maps.append(torch.nn.functional.interpolate(net(scaled), size, mode="bilinear", align_corners=False))
        whole = [torch.nn.functional.interpolate(m, (48, 64), mode="bilinear", align_corners=False) for m in maps]
        top = torch.stack(whole).amax(0)
    expected = [
        torch.nn.functional.cross_entropy(m, torch.zeros(1, *m.shape[2:], dtype=torch.long)) for m in [*maps, top]
    ]
    assert list(losses) == ["ce", "ce_0.75", "ce_0.5", "ce_max"]
    close(torch.stack(list(losses.values())), torch.stack(expected), "losses", 1e-6)
