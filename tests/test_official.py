"""Official weights at work: the authors' files instead of a training, through the commands that the rules run."""

from __future__ import annotations

import os
import shutil

import golden
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from wsss import methods
from wsss.backbones import build as build_backbone
from wsss.backbones import without_weights
from wsss.cli import main
from wsss.data.index import Dataset, Record
from wsss.data.voc import CLASSES
from wsss.files import read_json
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings
from wsss.stages import TRAINED, sections, weights_read
from wsss.stores import Instances, Masks, Scores, write_scores

ABSENT = {"weights": "not-there.params"}  # ImageNet weights are not needed where official ones replace a training
OPEN = {"freeze": [], "freeze_norm": False, "dropout": None, "output_stride": None}
TINY = {"name": "tiny", **OPEN, **ABSENT}
IRN = {"name": "resnet50", "output_stride": 16, "dilate": False}
SIZE = (33, 47)
OBJECT = np.zeros(SIZE, bool)
OBJECT[8:25, 10:37] = True
ACR_HEADS = ("fc8", "fc9", "fc_recon", "dr1", "dr2", "genUnet")


@pytest.fixture(autouse=True)
def _sweep(tmp_path):
    """Weight files are large, and pytest keeps folders."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture
def data(tmp_path):
    """Folder of the index of two noise images with VOC's classes and one ``OBJECT`` of its first class each."""
    rng, records = np.random.default_rng(0), []
    for i, labels in enumerate((("dog",), ("cat", "person"))):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        for kind, value in (("mask", CLASSES.index(labels[0]) + 1), ("objects", 1)):
            Image.fromarray((OBJECT * value).astype(np.uint8)).save(tmp_path / f"{i}-{kind}.png")
        paths = {"mask": f"{i}-mask.png", "instances": f"{i}-objects.png"}
        size = {"width": SIZE[1], "height": SIZE[0], "sha256": "", "mask_sha256": None}
        records.append(Record(str(i), f"{i}.png", split=("train",), labels=labels, **paths, **size))
    Dataset("noise", list(CLASSES), tmp_path, records).save(tmp_path / "data")
    return tmp_path / "data"


def settings(name: str, /, **over) -> dict:
    """A method's released settings, as a rule writes them, on images of a few pixels."""
    config = overlay(method_settings(name), Layer("test", {"backbone": ABSENT, "cam": {"scales": [1.0]}}))
    config = overlay(config, Layer("test", over), new_keys=True)
    splits = {"train": "train", "measured": "train", "val": "train"}
    return {"dataset": {"name": "noise", "splits": splits}, "seed": 0, **config}


def command(tmp_path, config: dict, stage: str, *arguments) -> None:
    """Run the command of a stage on the sections of ``config`` that determine the stage."""
    kept = of_stage(config, stage)
    (tmp_path / f"{stage}.yaml").write_text(yaml.safe_dump(kept))
    weights = ("--weights", *weights_read(stage, kept)) if stage in TRAINED else ()
    run(tmp_path, stage, stage, *arguments, *weights)


def of_stage(config: dict, stage: str) -> dict:
    """The settings of a stage, as a rule writes them."""
    return {key: config[key] for key in ("dataset", "seed", *sections(stage, config))} | {"stage": stage}


def run(tmp_path, name: str, stage: str, *arguments) -> None:
    main([name, "--config", str(tmp_path / f"{stage}.yaml"), "--data", str(tmp_path / "data"), *map(str, arguments)])


def exported(tmp_path, stage: str, name: str):
    """The official file that a stage's model becomes."""
    run(tmp_path, "export-weights", stage, "--model", tmp_path / stage / "model.pt", "--out", tmp_path / name)
    return torch.load(tmp_path / name, weights_only=True)


