"""DeepLab at work: samples, training and prediction, on images of coloured squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from stages import TINY, run, train
from torch.nn import functional as F
from toys import mask_shard

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.files import sha256
from wsss.segment.crf import Refine
from wsss.segment.predict import pass_logits, probabilities
from wsss.segment.presets import presets, resolve
from wsss.segment.samples import SegmentationSamples
from wsss.segment.task import load_task
from wsss.settings.check import check
from wsss.stores import Masks, png_bytes

PRESETS = presets()

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
    train["antialias"] = True
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
    with pytest.raises(
        WsssError, match=r"has class 17, but the last class of this data set is 2: it is of another data set; give"
    ):
        samples.get(2, np.random.default_rng(0))
    assert (samples.get(3, np.random.default_rng(0))["label"] == 255).all()


# ---- stages


def stage_config(**deeplab) -> dict:
    train = {**train_settings(), "steps": 40, "batch_size": 4, "optimizer": {"lr": 0.05}}
    backbone = {**TINY, "output_stride": 8}
    network = {"preset": "seam", "labels": "walk", "model": "largefov_aeft", "norm_momentum": 0.1, "train_norms": True}
    predict = {"scales": [1.0, 1.25], "crf": {"iterations": 2}}
    own = {**network, "backbone": backbone, "train": train, **deeplab}
    return resolve({"seed": 4, "deeplab": own, "predict": predict})


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deeplab")
    images = dataset.split("train")
    return train("deeplab", stage_config(), images, folder, masks=[mask_shard(folder / "m.zip", images)])


def test_training_learns_what_prediction_shows(dataset, trained, tmp_path):
    images = dataset.split("val")
    run("predict", stage_config(), images, tmp_path / "val.zip", model=trained)
    masks = Masks([tmp_path / "val.zip"])
    assert masks.ids == sorted(images.ids)
    right = np.mean([(masks.get(image_id) == images.mask(image_id)).mean() for image_id in images.ids])
    background = np.mean([(images.mask(image_id) == 0).mean() for image_id in images.ids])
    assert right > 0.9 > background


def test_prediction_depends_neither_on_shards_nor_on_processes(dataset, trained, tmp_path):
    whole, parts = tmp_path / "whole.zip", [tmp_path / f"{i}.zip" for i in range(3)]
    run("predict", stage_config(), dataset, whole, model=trained)
    for i, part in enumerate(parts):
        run("predict", stage_config(), dataset, part, (i, 3), model=trained, workers=2 if i == 0 else 1)
    one, other = Masks([whole]), Masks(parts)
    assert one.ids == other.ids
    assert all((one.get(image_id) == other.get(image_id)).all() for image_id in one.ids)


def test_training_twice_gives_the_same_bytes(dataset, tmp_path):
    config = stage_config(labels="ground_truth")
    config["deeplab"]["train"]["steps"] = 3
    for name in ("a", "b"):
        train("deeplab", config, dataset, tmp_path / name)
    assert sha256(tmp_path / "a/model.pt") == sha256(tmp_path / "b/model.pt")


def test_labels_and_masks_must_agree(dataset, tmp_path):
    with pytest.raises(WsssError, match=r"deeplab\.labels is 'walk'"):
        train("deeplab", stage_config(), dataset, tmp_path)
    with pytest.raises(WsssError, match=r"deeplab\.labels is 'ground_truth'"):
        train("deeplab", stage_config(labels="ground_truth"), dataset, tmp_path, masks=[])


def test_a_model_of_other_settings_is_refused(trained, tmp_path):
    deeplab = stage_config(model="deeplab_v2")["deeplab"]
    with pytest.raises(WsssError, match=r"not a model of .* \(deeplab_v2 on tiny, 2 classes\)"):
        load_task(deeplab, 2, trained)
    with pytest.raises(WsssError, match="nowhere"):
        load_task(deeplab, 2, tmp_path / "nowhere.pt")


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
        torch.testing.assert_close(probabilities(net, views, size, {**OFF, "fusion": fusion}, LOSS)[0], value)


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
    loss = {**LOSS, "at": PRESETS["deeplab_v2"]["deeplab"]["loss"]["at"]}
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
def test_unknown_choices_are_named(key, value):
    config = stage_config()
    assert check(config) == []
    config["predict"][key] = value
    [finding] = check(config)
    assert str(finding).startswith(f"predict.{key} is ")
