"""Every command on bad or empty input: one clear line and no file, or an empty result that all accept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from wsss import cli
from wsss.data.index import Dataset, Record
from wsss.files import read_json
from wsss.methods import build
from wsss.plan.resolve import merge, method_settings
from wsss.refine import affinity, irn_net
from wsss.segment.presets import resolve
from wsss.segment.task import SegmentTask
from wsss.stores import Instances, Masks, Scores, write_scores

SIZE = (48, 56)
TINY = {"name": "tiny", "weights": None, "output_stride": None, "freeze": [], "freeze_norm": False}
TRAIN = {"steps": 2, "batch_size": 3, "workers": 0}
CHANGES = {
    "backbone": TINY,
    "affinity": {"train": {**TRAIN, "crop": 64}},
    "irn": {"backbone": {**TINY, "dilate": None}, "train": {**TRAIN, "crop": 64}},
    "walk": {"log_steps": 2},
    "segment": {"backbone": TINY},
    "localize": {"scales": [1.0]},
    "predict": {"scales": [1.0]},
}
CONFIG = {
    **merge(method_settings("cam"), CHANGES, "test", new_keys=True),
    "seed": 0,
    "dataset": {"name": "toy", "splits": {"train": "train", "seed": "train", "val": "train"}},
}
STORES = {"crf": Scores, "walk": Masks, "irn-labels": Masks, "irn": Masks, "irn-instances": Instances}
MODELS = {"walk": "affinity.pt", "irn": "irn.pt", "irn-instances": "irn.pt"}
ALONE = {"localize": "cam.pt", "predict": "deeplab.pt"}  # commands that need no scores, and their models
KINDS = STORES | {"localize": Scores, "predict": Masks}
SUFFIX = {Scores: "npz", Instances: "npz", Masks: "zip"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two images with a class, one without; their scores, models that know nothing, and what the commands make."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    records, root = [], folder / "data"
    root.mkdir()
    with write_scores(folder / "scores.npz") as store:
        for name, labels in (("a", ("cat",)), ("b", ("dog",)), ("none", ())):
            image = rng.integers(0, 50, (*SIZE, 3)).astype(np.uint8)
            image[10:30, 10:40] += 150
            Image.fromarray(image).save(root / f"{name}.png")
            truth = np.zeros(SIZE, np.uint8)
            truth[10:30, 10:40] = sum(("cat", "dog").index(label) + 1 for label in labels)
            paths = {"mask": f"{name}-mask.png", "instances": f"{name}-objects.png"}
            for path, values in zip(paths.values(), (truth, truth > 0), strict=True):
                Image.fromarray(values.astype(np.uint8)).save(root / path)
            planes = np.zeros((len(labels), *SIZE))
            planes[:, 12:28, 12:38] = 1
            store.put(name, [("cat", "dog").index(label) + 1 for label in labels], planes)
            size = {"width": SIZE[1], "height": SIZE[0], "sha256": "", "mask_sha256": None}
            records.append(Record(name, f"{name}.png", split=("train",), labels=labels, **paths, **size))
    Dataset("toy", ["cat", "dog"], root, records).save(root)
    torch.manual_seed(0)
    torch.save(affinity.build(CONFIG).state_dict(), folder / "affinity.pt")
    torch.save(irn_net.build(CONFIG["irn"]).state_dict(), folder / "irn.pt")
    torch.save(build(CONFIG, 2).state_dict(), folder / "cam.pt")
    torch.save(SegmentTask(resolve(CONFIG)["segment"], 2).state_dict(), folder / "deeplab.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for command in KINDS:
        run(folder, command)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "copy", symlinks=True)


def run(folder: Path, command: str, out: str = "", **options: str) -> Path:
    """One command on the files in ``folder``, as its rule runs it; returns what it writes."""
    path = folder / (out or f"{command}.{SUFFIX[KINDS[command]]}")
    models = MODELS | ALONE
    given = {"config": "config.yaml", "data": "data"}
    given |= {} if command in ALONE else {"scores": "scores.npz"}
    given |= {"model": models[command]} if command in models else {}
    paths = {key: str(folder / value) for key, value in given.items()} | {"out": str(path)}
    where = {"device": "cpu"} if command in models else {}
    cli.main([command, *(f"--{key}={value}" for key, value in {**paths, **where, **options}.items())])
    return path


def refused(capsys, call: Callable) -> str:
    """The one line that a refused command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        call()
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["walk", "irn-labels", "irn"])
def test_without_any_class_all_is_background(made, command):
    masks = Masks([made / f"{command}.zip"])
    assert masks.ids == ["a", "b", "none"]
    assert masks.get("none").shape == SIZE
    assert not masks.get("none").any()


