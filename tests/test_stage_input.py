"""Every command on bad or empty input: one clear line and no file, or an empty result that all accept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from stages import TINY

from wsss import cli
from wsss.data.index import Dataset, Record
from wsss.files import read_json, sha256
from wsss.methods import build
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import resolve
from wsss.refine import affinity_net, irn_net
from wsss.segment.task import SegmentTask
from wsss.stages import STAGES
from wsss.stores import Instances, Masks, Scores, write_scores

SIZE = (48, 56)
TRAIN = {"steps": 2, "batch_size": 3}
CHANGES = {
    "backbone": TINY,
    "affinity": {"train": {**TRAIN, "crop": 64}},
    "irn_train": {"backbone": {**TINY, "dilate": None}, "train": {**TRAIN, "crop": 64}},
    "walk": {"log_steps": 2},
    "deeplab": {"backbone": TINY},
    "cam": {"scales": [1.0]},
    "predict": {"scales": [1.0]},
}
CONFIG = {
    **resolve("cam", [Layer("test", CHANGES)]),
    "seed": 0,
    "dataset": {"name": "toy", "splits": {"train": "train", "measured": "train", "val": "train"}},
}
STORES = {
    "crf": Scores,
    "pamr": Scores,
    "walk": Masks,
    "irn_marks": Masks,
    "irn_walk": Masks,
    "irn_instances": Instances,
}
MODELS = {"walk": "affinity.pt", "irn_walk": "irn.pt", "irn_instances": "irn.pt"}
ALONE = {"cam": "cam.pt", "predict": "deeplab.pt"}  # commands that need no scores, and their models
KINDS = STORES | {"cam": Scores, "predict": Masks}
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
    torch.save(affinity_net.build(CONFIG).state_dict(), folder / "affinity.pt")
    torch.save(irn_net.build(CONFIG["irn_train"]).state_dict(), folder / "irn.pt")
    torch.save(build(CONFIG, 2).state_dict(), folder / "cam.pt")
    torch.save(SegmentTask(CONFIG["deeplab"], 2).state_dict(), folder / "deeplab.pt")
    configure(folder)
    for command in KINDS:
        run(folder, command)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(made, tmp_path / "copy", symlinks=True)


def configure(folder: Path, changes: dict | None = None) -> None:
    """Write the settings of every command that reads some."""
    settings = overlay(CONFIG, Layer("test", changes), new_keys=True)
    for stage in (*KINDS, "train", "affinity", "irn_train", "measure"):
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump({**settings, "stage": stage}))


def by_hand(folder: Path, command: str) -> None:
    """Call a command as one might by hand."""
    further = {
        "cam": ["--model", "cam.pt"],
        "crf": ["--scores", "scores.npz"],
        "measure": ["--stage=walk", "--images=measured", "--masks", "walk.zip"],
    }
    options = [str(folder / word) if "." in word else word for word in further.get(command, [])]
    out = "out" if command == "train" else "out.npz"
    cli.main([command, *given(folder, command), *options, "--out", str(folder / out)])


def given(folder: Path, stage: str) -> list[str]:
    """The options that every command of a stage takes."""
    return ["--config", str(folder / f"{stage}.yaml"), "--data", str(folder / "data")]


def run(folder: Path, command: str, out: str = "", **options: str) -> Path:
    """One command on the files in ``folder``, as its rule runs it; returns what it writes."""
    path = folder / (out or f"{command}.{SUFFIX[KINDS[command]]}")
    models = MODELS | ALONE
    reads = {"config": f"{command}.yaml", "data": "data"}
    reads |= {} if command in ALONE else {"scores": "scores.npz"}
    reads |= {"model": models[command]} if command in models else {}
    paths = {key: str(folder / value) for key, value in reads.items()} | {"out": str(path)}
    where = {"device": "cpu"} if STAGES[command].network else {}
    cli.main([command, *(f"--{key}={value}" for key, value in {**paths, **where, **options}.items())])
    return path


def results_in(folder: Path) -> list[str]:
    """Files that a command wrote to ``out``; the ledger of its attempts stays."""
    return [path.name for path in folder.glob("*out*") if not path.name.endswith("attempts.jsonl")]


def refused(capsys, call: Callable) -> str:
    """The one line that a refused command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        call()
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["walk", "irn_marks", "irn_walk"])
def test_without_any_class_all_is_background(made, command):
    masks = Masks([made / f"{command}.zip"])
    assert masks.ids == ["a", "b", "none"]
    assert masks.get("none").shape == SIZE
    assert not masks.get("none").any()


