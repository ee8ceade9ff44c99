"""Segmentation networks: settings, losses, samples, training and prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from toys import mask_shard

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.files import read_yaml, sha256
from wsss.plan.resolve import PACKAGE
from wsss.segment import predict_stage, segment_stage
from wsss.segment.crf import Refine
from wsss.segment.encoders import build_backbone
from wsss.segment.models import MODELS, build
from wsss.segment.predict import pass_logits, probabilities
from wsss.segment.presets import FILE, SECTIONS, resolve
from wsss.segment.samples import SegmentationSamples
from wsss.segment.stage import load_task, unsettled_norms
from wsss.segment.task import SegmentTask, cross_entropy, resize_labels
from wsss.stores import Masks, png_bytes

PRESETS = read_yaml(FILE)
DEFAULTS = read_yaml(PACKAGE / "defaults.yaml")
TINY = {"name": "tiny", "output_stride": None, "dropout": None, "freeze_norm": False}


def settings(preset: str, **changes) -> dict:
    """A resolved config with the network small."""
    backbone = {**TINY, "output_stride": 8, **changes.pop("backbone", {})}
    return resolve({"segment": {"preset": preset, "backbone": backbone, **changes}, "predict": {}})


# ---- settings


def keys(section: dict) -> dict:
    return {key: keys(value) if isinstance(value, dict) else None for key, value in section.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_and_defaults_have_the_same_keys(preset):
    for section in SECTIONS:
        default = {key: value for key, value in DEFAULTS[section].items() if key not in ("labels", "preset")}
        assert keys(PRESETS[preset][section]) == keys(default) == default  # every default is null: the preset's value
    assert DEFAULTS["segment"]["preset"] in PRESETS


def test_overrides_go_over_the_preset_and_null_does_not():
    config = {"segment": {**DEFAULTS["segment"], "preset": "aeft"}, "predict": DEFAULTS["predict"], "seed": 3}
    config["segment"]["train"] = {**config["segment"]["train"], "crop": 64, "jitter": False}
    resolved = resolve(config)
    assert resolved["segment"]["train"] == {**PRESETS["aeft"]["segment"]["train"], "crop": 64, "jitter": False}
    assert resolved["segment"]["labels"] == DEFAULTS["segment"]["labels"]
    assert resolved["predict"] == PRESETS["aeft"]["predict"]
    assert resolved["seed"] == 3
    assert resolve(resolved) == resolved
    assert config["segment"]["train"]["epochs"] is None  # the given mapping is left as it was


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"preset": "sem"}, "unknown segment.preset 'sem'"),
        ({"preset": "seam", "train": {"stps": 3}}, r"unknown key 'segment\.train\.stps'"),
        ({"preset": "seam", "backbone": "tiny"}, r"segment\.backbone: give a mapping"),
    ],
)
def test_faulty_settings_are_named(segment, message):
    with pytest.raises(WsssError, match=message):
        resolve({"segment": segment})


# ---- networks


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
@pytest.mark.parametrize("model", MODELS)
def test_every_network_gives_logits_of_its_classes(model, backbone):
    stride = 8 if backbone == "tiny" else 16
    spec = {"name": backbone, "output_stride": stride}
    segment = settings("seam", model=model, backbone=spec)["segment"]
    net = build(segment, 4).eval()
    x = torch.randn(1, 3, 65, 50)
    logits = net(x)
    expected = (4,) * 2 if model == "deeplab_v3plus" else (stride,) * 2
    assert logits.shape == (1, 5, *(-(-side // s) for side, s in zip(x.shape[2:], expected, strict=True)))
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_vgg16_is_largefov_by_its_own_layers():
    segment = settings("seam", model="largefov_vgg16", backbone={"name": "vgg16", "freeze_norm": False})["segment"]
    net = build(segment, 2)
    assert net.backbone.fc6.dilation == (12, 12)
    assert [name for name, _ in net.named_children()] == ["backbone", "drop", "fc8"]
    assert net.input == "vgg_bgr"


def test_encoders_of_timm_read_its_weight_files(tmp_path):
    import timm

    spec = {"name": "tu-xception65", "output_stride": 16}
    source = timm.create_model("xception65", pretrained=False, output_stride=16).eval()
    torch.save(source.state_dict(), tmp_path / "xception65.pth")
    encoder = build_backbone({**spec, "weights": tmp_path / "xception65.pth", "freeze_norm": True}).train()
    x = torch.randn(1, 3, 33, 49)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)["conv6"], source.forward_features(x))
    assert [encoder(x)[tap].shape[2:] for tap in ("conv3", "conv6")] == [(9, 13), (3, 4)]
    learning = build_backbone({**spec, "freeze_norm": "statistics"}).train()
    norms = [module for module in learning.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)


def test_faulty_backbones_are_named():
    with pytest.raises(WsssError, match=r"'tu-nothing' is none of .*tiny"):
        build_backbone({"name": "tu-nothing"})
    with pytest.raises(WsssError, match="stride 4 at conv3"):
        build(settings("eader", backbone={"output_stride": 4})["segment"], 2)
    with pytest.raises(WsssError, match=r"unknown segment\.model 'deeplab'"):
        build(settings("eader", model="deeplab")["segment"], 2)


NETWORKS = {  # preset and changes -> network, backbone
    ("seam",): ("largefov_seam", "resnet38d"),
    ("aeft",): ("largefov_aeft", "resnet38d"),
    ("occse",): ("largefov_aeft", "resnet38d"),
    ("largefov_vgg16",): ("largefov_vgg16", "vgg16"),
    ("deeplab_v2",): ("deeplab_v2", "resnet101"),
    ("eader",): ("deeplab_v3plus", "tu-xception65"),
    ("eader", "resnet101"): ("deeplab_v3plus", "resnet101"),
}


@pytest.mark.parametrize("chosen", NETWORKS, ids="-".join)
def test_networks_of_the_papers_are_a_preset_away(chosen):
    """With their own backbones; no memory is filled, so that all take seconds."""
    preset, *backbone = chosen
    change = {"backbone": {"name": backbone[0]}} if backbone else {}
    segment = resolve({"segment": {"preset": preset, **change}})["segment"]
    with torch.device("meta"):
        task = SegmentTask(segment, 20)
        batch = {"image": torch.empty(2, 3, 65, 65), "label": torch.empty(2, 65, 65, dtype=torch.uint8)}
        losses = task.losses(batch, "segment", None)
    assert (segment["model"], segment["backbone"]["name"]) == NETWORKS[chosen]
    assert set(losses) == {"ce", *({"ce_0.75", "ce_0.5", "ce_max"} if segment["loss"]["scales"] else ())}
    assert sum(p.numel() for p in task.parameters()) > 20e6
    assert {id(p) for g in task.parameter_groups("segment") for p in g["params"]} <= {id(p) for p in task.parameters()}


# ---- task


def test_parameter_groups_of_the_presets():
    for preset, trains_norms in (("seam", False), ("aeft", False), ("eader", True), ("deeplab_v2", False)):
        task = SegmentTask(settings(preset)["segment"], 3)
        groups = task.parameter_groups("segment")
        grouped = [id(p) for group in groups for p in group["params"]]
        assert len(grouped) == len(set(grouped))
        norms = {
            id(p) for m in task.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters(recurse=False)
        }
        trained = {id(p) for p in task.parameters() if p.requires_grad}
        assert set(grouped) == (trained if trains_norms else trained - norms)
        scale = {id(p): (g["lr_scale"], g["decay_scale"]) for g in groups for p in g["params"]}
        new = PRESETS[preset]["segment"]["new_lr"]
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
    task = SegmentTask(settings("deeplab_v2")["segment"], 3).eval()
    batch = {"image": torch.randn(2, 3, 64, 48), "label": torch.randint(0, 4, (2, 64, 48), dtype=torch.uint8)}
    losses = task.losses(batch, "segment", None)
    assert list(losses) == ["ce", "ce_0.5", "ce_0.75", "ce_max"]
    fine, coarse = task.net(batch["image"]), task.net(F.interpolate(batch["image"], (32, 24), mode="bilinear"))
    assert (fine.shape[2:], coarse.shape[2:]) == ((8, 6), (4, 3))
    torch.testing.assert_close(losses["ce"], cross_entropy(fine, batch["label"][:, 4::8, 4::8]))
    torch.testing.assert_close(losses["ce_0.5"], cross_entropy(coarse, batch["label"][:, 8::16, 8::16]))
    assert losses["ce_max"] != losses["ce"]


# ---- images: a bright square of one of two colours on grey noise

COLOURS = {1: (220, 60, 60), 2: (60, 60, 220)}


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.normal(120, 25, (*size, 3))
    label = np.zeros(size, np.uint8)
    y, x = rng.integers(0, 20, 2)
    value = 1 + seed % 2
    label[y : y + 20, x : x + 22] = value
    image[label > 0] = COLOURS[value] + rng.normal(0, 20, ((label > 0).sum(), 3))
    return image.clip(0, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("squares")
    records = []
    for seed in range(12):
        image, label = picture(seed)
        Image.fromarray(image).save(folder / f"{seed}.png")
        (folder / f"{seed}_mask.png").write_bytes(png_bytes(label))
        size = image.shape[1::-1]
        split = ("train",) if seed < 8 else ("val",)
        records.append(Record(f"im{seed}", f"{seed}.png", f"{seed}_mask.png", split, (), *size, "", ""))
    return Dataset("squares", ["red", "blue"], folder, records)


def train_settings(**changes) -> dict:
    train = {"crop": 40, "scale": [0.9, 1.2], "long_side": False, "flip": 0.5, "jitter": False, "jitter_p": 1.0}
    return {**train, **changes}


def test_image_and_label_stay_together(dataset, tmp_path):
    samples = SegmentationSamples(dataset, [mask_shard(tmp_path / "m.zip", dataset)], train_settings())
    assert len(samples) == len(dataset)
    for index in range(4):
        sample = samples.get(index, np.random.default_rng(index))
        assert sample["image"].shape == (3, 40, 40)
        image, label = sample["image"], sample["label"]
        assert (image[:, label == 255] == 0).all()  # outside: mean colour and ignored
        if index % 2 == 0:
            shown = image[0] - image[2] > 1.0  # clearly red
            inside = label == 1
            assert (shown & inside).sum() > 0.9 * inside.sum()
            assert (shown & (label == 0)).sum() < 0.1 * (label == 0).sum()


def test_ground_truth_and_masks_give_the_same_samples(dataset, tmp_path):
    shard = mask_shard(tmp_path / "m.zip", dataset)
    one, other = (SegmentationSamples(dataset, paths, train_settings()) for paths in (None, [shard]))
    a, b = (samples.get(3, np.random.default_rng(5)) for samples in (one, other))
    assert a["id"] == b["id"] == "im3"
    assert torch.equal(a["image"], b["image"])
    assert torch.equal(a["label"], b["label"])


def test_missing_and_misshapen_masks_are_named(dataset, tmp_path):
    shard = mask_shard(tmp_path / "m.zip", dataset, lambda masks: masks.pop("im5"))
    with pytest.raises(WsssError, match="no label map for image 'im5'"):
        SegmentationSamples(dataset, [shard], train_settings())
    shard = mask_shard(tmp_path / "n.zip", dataset, lambda masks: masks.update(im2=np.zeros((3, 4), np.uint8)))
    with pytest.raises(WsssError, match="label map of image 'im2' is 3×4, the image 40×48"):
        SegmentationSamples(dataset, [shard], train_settings()).get(2, np.random.default_rng(0))


def test_masks_of_another_data_set_are_named(dataset, tmp_path):
    other = np.where(dataset.mask("im2") == 1, 17, dataset.mask("im2")).astype(np.uint8)
    ignored = np.full_like(other, 255)
    shard = mask_shard(tmp_path / "m.zip", dataset, lambda masks: masks.update(im2=other, im3=ignored))
    samples = SegmentationSamples(dataset, [shard], train_settings())
    with pytest.raises(WsssError, match=r"label map of image 'im2' has class 17 of 2: it is of another data set; give"):
        samples.get(2, np.random.default_rng(0))
    assert (samples.get(3, np.random.default_rng(0))["label"] == 255).all()


# ---- stages


def stage_config(**segment) -> dict:
    train = {**train_settings(), "steps": 40, "batch_size": 4, "workers": 0, "optimizer": {"lr": 0.05}}
    backbone = {**TINY, "output_stride": 8}
    network = {"preset": "seam", "labels": "walk", "model": "largefov_aeft", "norm_momentum": 0.1, "train_norms": True}
    predict = {"scales": [1.0, 1.25], "crf": {"iterations": 2}}
    return {"seed": 4, "segment": {**network, "backbone": backbone, "train": train, **segment}, "predict": predict}


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deeplab")
    images = dataset.split("train")
    segment_stage(stage_config(), images, [mask_shard(folder / "m.zip", images)], folder, "cpu")
    return folder / "model.pt"


def test_training_learns_what_prediction_shows(dataset, trained, tmp_path):
    images = dataset.split("val")
    predict_stage(stage_config(), images, trained, tmp_path / "val.zip", device="cpu")
    masks = Masks([tmp_path / "val.zip"])
    assert masks.ids == sorted(images.ids)
    right = np.mean([(masks.get(image_id) == images.mask(image_id)).mean() for image_id in images.ids])
    background = np.mean([(images.mask(image_id) == 0).mean() for image_id in images.ids])
    assert right > 0.9 > background


def test_prediction_depends_neither_on_shards_nor_on_processes(dataset, trained, tmp_path):
    whole, parts = tmp_path / "whole.zip", [tmp_path / f"{i}.zip" for i in range(3)]
    predict_stage(stage_config(), dataset, trained, whole, device="cpu")
    for i, part in enumerate(parts):
        predict_stage(stage_config(), dataset, trained, part, (i, 3), "cpu", workers=2 if i == 0 else 1)
    one, other = Masks([whole]), Masks(parts)
    assert one.ids == other.ids
    assert all((one.get(image_id) == other.get(image_id)).all() for image_id in one.ids)


def test_training_twice_gives_the_same_bytes(dataset, tmp_path):
    config = stage_config(labels="ground_truth")
    config["segment"]["train"]["steps"] = 3
    for name in ("a", "b"):
        segment_stage(config, dataset, None, tmp_path / name, "cpu")
    assert sha256(tmp_path / "a/model.pt") == sha256(tmp_path / "b/model.pt")


def test_a_run_too_short_for_its_batch_statistics_says_so():
    task = SegmentTask(settings("seam")["segment"], 2)
    said = unsettled_norms(task, 300)
    assert "keeps 91% of the initial batch statistics after 300 steps" in said
    assert "raise it to 0.01 or more" in said  # .99^300 is .05
    assert unsettled_norms(task, 20000) is None
    assert unsettled_norms(SegmentTask(settings("aeft", backbone={"freeze_norm": True})["segment"], 2), 300) is None


def test_labels_and_masks_must_agree(dataset, tmp_path):
    with pytest.raises(WsssError, match=r"segment\.labels is 'walk'"):
        segment_stage(stage_config(), dataset, None, tmp_path, "cpu")
    with pytest.raises(WsssError, match=r"segment\.labels is 'ground_truth'"):
        segment_stage(stage_config(labels="ground_truth"), dataset, [], tmp_path, "cpu")


def test_a_model_of_other_settings_is_refused(trained, tmp_path):
    segment = resolve(stage_config(model="deeplab_v2"))["segment"]
    with pytest.raises(WsssError, match=r"not a model of .* \(deeplab_v2 on tiny, 2 classes\)"):
        load_task(segment, 2, trained)
    with pytest.raises(WsssError, match="nowhere"):
        load_task(segment, 2, tmp_path / "nowhere.pt")


# ---- prediction


class Colours(torch.nn.Module):
    """Logits of fixed channels, so that fusion can be worked by hand; not symmetric under mirroring."""

    align_corners = False

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, -1.0]]))

    def forward(self, x):
        ramp = torch.linspace(0, 1, x.shape[3])
        return torch.einsum("kc,bchw->bkhw", self.weight, x) + ramp


OFF = {"multi_scale": False, "fusion": "softmax"}
LOSS = {"scales": [0.5], "align_corners": True, "at": "image"}


def test_fusions_by_hand():
    net, size = Colours(), (6, 8)
    x = torch.randn(1, 3, 6, 8)
    views = [torch.cat([x, x.flip(3)]), torch.cat([2 * x, 2 * x.flip(3)])]
    maps = [net(view)[0] for view in views] + [net(view)[1].flip(2) for view in views]
    expected = {
        "softmax": torch.stack([m.softmax(0) for m in maps]).mean(0),
        "logits": torch.stack(maps).mean(0).softmax(0),
        "max": torch.stack([m.softmax(0) for m in maps]).amax(0),
    }
    for fusion, value in expected.items():
        torch.testing.assert_close(probabilities(net, views, size, {**OFF, "fusion": fusion}, LOSS), value)


def test_further_scales_of_the_image_or_of_the_pass():
    net, x, size = Colours(), torch.randn(2, 3, 12, 16), (6, 8)
    for name, further in (("image", (3, 4)), ("pass", (6, 8))):
        small = F.interpolate(x, further, mode="bilinear", align_corners=True)
        maps = [F.interpolate(net(v), size, mode="bilinear", align_corners=False) for v in (x, small)]
        actual = pass_logits(net, x, size, {**OFF, "multi_scale": name}, LOSS)
        torch.testing.assert_close(actual, torch.maximum(*maps))
    alone = F.interpolate(net(x), size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(pass_logits(net, x, size, OFF, LOSS), alone)


def test_the_maximum_of_deeplab_v2_is_taken_at_the_logits():
    net, x, size = Colours(), torch.randn(2, 3, 12, 16), (31, 40)
    small = F.interpolate(x, (6, 8), mode="bilinear", align_corners=True)
    highest = torch.maximum(net(x), F.interpolate(net(small), (12, 16), mode="bilinear", align_corners=False))
    expected = F.interpolate(highest, size, mode="bilinear", align_corners=False)
    loss = {**LOSS, "at": PRESETS["deeplab_v2"]["segment"]["loss"]["at"]}
    actual = pass_logits(net, x, size, {**OFF, "multi_scale": PRESETS["deeplab_v2"]["predict"]["multi_scale"]}, loss)
    torch.testing.assert_close(actual, expected)
    assert not torch.allclose(pass_logits(net, x, size, {**OFF, "multi_scale": "pass"}, LOSS), expected)


def test_crf_follows_the_image():
    image, label = picture(1)
    noise = np.random.default_rng(2).uniform(size=(3, *label.shape)) < 0.2
    scores = np.stack([label == c for c in range(3)]) ^ noise
    scores = (0.2 + 0.6 * scores).astype(np.float32)
    wrong = (scores.argmax(0) != label).mean()
    assert (Refine(PRESETS["aeft"]["predict"]["crf"])((image, scores)) != label).mean() < wrong / 3


@pytest.mark.parametrize(("key", "value"), [("fusion", "mean"), ("multi_scale", True)])
def test_unknown_choices_are_named(dataset, trained, tmp_path, key, value):
    config = stage_config()
    config["predict"][key] = value
    with pytest.raises(WsssError, match=rf"predict\.{key}: unknown '{value}'"):
        predict_stage(config, dataset, trained, tmp_path / "x.zip", device="cpu")