def test_without_any_class_scores_are_certain_and_there_is_no_instance(made):
    for alpha in CONFIG["crf"]["alphas"]:
        classes, planes = Scores([made / "crf.npz"]).get(f"none@{alpha}")
        assert classes.tolist() == [0]
        assert (planes == np.ones((1, *SIZE))).all()
    assert Instances([made / "irn-instances.npz"]).get("none").masks.shape == (0, *SIZE)


def test_networks_learn_from_images_without_any_class(made, tmp_path):
    given = ["--config", str(made / "config.yaml"), "--data", str(made / "data"), "--device", "cpu"]
    cli.main(["affinity", *given, "--scores", str(made / "crf.npz"), "--out", str(tmp_path / "affinity")])
    cli.main(["irnet", *given, "--masks", str(made / "irn-labels.zip"), "--out", str(tmp_path / "irnet")])
    assert (tmp_path / "affinity/model.pt").is_file()
    assert (tmp_path / "irnet/model.pt").is_file()


@pytest.mark.parametrize("command", STORES)
def test_an_image_of_another_size(folder, command, capsys):
    Image.new("RGB", (30, 20)).save(folder / "data/b.png")
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: image 'b' is 30×20 pixels, but what the step before made of it is 56×48")
    assert not list(folder.glob("*out*"))


@pytest.mark.parametrize("command", STORES)
def test_scores_of_another_data_set(folder, command, capsys):
    with write_scores(folder / "scores.npz") as store:
        for name in ("a", "b", "none"):
            store.put(name, [17], np.ones((1, *SIZE)))
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: scores of image 'a' have class 17 of 2")
    assert not list(folder.glob("*out*"))


@pytest.mark.parametrize("command", STORES)
def test_scores_that_do_not_cover_the_images(folder, command, capsys):
    with write_scores(folder / "scores.npz") as store:
        store.put("a", [1], np.ones((1, *SIZE)))
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line == f"wsss {command}: no result for image 'b'; the step before did not cover it"
    assert not list(folder.glob("*out*"))