@pytest.mark.parametrize("command", ["crf", "pamr"])
def test_without_any_class_scores_are_certain(made, command):
    for alpha in CONFIG[command]["alphas"]:
        classes, planes = Scores([made / f"{command}.npz"]).get(f"none@{alpha}")
        assert classes.tolist() == [0]
        assert (planes == np.ones((1, *SIZE))).all()


def test_without_any_class_there_is_no_instance(made):
    assert Instances([made / "irn_instances.npz"]).get("none").masks.shape == (0, *SIZE)


def test_networks_learn_from_images_without_any_class(made, tmp_path):
    learnt = {"affinity": ["--scores", str(made / "crf.npz")], "irn_train": ["--masks", str(made / "irn_marks.zip")]}
    for stage, shards in learnt.items():
        cli.main([stage, *given(made, stage), "--device=cpu", *shards, "--out", str(tmp_path / stage)])
    assert (tmp_path / "affinity/model.pt").is_file()
    assert (tmp_path / "irn_train/model.pt").is_file()


@pytest.mark.parametrize("command", STORES)
def test_an_image_of_another_size(folder, command, capsys):
    Image.new("RGB", (30, 20)).save(folder / "data/b.png")
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: image 'b' is 30×20 pixels, but what the step before made of it is 56×48")
    assert not results_in(folder)


@pytest.mark.parametrize("command", STORES)
def test_scores_of_another_data_set(folder, command, capsys):
    with write_scores(folder / "scores.npz") as store:
        for name in ("a", "b", "none"):
            store.put(name, [17], np.ones((1, *SIZE)))
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(
        f"wsss {command}: scores of image 'a' have class 17, but the last class of this data set is 2"
    )
    assert not results_in(folder)


@pytest.mark.parametrize("command", STORES)
def test_scores_that_do_not_cover_the_images(folder, command, capsys):
    with write_scores(folder / "scores.npz") as store:
        store.put("a", [1], np.ones((1, *SIZE)))
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line == f"wsss {command}: no result for image 'b'; the step before did not cover it"
    assert not results_in(folder)


