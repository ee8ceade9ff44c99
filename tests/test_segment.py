"""Segmentation networks: settings, networks, losses."""

from __future__ import annotations

import pytest
import torch
from stages import TINY
from torch.nn import functional as F

from wsss import backbones
from wsss.data.pixels import RGB_MEAN, RGB_STD
from wsss.errors import WsssError
from wsss.files import read_yaml
from wsss.plan.resolve import PACKAGE
from wsss.segment.deeplab import unsettled_norms
from wsss.segment.models import MODELS, build
from wsss.segment.presets import FILE, SECTIONS, resolve
from wsss.segment.task import SegmentTask, cross_entropy, resize_labels

PRESETS = read_yaml(FILE)
DEFAULTS = read_yaml(PACKAGE / "defaults.yaml")


def settings(preset: str, **changes) -> dict:
    """The two sections of a preset, with a small network."""
    backbone = {**TINY, "output_stride": 8, **changes.pop("backbone", {})}
    return resolve({"deeplab": {"preset": preset, "backbone": backbone, **changes}, "predict": {}})


# ---- settings


def keys(section: dict) -> dict:
    return {key: keys(value) if isinstance(value, dict) else None for key, value in section.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_and_defaults_have_the_same_keys(preset):
    for section in SECTIONS:
        default = {key: value for key, value in DEFAULTS[section].items() if key not in ("labels", "preset")}
        assert keys(PRESETS[preset][section]) == keys(default) == default  # every default is null: the preset's value
    assert DEFAULTS["deeplab"]["preset"] in PRESETS


def test_overrides_go_over_the_preset_and_null_does_not():
    config = {"deeplab": {**DEFAULTS["deeplab"], "preset": "aeft"}, "predict": DEFAULTS["predict"], "seed": 3}
    config["deeplab"]["train"] = {**config["deeplab"]["train"], "crop": 64, "jitter": False}
    resolved = resolve(config)
    assert resolved["deeplab"]["train"] == {**PRESETS["aeft"]["deeplab"]["train"], "crop": 64, "jitter": False}
    assert resolved["deeplab"]["labels"] == DEFAULTS["deeplab"]["labels"]
    assert resolved["predict"] == PRESETS["aeft"]["predict"]
    assert resolved["seed"] == 3
    assert resolve(resolved) == resolved
    assert config["deeplab"]["train"]["epochs"] is None  # the given mapping is left as it was


@pytest.mark.parametrize(
    ("deeplab", "message"),
    [
        ({"preset": "sem"}, "unknown deeplab.preset 'sem'"),
        ({"preset": "seam", "train": {"stps": 3}}, r"unknown key 'deeplab\.train\.stps'"),
        ({"preset": "seam", "backbone": "tiny"}, r"deeplab\.backbone: give a mapping"),
    ],
)
def test_faulty_settings_are_named(deeplab, message):
    with pytest.raises(WsssError, match=message):
        resolve({"deeplab": deeplab})


# ---- networks


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
@pytest.mark.parametrize("model", MODELS)
def test_every_network_gives_logits_of_its_classes(model, backbone):
    stride = 8 if backbone == "tiny" else 16
    spec = {"name": backbone, "output_stride": stride}
    net = build(settings("seam", model=model, backbone=spec)["deeplab"], 4).eval()
    x = torch.randn(1, 3, 65, 50)
    logits = net(x)
    expected = (4,) * 2 if model == "deeplab_v3plus" else (stride,) * 2
    assert logits.shape == (1, 5, *(-(-side // s) for side, s in zip(x.shape[2:], expected, strict=True)))
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "width"), [("resnet18", 256), ("tiny", 64)])
def test_deeplab_v3plus_has_its_published_width_unless_the_backbone_is_narrow(name, width):
    deeplab = settings("seam", model="deeplab_v3plus", backbone={"name": name, "output_stride": 8})["deeplab"]
    assert build(deeplab, 3).head.in_channels == width


def test_vgg16_is_largefov_by_its_own_layers():
    deeplab = settings("seam", model="largefov_vgg16", backbone={"name": "vgg16", "freeze_norm": False})["deeplab"]
    net = build(deeplab, 2)
    assert net.backbone.fc6.dilation == (12, 12)
    assert [name for name, _ in net.named_children()] == ["backbone", "drop", "fc8"]
    assert net.input == "vgg_bgr"


def test_encoders_of_timm_read_its_weight_files(tmp_path):
    import timm

    spec = {"name": "timm:xception65", "output_stride": 16}
    source = timm.create_model("xception65", pretrained=False, output_stride=16).eval()
    torch.save(source.state_dict(), tmp_path / "xception65.pth")
    encoder = backbones.build({**spec, "weights": tmp_path / "xception65.pth", "freeze_norm": True}).train()
    x = torch.randn(1, 3, 33, 49)
    mean, scale = (torch.tensor(value)[:, None, None] for value in (RGB_MEAN, RGB_STD))
    with torch.no_grad():  # the network's own pixels are from -1 to 1
        torch.testing.assert_close(encoder(x)["conv6"], source.forward_features((x * scale + mean - 0.5) / 0.5))
    assert [encoder(x)[tap].shape[2:] for tap in ("conv3", "conv6")] == [(9, 13), (3, 4)]
    learning = backbones.build({**spec, "freeze_norm": "statistics"}).train()
    norms = [module for module in learning.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)


def test_faulty_backbones_are_named():
    with pytest.raises(WsssError, match=r"'timm:nothing' is no network of timm"):
        build(settings("eader", backbone={"name": "timm:nothing"})["deeplab"], 2)
    with pytest.raises(WsssError, match=r"unknown backbone 'nothing': choose one of .*tiny"):
        build(settings("eader", backbone={"name": "nothing"})["deeplab"], 2)
    with pytest.raises(WsssError, match="stride 4 at conv3"):
        build(settings("eader", backbone={"output_stride": 4})["deeplab"], 2)
    with pytest.raises(WsssError, match=r"unknown deeplab\.model 'deeplab'"):
        build(settings("eader", model="deeplab")["deeplab"], 2)


NETWORKS = {  # preset and changes -> network, backbone
    ("seam",): ("largefov_seam", "resnet38d"),
    ("aeft",): ("largefov_aeft", "resnet38d"),
    ("occse",): ("largefov_aeft", "resnet38d"),
    ("largefov_vgg16",): ("largefov_vgg16", "vgg16"),
    ("deeplab_v2",): ("deeplab_v2", "resnet101"),
    ("eader",): ("deeplab_v3plus", "timm:xception65"),
    ("eader", "resnet101"): ("deeplab_v3plus", "resnet101"),
}


@pytest.mark.parametrize("chosen", NETWORKS, ids="-".join)
def test_networks_of_the_papers_are_a_preset_away(chosen):
    """With their own backbones; no memory is filled, so that all take seconds."""
    preset, *backbone = chosen
    change = {"backbone": {"name": backbone[0]}} if backbone else {}
    deeplab = resolve({"deeplab": {"preset": preset, **change}})["deeplab"]
    with torch.device("meta"):
        task = SegmentTask(deeplab, 20)
        batch = {"image": torch.empty(2, 3, 65, 65), "label": torch.empty(2, 65, 65, dtype=torch.uint8)}
        losses = task.losses(batch, "segment", None)
    assert (deeplab["model"], deeplab["backbone"]["name"]) == NETWORKS[chosen]
    assert set(losses) == {"ce", *({"ce_0.75", "ce_0.5", "ce_max"} if deeplab["loss"]["scales"] else ())}
    assert sum(p.numel() for p in task.parameters()) > 20e6
    assert {id(p) for g in task.parameter_groups("segment") for p in g["params"]} <= {id(p) for p in task.parameters()}


# ---- task


def test_parameter_groups_of_the_presets():
    for preset, trains_norms in (("seam", False), ("aeft", False), ("eader", True), ("deeplab_v2", False)):
        task = SegmentTask(settings(preset)["deeplab"], 3)
        groups = task.parameter_groups("segment")
        grouped = [id(p) for group in groups for p in group["params"]]
        assert len(grouped) == len(set(grouped))
        norms = {
            id(p) for m in task.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters(recurse=False)
        }
        trained = {id(p) for p in task.parameters() if p.requires_grad}
        assert set(grouped) == (trained if trains_norms else trained - norms)
        scale = {id(p): (g["lr_scale"], g["decay_scale"]) for g in groups for p in g["params"]}
        new = PRESETS[preset]["deeplab"]["new_lr"]
        last = [m for m in task.net.heads()[-1].modules() if isinstance(m, torch.nn.Conv2d)][-1]
        assert scale[id(last.weight)] == (new, 1.0)
        assert scale[id(last.bias)] == (2 * new, 0.0)
        assert scale[id(task.net.backbone.conv3.conv1.weight)] == (1.0, 1.0)


def test_cross_entropy_counts_labelled_pixels():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    torch.testing.assert_close(cross_entropy(logits, labels.byte()), F.cross_entropy(logits, labels, ignore_index=255))
    assert cross_entropy(logits, torch.full_like(labels, 255)) == 0


def test_balanced_cross_entropy_by_hand():
    logits = torch.tensor([[[[2.0, 0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0, 5.0]]]])  # two classes, four pixels
    each = F.cross_entropy(logits[0, :, 0].T, torch.tensor([0, 0, 1, 1]), reduction="none")
    labels = torch.tensor([[[0, 0, 1, 255]]])
    torch.testing.assert_close(cross_entropy(logits, labels, True), (each[:2].mean() + each[2]) / 2)


def test_labels_are_reduced_without_mixing_values():
    labels = torch.tensor([[[0, 0, 7, 7], [0, 0, 7, 7], [255, 255, 3, 3], [255, 255, 3, 3]]], dtype=torch.uint8)
    assert resize_labels(labels, (2, 2)).tolist() == [[[0, 7], [255, 3]]]


def test_msc_of_deeplab_v2_compares_at_the_logits():
    task = SegmentTask(settings("deeplab_v2")["deeplab"], 3).eval()
    batch = {"image": torch.randn(2, 3, 64, 48), "label": torch.randint(0, 4, (2, 64, 48), dtype=torch.uint8)}
    losses = task.losses(batch, "segment", None)
    assert list(losses) == ["ce", "ce_0.5", "ce_0.75", "ce_max"]
    fine, coarse = task.net(batch["image"]), task.net(F.interpolate(batch["image"], (32, 24), mode="bilinear"))
    assert (fine.shape[2:], coarse.shape[2:]) == ((8, 6), (4, 3))
    torch.testing.assert_close(losses["ce"], cross_entropy(fine, batch["label"][:, 4::8, 4::8]))
    torch.testing.assert_close(losses["ce_0.5"], cross_entropy(coarse, batch["label"][:, 8::16, 8::16]))
    assert losses["ce_max"] != losses["ce"]


def test_a_run_too_short_for_its_batch_statistics_says_so():
    task = SegmentTask(settings("seam")["deeplab"], 2)
    said = unsettled_norms(task, 300)
    assert "keeps 91% of the initial batch statistics after 300 steps" in said
    assert "raise it to 0.01 or more" in said  # .99^300 is .05
    assert unsettled_norms(task, 20000) is None
    assert unsettled_norms(SegmentTask(settings("aeft", backbone={"freeze_norm": True})["deeplab"], 2), 300) is None