@pytest.mark.parametrize("command", MODELS)
def test_a_model_of_another_backbone(folder, command, capsys):
    other = {"name": "resnet18", "output_stride": None, "dilate": None}
    changed = {"backbone": {"name": "resnet18", "output_stride": None}, "irn": {"backbone": other}}
    (folder / "config.yaml").write_text(yaml.safe_dump(merge(CONFIG, changed, "test", new_keys=True)))
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: {folder / MODELS[command]}: not a model of this configuration (")
    assert "Net on resnet18)" in line
    (folder / MODELS[command]).write_bytes(b"no model")
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: {folder / MODELS[command]}: ")
    assert not list(folder.glob("*out*"))


@pytest.mark.parametrize("network", ["affinity", "irnet"])
def test_images_that_changed_before_training(folder, network, capsys):
    Image.new("RGB", (30, 20)).save(folder / "data/b.png")
    given = ["--config", str(folder / "config.yaml"), "--data", str(folder / "data"), "--device", "cpu"]
    made = ["--scores", str(folder / "crf.npz")] if network == "affinity" else ["--masks", f"{folder}/irn-labels.zip"]
    line = refused(capsys, lambda: cli.main([network, *given, *made, "--out", str(folder / "out")]))
    assert line.startswith(f"wsss {network}: image 'b' is 30×20 pixels, but what the step before made of it is 56×48")
    assert not (folder / "out/model.pt").exists()


@pytest.mark.parametrize("number", ["0", "-1", "x"])
@pytest.mark.parametrize("command", ["crf", "walk", "irn-labels"])
def test_a_number_of_processes_that_is_none(made, command, number, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", workers=number))
    assert line == f"wsss {command}: --workers {number}: give a number of processes, 1 or more"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:0", "cpu:2", "auto:1", ""])
@pytest.mark.parametrize("command", MODELS)
def test_a_device_that_is_none(made, command, device, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", device=device))
    assert line == f"wsss {command}: --device {device}: give auto, cpu, cuda, or cuda:<number of GPUs>, as cuda:2"


def test_a_classifier_does_not_learn_from_an_image_without_any_class(made, tmp_path, capsys):
    given = ["--config", str(made / "config.yaml"), "--data", str(made / "data"), "--out", str(tmp_path / "out")]
    line = refused(capsys, lambda: cli.main(["train", *given]))
    assert line.startswith("wsss train: image 'none' of data set 'toy' has no class (1 such images in all): label it")


@pytest.mark.parametrize("option", ["data", "config"])
@pytest.mark.parametrize("command", ["localize", "crf"])
def test_a_file_that_is_not_there(made, command, option, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", **{option: "nowhere"}))
    assert line == f"wsss {command}: nowhere: no such file; make it first, or correct the path"


@pytest.mark.parametrize("command", ["localize", "crf", "walk", "irn", "predict"])
def test_settings_of_another_stage(folder, command, capsys):
    config = folder / "config.yaml"
    said = f"wsss {command}: {config}: has no section '{command}'; give the config.yaml in the folder of this stage"
    for settings in ({key: CONFIG[key] for key in CONFIG if key != command}, None):
        config.write_text(yaml.safe_dump(settings))
        assert refused(capsys, lambda: run(folder, command)) == said


def test_weights_that_the_settings_name_are_inputs_of_the_command(folder, capsys):
    named = {**CONFIG, "backbone": {**TINY, "weights": "tiny.pt"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(named))
    given = ["--config", str(folder / "config.yaml"), "--data", str(folder / "data"), "--out", str(folder / "out")]
    line = refused(capsys, lambda: cli.main(["train", *given]))
    assert line == ("wsss train: --weights tiny.pt is missing: the settings name it, and the record of the job must")
    assert not (folder / "out").exists()


def in_shards(made: Path, folder: Path, command: str) -> list[Path]:
    """What the command makes of three images in five shards."""
    suffix = SUFFIX[KINDS[command]]
    return [run(made, command, str(folder / f"{i}.{suffix}"), shard=f"{i}/5") for i in range(5)]


@pytest.mark.parametrize("command", KINDS)
def test_more_shards_than_images(made, tmp_path, command):
    store, paths = KINDS[command], in_shards(made, tmp_path, command)
    assert [len(store([path])) > 0 for path in paths] == [True] * 3 + [False] * 2
    whole, parts = store([made / f"{command}.{SUFFIX[store]}"]), store(paths)
    assert whole.ids == parts.ids
    for image_id in whole.ids:
        for ours, theirs in zip(whole.get(image_id), parts.get(image_id), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("command", [command for command in KINDS if command != "irn-labels"])
def test_shards_of_no_image_change_nothing_that_is_measured(made, tmp_path, command):
    kind = {Scores: "--scores", Masks: "--masks", Instances: "--instances"}[KINDS[command]]
    found = []
    for i, shards in enumerate(([made / f"{command}.{SUFFIX[KINDS[command]]}"], in_shards(made, tmp_path, command))):
        out = tmp_path / f"{i}/any_train.json"
        given = ["--config", str(made / "config.yaml"), "--data", str(made / "data"), "--part", "train"]
        cli.main(["measure", *given, kind, *map(str, shards), "--out", str(out)])
        found.append(read_json(out))
    assert found[0] == found[1]
    assert found[0]["images"] == 3