@pytest.mark.parametrize("command", MODELS)
def test_a_model_of_another_backbone(folder, command, capsys):
    other = {"name": "resnet18", "output_stride": None, "dilate": None}
    configure(folder, {"backbone": {"name": "resnet18", "output_stride": None}, "irn_train": {"backbone": other}})
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: {folder / MODELS[command]}: not a model of this configuration (")
    assert "Net on resnet18)" in line
    (folder / MODELS[command]).write_bytes(b"no model")
    line = refused(capsys, lambda: run(folder, command, "out.npz"))
    assert line.startswith(f"wsss {command}: {folder / MODELS[command]}: ")
    assert not results_in(folder)


@pytest.mark.parametrize("network", ["affinity", "irn_train"])
def test_images_that_changed_before_training(folder, network, capsys):
    Image.new("RGB", (30, 20)).save(folder / "data/b.png")
    made = ["--scores", f"{folder}/crf.npz"] if network == "affinity" else ["--masks", f"{folder}/irn_marks.zip"]
    options = [*given(folder, network), "--device=cpu", *made, "--out", str(folder / "out")]
    line = refused(capsys, lambda: cli.main([network, *options]))
    assert line.startswith(f"wsss {network}: image 'b' is 30×20 pixels, but what the step before made of it is 56×48")
    assert not (folder / "out/model.pt").exists()


@pytest.mark.parametrize("number", ["0", "-1", "x"])
@pytest.mark.parametrize("command", ["crf", "walk", "irn_marks"])
def test_a_number_of_processes_that_is_none(made, command, number, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", workers=number))
    assert line == f"wsss {command}: --workers {number}: give a number of processes, 1 or more"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:0", "cpu:0", "auto:1", ""])
@pytest.mark.parametrize("command", MODELS)
def test_a_device_that_is_none(made, command, device, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", device=device))
    assert line == f"wsss {command}: --device {device}: give auto, cpu, cuda, or cuda:<number of GPUs>, as cuda:2"


def test_a_classifier_does_not_learn_from_images_none_of_which_has_a_class(folder, tmp_path, capsys):
    index = Dataset.load(folder / "data")
    records = [replace(record, labels=()) for record in index.records]
    Dataset(index.name, index.classes, index.root, records).save(folder / "data")
    options = [*given(folder, "train"), "--out", str(tmp_path / "out")]
    line = refused(capsys, lambda: cli.main(["train", *options]))
    assert line.startswith("wsss train: no image of data set 'toy' to learn from has a class; give some a label")


@pytest.mark.parametrize("option", ["data", "config"])
@pytest.mark.parametrize("command", ["cam", "crf"])
def test_a_file_that_is_not_there(made, command, option, capsys):
    line = refused(capsys, lambda: run(made, command, "out.npz", **{option: "nowhere"}))
    assert line == f"wsss {command}: nowhere: no such file; make it first, or correct the path"


def test_a_file_in_the_place_of_the_folder_of_an_index(made, folder, capsys):
    table = folder / "data/index.csv"
    line = refused(capsys, lambda: run(made, "cam", "out.npz", data=str(table)))
    assert line == f"wsss cam: {table}/dataset.json: no such file; run the step that makes it"


NOWHERE = {
    ("crf", "data"): "is a folder; give --out the name of a file",
    ("crf", "scores.npz/new/out.npz"): "cannot be written (a file or a broken link is in the way)",
    ("crf", "loop/out.npz"): "cannot be written (a file or a broken link is in the way)",
    ("crf", "/proc/out.npz"): "cannot be written (No such file or directory)",
    ("crf", "out"): "has no suffix, which the name of a file needs; give --out one, such as .npz, .zip",
    ("affinity", "scores.npz"): "cannot be written (a file or a broken link is in the way)",
    ("affinity", "scores.npz/out"): "cannot be written (a file or a broken link is in the way)",
    ("affinity", "/proc/out"): "cannot be written (No such file or directory)",
}


@pytest.mark.parametrize(("command", "out"), NOWHERE)
def test_a_place_that_cannot_be_written_is_named_before_any_work(folder, command, out, capsys):
    (folder / "loop").symlink_to("loop")
    options = [*given(folder, command), "--scores", str(folder / "scores.npz"), "--out", str(folder / out)]
    line = refused(capsys, lambda: cli.main([command, *options]))
    assert line.startswith(f"wsss {command}: {folder / out}: {NOWHERE[command, out]}")


def test_an_output_in_the_place_of_an_input_is_refused(folder, capsys):
    scores, table = folder / "scores.npz", folder / "data/index.csv"
    before = scores.read_bytes(), table.read_bytes()
    (folder / "link.npz").symlink_to(scores)
    for out in ("scores.npz", "link.npz"):
        line = refused(capsys, lambda out=out: run(folder, "crf", out))
        assert line.startswith(f"wsss crf: {scores}: is read by this job, which would write over it; give --out")
    options = [*given(folder, "measure"), "--stage=cam", "--images=measured", "--scores", str(scores)]
    line = refused(capsys, lambda: cli.main(["measure", *options, "--out", str(table)]))
    assert line.startswith(f"wsss measure: {table}: is read by this job")
    assert (scores.read_bytes(), table.read_bytes()) == before


def test_a_record_of_another_output_is_not_overwritten(folder, capsys):
    record = folder / "crf.record.json"
    before = record.read_bytes()
    measuring = ["measure", *given(folder, "measure"), "--stage=cam", "--images=measured"]
    measuring += ["--scores", str(folder / "scores.npz"), "--out", str(folder / "crf.json")]
    line = refused(capsys, lambda: cli.main(measuring))
    assert line.startswith(f"wsss measure: {record}: is the record of {folder / 'crf.npz'}, which is still there; give")
    assert record.read_bytes() == before
    (folder / "crf.npz").unlink()
    cli.main(measuring)
    assert list(read_json(record)["outputs"]) == ["crf.json"]


def test_the_record_of_a_folder_is_in_it_whatever_its_name(folder):
    for name in ("exp.v1", "exp.v2"):
        options = [*given(folder, "affinity"), "--device=cpu", "--scores", str(folder / "crf.npz")]
        cli.main(["affinity", *options, "--out", str(folder / name)])
        assert "exp.record.json" not in results_in(folder)
        assert "model.pt" in read_json(folder / name / "record.json")["outputs"]


@pytest.mark.parametrize("command", ["cam", "crf", "walk", "irn_walk", "predict"])
def test_settings_of_another_stage(folder, command, capsys):
    config = folder / f"{command}.yaml"
    cure = f"give the config.yaml in the folder of stage {command}"
    for settings, said in (
        ({**CONFIG, "stage": "deeplab"}, f"is of stage 'deeplab', not '{command}'; {cure}"),
        (CONFIG, f"names no stage; {cure}"),
        (None, f"names no stage; {cure}"),
    ):
        config.write_text(yaml.safe_dump(settings))
        assert refused(capsys, lambda: run(folder, command)) == f"wsss {command}: {config}: {said}"


@pytest.mark.parametrize(
    ("command", "change", "said"),
    [
        ("cam", {"cam": {"relu": "befor"}}, "cam.relu is 'befor': choose one of before, after, sum, none (line "),
        ("cam", {"cam": {"scales": []}}, "cam.scales is []: give a list of numbers above 0 (line "),
        ("cam", {"cam": {"scales": [0]}}, "cam.scales is [0]: give a list"),
        ("cam", {"cam": {"scales": "1.0"}}, "cam.scales is '1.0': give a list"),
        ("cam", {"cam": None}, "cam is null: give a mapping with scales, "),
        ("crf", {"crf": {"gaussian": {"sxy": 0}}}, "crf.gaussian.sxy is 0: give a number above 0 (line "),
        ("crf", {"crf": {"alphas": []}}, "crf.alphas is []: give a list of numbers"),
        ("train", {"train": {"steps": 0}}, "train.steps is 0: give a whole number of 1 or more or null (line "),
        ("train", {"train": {"stepps": 5}}, "train.stepps is an unknown key: choose one of weights, "),
        ("train", {"train": {"batch_size": 0}}, "train.batch_size is 0: give a whole number"),
        ("train", {"train": {"flip": True}}, "train.flip is true: give a number from 0 to 1 (line "),
        ("train", {"train": {"select": "bset"}}, "train.select is 'bset': choose one of last, best (line "),
        ("train", {"train": None}, "train is null: give a mapping with "),
        ("train", {"seed": 0.0}, "seed is 0.0: give a whole number of 0 or more (line "),
        ("measure", {"measure": {"fixed": 2}}, "measure.fixed is 2: give a number from 0 to 1 (line "),
    ],
)
def test_a_wrong_setting_is_refused_as_the_workflow_does(folder, command, change, said, capsys):
    configure(folder, change)
    line = refused(capsys, lambda: by_hand(folder, command))
    assert line.startswith(f"wsss {command}: {folder / command}.yaml: {said}")


def test_sections_of_other_stages_are_not_read(made, folder):
    configure(folder, {"deeplab": {"model": None}, "walk": {"alpha": -1}})
    assert sha256(run(folder, "crf", "crf.npz")) == sha256(made / "crf.npz")


@pytest.mark.parametrize("key", ["dataset", "seed", "method", "backbone", "train", "cam"])
def test_a_part_of_the_settings_that_is_missing_is_named(folder, key, capsys):
    for command in ("cam", "crf"):
        path = folder / f"{command}.yaml"
        settings = yaml.safe_load(path.read_text())
        del settings[key]
        path.write_text(yaml.safe_dump(settings))
        line = refused(capsys, lambda of=command: by_hand(folder, of))
        assert line == (f"wsss {command}: {path}: '{key}' is missing; the config.yaml in the folder of a stage has it")


def test_weights_that_the_settings_name_are_inputs_of_the_command(folder, capsys):
    configure(folder, {"backbone": {"weights": "tiny.pt"}})
    options = [*given(folder, "train"), "--out", str(folder / "out")]
    line = refused(capsys, lambda: cli.main(["train", *options]))
    assert line == ("wsss train: give --weights tiny.pt: the settings name this file, and the job's record has to, too")
    assert [path.name for path in (folder / "out").iterdir()] == ["attempts.jsonl"]


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


@pytest.mark.parametrize("command", [command for command in KINDS if command != "irn_marks"])
def test_shards_of_no_image_change_nothing_that_is_measured(made, tmp_path, command):
    kind = {Scores: "--scores", Masks: "--masks", Instances: "--instances"}[KINDS[command]]
    found = []
    for i, shards in enumerate(([made / f"{command}.{SUFFIX[KINDS[command]]}"], in_shards(made, tmp_path, command))):
        out = tmp_path / f"measured{i}.json"
        options = [*given(made, "measure"), f"--stage={command}", "--images=measured", "--out", str(out)]
        cli.main(["measure", *options, kind, *map(str, shards)])
        found.append(read_json(out))
    assert found[0] == found[1]
    assert found[0]["count"] == 3


def test_masks_of_another_program_are_measured_in_a_zip_and_refused_in_a_folder(made, tmp_path, capsys):
    """PNGs named by id. Those of the walk, packed by hand, give the same numbers."""
    shard = made / f"walk.{SUFFIX[KINDS['walk']]}"
    shutil.unpack_archive(shard, tmp_path / "theirs", "zip")
    shutil.make_archive(str(tmp_path / "theirs"), "zip", tmp_path / "theirs")

    def measured(masks: Path) -> dict:
        options = [*given(made, "measure"), "--stage=walk", "--images=measured", "--out", str(tmp_path / "out.json")]
        cli.main(["measure", *options, "--masks", str(masks)])
        return read_json(tmp_path / "out.json")

    assert measured(tmp_path / "theirs.zip") == measured(shard)
    line = refused(capsys, lambda: measured(tmp_path / "theirs"))
    cure = "give the zip files in it, or pack its PNGs, named <id>.png, into one zip without folders"
    assert line == f"wsss measure: --masks {tmp_path / 'theirs'}: is a folder; {cure}"