def adopted(tmp_path, config: dict, stage: str = "train", *arguments) -> dict[str, Tensor]:
    """The model that a training command makes of the official weights which ``config`` names."""
    command(tmp_path, config, stage, "--out", tmp_path / stage, *arguments)
    assert (tmp_path / stage / "losses.csv").read_text().split() == ["step,epoch,phase,term,value"]
    outputs = read_json(tmp_path / stage / "record.json")["outputs"]
    assert {"losses.csv", "model.pt", "training.json"} == {path.rpartition("/")[2] for path in outputs}
    return torch.load(tmp_path / stage / "model.pt", weights_only=True)


def localized(tmp_path, config: dict) -> Scores:
    out = tmp_path / "scores.npz"
    command(tmp_path, config, "cam", "--model", tmp_path / "train/model.pt", "--out", out, "--part", "train")
    scores = Scores([out])
    assert list(scores.get("1")[0]) == [CLASSES.index("cat") + 1, CLASSES.index("person") + 1]
    assert all(scores.get(image)[1].shape[1:] == SIZE for image in "01")
    return scores


def measured(tmp_path, config: dict, stage: str, *results) -> dict:
    """The points of a stage's ``metrics.json``."""
    out = tmp_path / f"{stage}_measured.json"
    command(tmp_path, config, "measure", "--stage", stage, "--images", "measured", *results, "--out", out)
    return read_json(out)["points"]


def tiny_state(heads: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    """What a file holds when the network below its heads is ``tiny``: names of a backbone have no prefix."""
    backbone = build_backbone({"name": "tiny"}).state_dict()
    drawn = {name: torch.randn(shape) / 8 for name, shape in heads.items()}
    return {prefix + name: value for name, value in (backbone | drawn).items()}


def heads(network: str, inputs: int = 128) -> dict[str, tuple[int, ...]]:
    """Heads of an official network on ResNet38d, by their official names, made narrower for ``tiny``."""
    names = ("fc8", "fc9", "bn8", "gconv")
    found = {n: shape for n, shape in golden.shapes(network).items() if n.startswith(names)}
    return {n: (s[0], inputs, *s[2:]) if n == "fc8.weight" else s for n, s in found.items()}


# ---- one per kind


@pytest.mark.parametrize(("network", "kind", "config"), [
    ("psa_vgg16_cls", "psa", settings("cam", method={"power": 0.5}, backbone={"name": "vgg16", "freeze": []})),
    ("irn_cam", "irn_cam", settings("cam", method={"dropout": 0.0}, backbone={**IRN, "freeze": []})),
    ("seam_forward", "seam", settings("seam")),
])  # fmt: skip
def test_official_file_of_psa_irn_and_seam(network, kind, config, data, tmp_path, capsys):
    state = golden.weights_of(golden.load(network))
    torch.save(state, tmp_path / "official.pth")
    config["train"]["weights"] = str(tmp_path / "official.pth")
    model = adopted(tmp_path, config)
    assert f"official.pth: official weights '{kind}' instead of a training" in capsys.readouterr().err
    first = {"irn_cam": "resnet50.conv1.weight"}.get(kind, next(iter(state)))
    assert torch.equal(model[f"backbone.{first.removeprefix('resnet50.')}"], state[first])
    assert torch.equal(model["fc8.weight"], state["classifier.weight" if kind == "irn_cam" else "fc8.weight"])
    del state, model
    scores = localized(tmp_path, config)
    assert max(scores.get(image)[1].max() for image in "01") == pytest.approx(1, abs=1e-2)


def test_official_file_of_occse_needs_no_ordinary_classifier(data, tmp_path, capsys):
    config = settings("occse", backbone=TINY, method={"ordinary": {"backbone": TINY}})
    state = tiny_state(heads("occse/net_er"))
    torch.save(state, tmp_path / "014net_er.pth")
    config["train"]["weights"] = str(tmp_path / "014net_er.pth")
    model = adopted(tmp_path, config)
    assert "every tensor found its place" in capsys.readouterr().err
    assert all(torch.equal(model[n if n.startswith("fc8") else f"backbone.{n}"], v) for n, v in state.items())
    localized(tmp_path, config)


def test_official_file_of_aeft_has_a_norm_that_nothing_uses(data, tmp_path):
    config = settings("aeft", backbone=TINY)
    state = tiny_state(heads("aeft/net_main(Net_gpp)"))
    assert "bn8.weight" in state
    torch.save(state, tmp_path / "039net_main.pth")
    config["train"]["weights"] = str(tmp_path / "039net_main.pth")
    model = adopted(tmp_path, config)
    assert torch.equal(model["gconv2.att_n.0.weight"], state["gconv2.att_n.0.weight"])
    assert torch.equal(model["backbone.conv3.conv1.weight"], state["conv3.conv1.weight"])
    localized(tmp_path, config)


def acr_settings(**classifier) -> dict:
    return settings("acr", backbone=TINY, method={"unet_width": 2, "classifier": classifier})


def acr_names(network: str) -> set[str]:
    """The names of an official network of ACR when its backbone is ``tiny``."""
    prefix = network.partition("/")[2]
    own = {name for name in golden.shapes(network) if name.split(".")[1] in ACR_HEADS}
    return own | {f"{prefix}.{name}" for name in build_backbone({"name": "tiny"}).state_dict()}


@pytest.fixture(scope="module")
def acr_official() -> set[str]:
    return acr_names("acr/net_main") | acr_names("acr/net_recon")


@pytest.mark.parametrize("classifier", [{}, {"t": 0.0, "nt": 0.0}], ids=["acr", "baseline"])
def test_official_checkpoint_of_acr_in_and_out(classifier, acr_official, data, tmp_path, capsys):
    """Both official networks have all parts; the baseline is trained without reconstructor and exports one, too."""
    config = acr_settings(**classifier)
    state = methods.build(without_weights(acr_settings()), len(CLASSES)).reconstructor.state_dict()
    state = {name.removeprefix("backbone."): torch.rand_like(value.float()) for name, value in state.items()}
    parts = {f"{net}.{name}": v for net in ("net_main", "net_recon") for name, v in state.items()}
    assert set(parts) == acr_official
    torch.save({"state_dict": parts, "epoch": 9}, tmp_path / "epoch=9.ckpt")
    config["train"]["weights"] = str(tmp_path / "epoch=9.ckpt")
    model = adopted(tmp_path, config)
    assert torch.equal(model["classifier.fc9.weight"], parts["net_main.fc9.weight"])
    assert ("not used (net_recon." in capsys.readouterr().err) == bool(classifier)
    localized(tmp_path, config)

    again = exported(tmp_path, "train", "again.ckpt")["state_dict"]
    assert set(again) == acr_official
    assert {name: v.shape for name, v in again.items()} == {name: v.shape for name, v in parts.items()}
    assert torch.equal(again["net_main.conv3.conv1.weight"], parts["net_main.conv3.conv1.weight"])
    assert ("the one in the written file is untrained" in capsys.readouterr().err) == bool(classifier)
    exported(tmp_path, "train", "once_more.ckpt")
    assert (tmp_path / "once_more.ckpt").read_bytes() == (tmp_path / "again.ckpt").read_bytes()


def test_official_checkpoint_of_eader_in_and_out(data, tmp_path):
    resnet18 = {"name": "resnet18", "output_stride": 32, **ABSENT}
    config = settings("eader", backbone=resnet18, method={"adversary": {"backbone": resnet18}})
    parts = {part: golden.kaist_weights(f"eader/{part}/resnet18", part) for part in ("localizer", "adversarial")}
    torch.save({"epoch": 10, **parts, "localizer_optimizer": {"state": {}}}, tmp_path / "checkpoint.pth.tar")
    config["train"]["weights"] = str(tmp_path / "checkpoint.pth.tar")
    model = adopted(tmp_path, config)
    assert torch.equal(model["backbone.layer4.1.conv2.weight"], parts["localizer"]["layer4.1.conv2.weight"])
    assert torch.equal(model["adversary.fc.bias"], parts["adversarial"]["fc.bias"])
    localized(tmp_path, config)

    again = exported(tmp_path, "train", "again.pth.tar")
    for part, state in parts.items():
        assert again[part].keys() == state.keys()
        assert all(torch.equal(again[part][name], value) for name, value in state.items())


def test_official_affinitynet_takes_the_walk(data, tmp_path):
    config = settings("cam", backbone={"name": "vgg16", "freeze": []})
    state = golden.weights_of(golden.load("psa_vgg16_aff"))
    torch.save(state, tmp_path / "vgg16_aff.pth")
    config["affinity"]["train"]["weights"] = str(tmp_path / "vgg16_aff.pth")
    scores, masks = tmp_path / "scores.npz", tmp_path / "masks.zip"
    planes = np.random.default_rng(0).random((1, *SIZE), np.float32)
    with write_scores(scores) as store:
        for image, name in (("0", "dog"), ("1", "cat")):
            store.put(image, [CLASSES.index(name) + 1], planes)
    model = adopted(tmp_path, config, "affinity")  # from no scores
    assert torch.equal(model["gn8_5.weight"], state["gn8_5.weight"])
    trained = tmp_path / "affinity/model.pt"
    command(tmp_path, config, "walk", "--scores", scores, "--model", trained, "--out", masks, "--part", "train")
    assert Masks([masks]).get("0").shape == SIZE
    again = exported(tmp_path, "affinity", "again.pth")
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_official_irnet_keeps_its_mean_displacement_and_goes_on_to_measured_results(data, tmp_path):
    config = settings("cam", irn_train={"backbone": ABSENT, "train": {"crop": 64}})
    state = golden.weights_of(golden.load("irn_edge_dp"))
    torch.save(state, tmp_path / "res50_irn.pth")
    config["irn_train"]["train"]["weights"] = str(tmp_path / "res50_irn.pth")
    model = adopted(tmp_path, config, "irn_train")  # from no marks
    assert state["mean_shift.running_mean"].any()
    assert torch.equal(model["mean_shift.running_mean"], state["mean_shift.running_mean"])
    assert torch.equal(model["fc_dp7.3.weight"], state["fc_dp7.3.weight"])
    del state, model
    again = exported(tmp_path, "irn_train", "again.pth")
    assert "backbone.4.0.0.conv1.weight" in again
    assert again["mean_shift.running_mean"].any()

    scores, masks, instances = (tmp_path / name for name in ("scores.npz", "masks.zip", "instances.npz"))
    values = {"0": CLASSES.index("dog") + 1, "1": CLASSES.index("cat") + 1}
    with write_scores(scores) as store:
        for image, value in values.items():
            store.put(image, [value], OBJECT[None])
    used = ("--part", "train", "--scores", scores, "--model", tmp_path / "irn_train/model.pt")
    command(tmp_path, config, "irn_walk", *used, "--out", masks)
    found = measured(tmp_path, config, "irn_walk", "--masks", masks)["argmax"]
    for image, value in values.items():
        predicted = Masks([masks]).get(image) == value
        counts = [OBJECT.sum(), predicted.sum(), (predicted & OBJECT).sum()]
        assert [found[key][value] for key in ("true", "predicted", "tp")] == counts
        assert counts[2] > 0
    command(tmp_path, config, "irn_instances", *used, "--out", instances)
    found = measured(tmp_path, config, "irn_instances", "--instances", instances)["iou=0.5"]
    for image, value in values.items():
        assert found["true"][value] == 1
        assert found["detected"][value] == (Instances([instances]).get(image).classes == value).sum() > 0
        assert 0 <= found["ap"][value] <= 1


# ---- by hand


def imported(tmp_path, config: dict, stage: str, *arguments) -> dict[str, Tensor]:
    """The model that the file becomes, by nothing but the stage's settings and its name."""
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(of_stage(config, stage)))
    paths = ["--config", "given.yaml", "--weights", "official.pth", "--out", "hand", *arguments]
    main(["import-weights", *(path if path.startswith("-") else str(tmp_path / path) for path in paths)])
    record = read_json(tmp_path / "hand/record.json")
    assert any(path.endswith("official.pth") for path in {**record["inputs"], **record["external"]})
    return torch.load(tmp_path / "hand/model.pt", weights_only=True)


def test_a_file_imported_by_hand_is_the_model_of_the_command_that_trains(data, tmp_path, capsys):
    config = settings("aeft", backbone=TINY)
    state = tiny_state(heads("aeft/net_main(Net_gpp)"))
    counters = [name for name in state if name.endswith("num_batches_tracked") and not name.startswith("bn8")]
    further = {f"extra.{i}": torch.zeros(1) for i in range(5)}
    torch.save(
        {name: value for name, value in (state | further).items() if name not in counters}, tmp_path / "official.pth"
    )
    model = imported(tmp_path, config, "train", "--data", "data")
    listed = capsys.readouterr().out.splitlines()
    assert sorted(listed) == sorted([*(f"missing: {n}" for n in counters), *(f"unexpected: {n}" for n in further)])
    assert len(counters) > 3
    config["train"]["weights"] = str(tmp_path / "official.pth")
    trained = adopted(tmp_path, config)
    assert model.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in model.items())
    localized(tmp_path, config)


@pytest.mark.parametrize(("stage", "network"), [("affinity", "psa_vgg16_aff"), ("irn_train", "irn_edge_dp")])
def test_affinitynet_and_irnet_are_imported_without_a_data_set(stage, network, tmp_path, capsys):
    config = settings("cam", backbone={"name": "vgg16", "freeze": []}, irn_train={"backbone": ABSENT})
    state = golden.weights_of(golden.load(network))
    torch.save(state, tmp_path / "official.pth")
    model = imported(tmp_path, config, stage)
    name = {"affinity": "gn8_5.weight", "irn_train": "fc_dp7.3.weight"}[stage]
    assert torch.equal(model[name], state[name])
    with pytest.raises(SystemExit):
        imported(tmp_path, config, "train")
    assert "wsss import-weights: --data is missing" in capsys.readouterr().err


# ---- files that are refused


class Runs:
    """Pickles as a call of ``os.system``."""

    def __init__(self, line: str):
        self.line = line

    def __reduce__(self):
        return (os.system, (self.line,))


def refused(tmp_path, config: dict, content, capsys) -> str:
    """What ``wsss train`` prints of a file it does not take; it leaves nothing but the ledger."""
    torch.save(content, tmp_path / "official.pth")
    config["train"]["weights"] = str(tmp_path / "official.pth")
    with pytest.raises(SystemExit) as stop:
        command(tmp_path, config, "train", "--out", tmp_path / "train")
    assert stop.value.code == 2
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["attempts.jsonl"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"wsss train: {tmp_path / 'official.pth'}")
    return line


def test_a_file_that_would_run_something_is_refused(data, tmp_path, capsys):
    content = {**tiny_state({"fc8.weight": (20, 128, 1, 1)}), "x": Runs(f"touch {tmp_path / 'ran'}")}
    assert "read safely" in refused(tmp_path, settings("cam", backbone=TINY), content, capsys)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_another_kind_is_named(data, tmp_path, capsys):
    baseline = tiny_state({"fc8.weight": (20, 128, 1, 1)})
    line = refused(tmp_path, settings("seam", backbone=TINY), baseline, capsys)
    assert "read as official weights 'seam'" in line
    assert "3 of " in line
    assert "f8_3.weight, f8_4.weight, f9.weight" in line
    line = refused(tmp_path, acr_settings(), baseline, capsys)
    assert "read as official weights 'acr': not weights of this network" in line
    assert "net_main.conv2.0.weight" in line


def test_a_deeplab_has_no_official_file(data, tmp_path, capsys):
    (tmp_path / "deeplab").mkdir()
    (tmp_path / "deeplab" / "model.pt").touch()
    (tmp_path / "deeplab.yaml").write_text(yaml.safe_dump(of_stage(settings("cam"), "deeplab")))
    with pytest.raises(SystemExit):
        exported(tmp_path, "deeplab", "deeplab.pth")
    assert "give the config.yaml of one of these stages: train, affinity, irn_train" in capsys.readouterr().err
