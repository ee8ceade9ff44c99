"""Runs, their settings, shared folders, and what a table needs."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path

import pytest
import yaml

from wsss.commands import checked
from wsss.errors import WsssError
from wsss.plan import Plan, configuration, drawings, targets
from wsss.plan.layers import Layer, overlay
from wsss.plan.resolve import method_settings, methods, resolve, shrink, stand_in
from wsss.plan.runs import PRETRAINING, Run
from wsss.plan.written import as_yaml, read, read_by_hand, sections_as_yaml
from wsss.stages import STAGES

ROOT = Path(__file__).parent.parent

PAPER = {
    "title": "A paper",
    "citation": "@misc{a}",
    "runs": {
        "first": {"method": "cam"},
        "twin": {"method": "cam", "cam": {"attention": "gradcam"}},
        "longer": {"method": "cam", "train": {"epochs": 99}},
        "strict": {"method": "cam", "measure": {"fixed": 0.4}},
    },
    "tables": {
        "t": {
            "title": "T",
            "caption": "C",
            "columns": [{"key": "a", "label": "A"}, {"key": "b", "label": "B", "stage": "crf"}],
            "rows": [
                {"label": "one", "run": "first", "reported": {"a": 40.0, "b": 50.0}},
                {"label": "quoted", "literature": "somebody 2019", "reported": {"a": 30.0}},
            ],
        }
    },
}


@pytest.fixture
def make_plan(tmp_path):
    def make(paper=PAPER, **changes) -> Plan:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        config.update({"papers": ["a"], **changes})
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(paper))
        return Plan(config, tmp_path, files=[ROOT / "config.yaml"])

    return make


def shapes(**changes) -> dict:
    """The data sets of a configuration that has ``shapes`` alone."""
    about = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["shapes"]
    return {"shapes": {**about, "companions": {}, **changes}}


def test_a_stage_is_shared_up_to_where_settings_differ(make_plan):
    plan = make_plan()
    assert plan.home(Run("shapes", "a", "twin"), 0, "train") == plan.home(Run("shapes", "a", "first"), 0, "train")
    assert plan.home(Run("shapes", "a", "twin"), 0, "cam") != plan.home(Run("shapes", "a", "first"), 0, "cam")
    assert plan.home(Run("shapes", "a", "longer"), 0, "train") == Path("results/shapes/a/longer/seed0/train")


def test_a_run_may_start_a_later_network_from_its_own_classifier(make_plan):
    paper = copy.deepcopy(PAPER)
    for name in ("first", "longer"):
        paper["runs"][name] = {**paper["runs"][name], "irn_train": {"backbone": {"weights": "run:"}}}
    plan = make_plan(paper)
    for name in ("first", "longer"):
        model = f"results/shapes/a/{name}/seed3/train/model.pt"
        assert plan.stage_config(Run("shapes", "a", name), 3, "irn_train")["irn_train"]["backbone"]["weights"] == model
        assert plan.references(Run("shapes", "a", name), 3, "irn_train") == [model]
        start = "results/shapes/pretraining/classifier/seed0/train/model.pt"
        assert plan.references(Run("shapes", "a", name), 3, "train") == [start]


def test_trainings_of_all_seeds_start_from_one_pretraining_that_of_the_first_seed(make_plan):
    plan = make_plan(datasets=shapes(seeds=[2, 1]))
    start = "results/shapes/pretraining/classifier/seed2/train/model.pt"
    for seed in (1, 2):
        for stage in ("train", "affinity"):
            assert plan.references(Run("shapes", "a", "first"), seed, stage) == [start]


def test_trainings_may_start_from_one_that_belongs_to_the_data_set(make_plan):
    plan = make_plan()
    start = plan.home(Run("shapes", *PRETRAINING), 0, "train") / "model.pt"
    assert start == Path("results/shapes/pretraining/classifier/seed0/train/model.pt")
    assert plan.references(Run("shapes", "a", "first"), 0, "train") == [str(start)]
    assert plan.references(Run("shapes", "a", "first"), 0, "affinity") == [str(start)]
    assert plan.references(Run("shapes", *PRETRAINING), 1, "train") == []
    assert plan.resolve(Run("shapes", *PRETRAINING))["train"]["steps"] == 300
    beside = "results/shapes_coco/pretraining/classifier/seed0/train/model.pt"
    assert plan.references(Run("shapes_coco", "a", "first"), 0, "train") == [beside]
    assert not any("pretraining" in path for path in plan.references(Run("voc12", "a", "first"), 0, "train"))
    datasets = copy.deepcopy(plan.config["datasets"])
    datasets["shapes"]["pretraining"]["train"]["stepz"] = 3
    with pytest.raises(WsssError, match=r"datasets\.shapes\.pretraining: 'train\.stepz' is an unknown key"):
        make_plan(datasets=datasets).check("shapes")


def test_test_images_are_an_index_apart(make_plan):
    plain = make_plan()
    with pytest.raises(WsssError, match=r"config\.yaml, datasets\.shapes: names no test images; give it test: {root"):
        plain.test_config("shapes")
    plan = make_plan()
    plan.config["datasets"]["shapes"]["test"] = {"root": "/elsewhere"}
    for stage in ("train", "cam", "crf", "affinity", "walk", "deeplab", "predict", "measure"):
        config = [p.stage_config(Run("shapes", "a", "first"), 0, stage) for p in (plain, plan)]
        assert config[0] == config[1]
    assert plan.data_config("shapes") == plain.data_config("shapes")
    voc = plan.test_config("voc12")
    assert voc["root"] == "results/downloads/voc2012-test"
    assert (voc["lists"], voc["masks"], voc["labels"]) == ({"test": "test.txt"}, None, None)
    assert plan.data_source("voc12", test=True) == ["results/downloads/voc2012-test/.complete"]
    assert plan.data("voc12", "test") == Path("results/voc12/data/test")


def test_test_images_of_a_folder_have_no_labels_but_where_these_name_the_classes(make_plan):
    options = {"root": "mine", "labels": "labels.csv", "lists": {"train": "train.txt"}}
    about = {"builder": "folder", "splits": dict.fromkeys(("train", "measured", "val"), "train"), "seeds": [0]}
    for classes, labels in ((["cat"], None), (None, "labels.csv")):
        own = {**about, "options": {**options, "classes": classes}, "test": {"root": "new"}}
        config = make_plan(datasets={"mine": own}).test_config("mine")
        assert (config["root"], config["labels"], config["masks"]) == ("new", labels, None)


def test_targets_of_a_data_set_whose_papers_are_not_configured_are_left_out(make_plan):
    plan = make_plan()  # shapes names tables and figures of SEAM
    assert targets.default(plan, "shapes") == []
    assert targets.default(make_plan(targets="a"), "shapes") == ["a_t"]
    with pytest.raises(WsssError, match="unknown table, figure, claims or paper 'seam_table2'"):
        targets.default(make_plan(targets=["seam_table2"]), "shapes")


def test_runs_of_test_columns_can_be_submitted():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert {("seam", "seam"), ("occse", "occse"), ("aeft", "aeft"), ("acr", "acr")} <= set(Plan(config).submissions())


def test_measuring_settings_share_the_scores_but_not_the_metrics(make_plan):
    plan = make_plan()
    assert plan.home(Run("shapes", "a", "strict"), 0, "cam") == plan.home(Run("shapes", "a", "first"), 0, "cam")
    assert plan.metrics(Run("shapes", "a", "strict"), 0, "cam") != plan.metrics(Run("shapes", "a", "first"), 0, "cam")


def test_stage_config_holds_what_determines_the_stage_and_no_more(make_plan):
    plan = make_plan()
    config = plan.stage_config(Run("shapes", "a", "first"), 3, "train")
    assert set(config) == {"stage", "code", "dataset", "seed", "backbone", "method", "train"}
    assert config["stage"] == "train"
    assert config["seed"] == 3
    assert "crf" in plan.stage_config(Run("shapes", "a", "first"), 3, "walk")


def test_the_later_layer_of_settings_is_the_stronger():
    layers = [Layer(str(size), {"train": {"batch_size": size}}) for size in (2, 3, 5)]
    for end in (1, 2, 3):
        assert resolve("cam", layers[:end])["train"]["batch_size"] == int(layers[end - 1].name)


def test_a_data_set_has_the_last_word_on_a_run_but_for_the_command_line(make_plan):
    datasets = shapes(runs={"a/longer": {"train": {"epochs": 7}}})
    for over, epochs in (({}, 7), ({"train": {"epochs": 8}}, 8)):
        config = make_plan(datasets=datasets, overrides=over).resolve(Run("shapes", "a", "longer"))
        assert config["train"]["epochs"] == epochs


@pytest.mark.parametrize(
    ("key", "entry", "message"),
    [
        (
            "stand_ins",
            {"resnet38": {}},
            r"datasets\.shapes: 'stand_ins\.resnet38' is an unknown name: choose one of .*resnet38d",
        ),
        (
            "stand_ins",
            {"vgg16": {"dropuot": 0}},
            r"datasets\.shapes: 'stand_ins\.vgg16\.dropuot' is an unknown key: choose one of .*dropout",
        ),
        (
            "stand_ins",
            {"vgg16": {"name": "tinny"}},
            r"datasets\.shapes: 'stand_ins\.vgg16\.name' is 'tinny': give one of .*tiny, vit, timm:<name>",
        ),
        (
            "stand_ins",
            {"vgg16": {"name": "timm:convnext_tinny"}},
            r"name' is 'timm:convnext_tinny': give one of .*timm:<name>, vit:<name>, with a name that timm knows",
        ),
        (
            "stand_ins",
            {"vgg16": {"name": "tiny", "dropout": "none"}},
            r"datasets\.shapes: 'stand_ins\.vgg16\.dropout' is 'none': give a number",
        ),
        (
            "overrides",
            {"backbone": {"name": "tinny"}},
            r"configuration, datasets\.shapes\.overrides: 'backbone\.name' is 'tinny': give one of ",
        ),
        ("methods", {"semm": {}}, r"datasets\.shapes: 'methods\.semm' is an unknown name: choose one of .*seam"),
        ("runs", {"a/frist": {}}, r"datasets\.shapes: 'runs\.a/frist' is an unknown name: choose one of a/first"),
    ],
)
def test_a_name_that_nothing_is_called_is_no_setting(make_plan, key, entry, message):
    with pytest.raises(WsssError, match=message):
        make_plan(datasets=shapes(**{key: entry})).check("shapes")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"train": {"steps": 2.5}}, r"configuration, overrides: 'train\.steps' is 2\.5"),
        ({"affinity": {"train": {"batch_size": 0}}}, r"'affinity\.train\.batch_size' is 0"),
        ({"train": {"batch_size": {0: 4, 2: -1}}}, r"'train\.batch_size' is \{0: 4, 2: -1\}"),
        ({"deeplab": {"train": {"optimizer": {"lr": -1}}}}, r"'deeplab\.train\.optimizer\.lr' is -1"),
    ],
)
def test_numbers_of_a_training_are_checked_before_it(make_plan, over, message):
    with pytest.raises(WsssError, match=message):
        make_plan(overrides=over).check("shapes")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (
            {"affinity": {"low_alpha": 30}},
            r"overrides: 'affinity\.low_alpha' is 30: affinity\.low_alpha \(30\) is above ",
        ),
        (
            {"affinity": {"high_alpha": 2}},
            r"overrides: 'affinity\.high_alpha' is 2: affinity\.low_alpha \(4\) is above ",
        ),
        (
            {"irn_marks": {"bg_threshold": 0.4}},
            r"'irn_marks\.bg_threshold' is 0\.4: .* above irn_marks\.fg_threshold \(0\.3\); give the former the lower",
        ),
    ],
)
def test_two_settings_in_the_wrong_order_are_refused(make_plan, over, message):
    """Otherwise what is surely foreground and what is surely background would overlap."""
    with pytest.raises(WsssError, match=message):
        make_plan(overrides=over).check("shapes")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (
            {"preset": "occse", "train": {"scale": [0.5, 1.5], "long_side": [300, 400]}},
            "scale is, too: set one to false",
        ),
        ({"preset": "seam", "train": {"long_side": [300, 400]}}, r"'deeplab\.train\.long_side' is given, and scale is"),
        ({"preset": "seam", "train": {"long_side": [300, 400], "scale": False}}, "long_side' needs antialias"),
        ({"train": {"weights": "deeplab.pth"}}, r"'deeplab\.train\.weights' is given, but authors publish no DeepLab"),
    ],
)
def test_settings_that_deeplab_would_refuse_after_days_are_refused_before(make_plan, over, message):
    with pytest.raises(WsssError, match=message):
        make_plan(overrides={"deeplab": over}).check("shapes")


def test_two_settings_may_be_equal(make_plan):
    make_plan(overrides={"affinity": {"low_alpha": 24}, "irn_marks": {"bg_threshold": 0.3}}).check("shapes")


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("mine: {seeds: [0, 0]}", r"datasets\.mine\.seeds: \[0, 0\] has non-unique elements \(line 1\)"),
        ("mine: {seeds: [0.0]}", r"datasets\.mine\.seeds\.0: 0\.0 is not of type 'integer'"),
        ("mine: {pixels: .nan}", r"datasets\.mine\.pixels: nan is not of type 'number'"),
        ("mine: {pixels: .inf}", r"datasets\.mine\.pixels: inf is not of type 'number'"),
        ("2012: {seeds: [0]}", r"datasets: 2012 is not of type 'string'"),
        ("mine: {options: {lists: [train.txt]}}", r"options\.lists: \['train\.txt'\] is not of type 'object'"),
        ("mine: {options: {lists: null}}", r"options\.lists: None is not of type 'object'"),
        ("mine: {options: {lists: {train: 5}}}", r"options\.lists\.train: 5 is not of type 'string'"),
        ("mine: {options: {sets: [train]}}", r"options\.sets: \['train'\] is not of type 'object'"),
        ("mine: {options: {root: 5}}", r"options\.root: 5 is not of type 'string', 'null'"),
        ("mine: {options: {masks: true}}", r"options\.masks: True is not of type 'string', 'null'"),
        ("mine: {options: {unannotated: val}}", r"options\.unannotated: 'val' is not of type 'array'"),
        ("mine: {test: {lists: test}}", r"test\.lists: 'test' is not of type 'object'"),
        ("mine: {options: {labls: auto}}", r"options: 'labls' is an unknown key: choose one of .* \(line 1\)"),
        ("mine: {options: {megapixels: big}}", r"options\.megapixels: 'big' is not of type 'number' \(line 1\)"),
        (
            "mine: {builder: voc, options: {sets: {}}}",
            r"options: 'sets' is an unknown key: choose one of root, lists, ",
        ),
        ("mine: {builder: coco, test: {lists: {}}}", r"test: 'lists' is an unknown key: choose one of root, sets, "),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_data_set_is_named(tmp_path, says, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"datasets: {{{says}}}\n")
    with pytest.raises(WsssError, match=rf"mine\.yaml: .*{message}"):
        configuration.load_plan(mine)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("seeds", "datasets: {NAME: {seeds: ...}}"),
        ("masks", "datasets: {NAME: {options: {masks: ...}}}"),
        ("train", "overrides: {train: ...}"),
    ],
)
def test_a_key_at_the_wrong_place_is_told_its_own(tmp_path, key, place):
    config = {**read(configuration.OWN), key: 1}
    with pytest.raises(WsssError, match=re.escape(f"configuration: '{key}' is no key of the top level: write {place}")):
        configuration.check(config, [])
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"dataset: shapes\n{key}: 1\n")
    with pytest.raises(WsssError, match=rf"mine\.yaml: '{key}' is no key .* \(line 2\)"):
        configuration.check(config, [mine])


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("stand_ins: {vgg16: {name: tinny}}", r"'stand_ins\.vgg16\.name' is 'tinny': give one of .*"),
        ("methods: {semm: {}}", r"'methods\.semm' is an unknown name: choose one of .*"),
        ("splits: {val: vla}", r"'splits\.val' is 'vla', which is no split: choose one of .*"),
    ],
)
def test_a_wrong_name_in_a_data_set_is_named_with_its_line(tmp_path, says, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"datasets:\n  shapes:\n    {says}\n")
    plan = configuration.load_plan(mine)
    with pytest.raises(WsssError, match=rf"configuration, datasets\.shapes: {message} \(mine\.yaml, line 3\)"):
        plan.check("shapes")


def test_the_images_of_every_role_are_in_a_list(make_plan):
    plan = make_plan(datasets=shapes(splits={"train": "train", "measured": "train", "val": "vla"}))
    with pytest.raises(
        WsssError,
        match=r"datasets\.shapes: 'splits\.val' is 'vla', which is no split: choose one of icons, measured, train, val",
    ):
        plan.check("shapes")


@pytest.mark.parametrize("where", ["overrides", "runs"])
def test_a_network_that_only_the_configuration_names_may_have_a_stand_in(make_plan, where):
    named = {"backbone": {"name": "mobilenet_v2"}}
    over = {"runs": {"a/first": named} if where == "runs" else {}}
    datasets = shapes(stand_ins={"mobilenet_v2": {"weights": "mobilenet_v2.pth"}}, **over)
    plan = make_plan(datasets=datasets, overrides=named if where == "overrides" else {})
    plan.check("shapes")
    assert plan.references(Run("shapes", "a", "first"), 0, "train") == ["mobilenet_v2.pth"]


def test_a_stand_in_takes_options_that_no_network_of_the_papers_has(make_plan):
    entry = {"name": "mobilenet_v2", "tf_padding": True, "freeze": [], "freeze_norm": True, "dropout": None}
    plan = make_plan(datasets=shapes(stand_ins={"resnet38d": entry}))
    plan.check("shapes")
    assert plan.resolve(Run("shapes", "a", "first"))["backbone"]["tf_padding"] is True


@pytest.mark.parametrize("method", ["cam", {"name": "cam"}])
def test_the_method_of_a_run_is_its_papers(make_plan, method):
    with pytest.raises(WsssError, match=r"configuration, overrides: 'method' names a method: only the paper says"):
        make_plan(overrides={"method": method}).check("shapes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train": {"epoch": 3}},
            r"a\.yaml, run first: 'train\.epoch' is an unknown key: choose one of .*epochs.* \(a\.yaml, line \d+\)",
        ),
        ({"crff": {}}, "'crff' is an unknown key"),
        ({"method": "camm"}, "unknown method 'camm': choose one of .*cam"),
    ],
)
def test_a_wrong_key_is_named(make_plan, change, message):
    paper = copy.deepcopy(PAPER)
    paper["runs"]["first"].update(change)
    with pytest.raises(WsssError, match=message):
        make_plan(paper).resolve(Run("shapes", "a", "first"))


def test_every_method_resolves_for_every_configured_data_set(make_plan):
    for method in methods():
        plan = make_plan({**PAPER, "runs": {"first": {"method": method}}, "tables": {}})
        for dataset in plan.config["datasets"]:
            config = plan.resolve(Run(dataset, "a", "first"))
            assert config["method"]["name"] == method
            assert config["train"]["epochs"] > 0


@pytest.mark.parametrize(
    ("file", "dataset"),
    [
        ("config.yaml", "shapes"),
        ("config.yaml", "shapes_coco"),
        ("config.yaml", "proof"),
        ("workflow/photographs.yaml", "photographs"),
    ],
)
def test_where_one_network_stands_in_for_all_every_deeplab_has_one_loss_and_one_rate(file, dataset):
    plan = configuration.load_plan(ROOT / file)
    found = set()
    for paper, spec in plan.papers.items():
        for name in spec["runs"]:
            deeplab = plan.resolve(Run(dataset, paper, name))["deeplab"]
            train = deeplab["train"]
            # a sum of four terms (loss.scales) loses classes at a rate that is chosen for one
            terms = tuple(deeplab["loss"]["scales"])
            found.add((deeplab["model"], terms, train["steps"], train["batch_size"], train["optimizer"]["lr"]))
    assert len(found) == 1
    assert found.pop()[:2] == ("deeplab_v3plus", ())


def test_a_reference_to_another_run_is_its_model(make_plan):
    paper = copy.deepcopy(PAPER)
    paper["runs"]["child"] = {"method": "cam", "backbone": {"weights": "run:twin"}}
    plan = make_plan(paper)
    model = "results/shapes/a/first/seed2/train/model.pt"
    assert plan.references(Run("shapes", "a", "child"), 2, "train") == [model]
    assert plan.stage_config(Run("shapes", "a", "child"), 2, "train")["backbone"]["weights"] == model


def test_official_weights_are_all_that_their_stage_reads(make_plan):
    paper = copy.deepcopy(PAPER)
    paper["runs"]["official"] = {"method": "seam", "train": {"weights": "seam.pth"}}
    plan = make_plan(paper)
    assert plan.references(Run("voc12", "a", "official"), 0, "train") == ["seam.pth"]
    assert any(path.endswith(".params") for path in plan.references(Run("voc12", "a", "official"), 0, "affinity"))
    for stage, section in (("affinity", "affinity"), ("irn_train", "irn_train")):
        assert len(plan.learnt_from(Run("voc12", "a", "official"), 0, stage)) == 2  # shards of both parts of the images
        paper["runs"]["official"][section] = {"train": {"weights": "official.pth"}}
        assert make_plan(paper).learnt_from(Run("voc12", "a", "official"), 0, stage) == []
    paper["runs"]["official"]["affinity"] = {"train": {"weights": "aff.pth"}}
    assert make_plan(paper).references(Run("voc12", "a", "official"), 0, "affinity") == ["aff.pth"]
    assert "seam.pth" in plan.stage_config(Run("voc12", "a", "official"), 0, "cam")["train"]["weights"]


@pytest.mark.parametrize("keys", [("train",), ("affinity", "train"), ("irn_train", "train")])
def test_another_run_is_no_file_of_official_weights(make_plan, keys):
    paper, change = copy.deepcopy(PAPER), {"weights": "run:twin"}
    for key in reversed(keys):
        change = {key: change}
    paper["runs"]["first"].update(change)
    with pytest.raises(WsssError, match=rf"a\.yaml, run first: '{'.'.join(keys)}\.weights' takes a file"):
        make_plan(paper).resolve(Run("shapes", "a", "first"))


@pytest.mark.parametrize(
    ("weights", "way"),
    [
        ({"first": "run:"}, "a/first starts from a/first;"),
        ({"first": "run:twin", "twin": "run:a/longer", "longer": "run:twin"}, "a/twin starts from a/longer starts"),
    ],
)
def test_a_classifier_that_starts_from_itself_is_refused(make_plan, weights, way):
    paper = copy.deepcopy(PAPER)
    for name, value in weights.items():
        paper["runs"][name]["backbone"] = {"weights": value}
    with pytest.raises(WsssError, match=rf"data set 'shapes': {way} .*other weights, or null"):
        make_plan(paper, datasets=shapes()).check("shapes")


def test_pretraining_that_starts_from_itself_is_refused(make_plan):
    pretraining = {"method": "cam", "train": {"start": "run:pretraining/classifier"}}
    with pytest.raises(WsssError, match="pretraining/classifier starts from pretraining/classifier"):
        make_plan(datasets=shapes(pretraining=pretraining)).check("shapes")


def test_many_runs_may_start_from_one(make_plan):
    paper = copy.deepcopy(PAPER)
    for name in ("twin", "longer"):
        paper["runs"][name]["train"] = {"start": "run:first"}
    paper["runs"]["strict"] |= {"backbone": {"weights": "run:twin"}, "train": {"start": "run:longer"}}
    make_plan(paper, datasets=shapes()).check("shapes")


@pytest.mark.parametrize("below", ["", "/results", "/results/here"])
def test_a_file_in_place_of_the_folder_of_results_is_refused(make_plan, tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(WsssError, match="file is a file; set 'results' to a folder"):
        make_plan(results=f"{tmp_path}/file{below}").check("shapes")


def test_a_training_may_start_from_another_runs_whole_classifier(make_plan):
    paper = copy.deepcopy(PAPER)
    paper["runs"]["further"] = {"method": "cam", "train": {"start": "run:longer"}}
    plan = make_plan(paper)
    start = "results/shapes/a/longer/seed1/train/model.pt"
    assert start in plan.references(Run("shapes", "a", "further"), 1, "train")
    assert plan.stage_config(Run("shapes", "a", "further"), 1, "train")["train"]["start"] == start


def test_sizes_shrink_with_the_data_set():
    config = {"train": {"crop": 448, "long_side": [448, 768], "batch_size": 8}, "x": {"crop": None}}
    assert shrink(config, 0.25) == {
        "train": {"crop": 112, "long_side": [112, 192], "batch_size": 8},
        "x": {"crop": None},
    }


def test_a_backbone_is_replaced_wherever_it_stands():
    config = {"backbone": {"name": "big", "freeze": ["a"]}, "method": {"ordinary": {"backbone": {"name": "big"}}}}
    small = stand_in(config, {"big": {"name": "tiny", "freeze": []}})
    assert small["backbone"] == {"name": "tiny", "freeze": []}
    assert small["method"]["ordinary"]["backbone"]["name"] == "tiny"
    again = stand_in(config, {"big": {"weights": "w.pth"}})
    assert again["backbone"] == {"name": "big", "freeze": ["a"], "weights": "w.pth"}
    assert stand_in(config, {"big": {"name": "tiny"}})["backbone"] == {"name": "tiny", "freeze": None}


def test_a_layer_leaves_its_arguments_alone():
    base, over = {"a": {"b": [1]}}, {"a": {"b": [2]}}
    assert overlay(base, Layer("s", over)) == {"a": {"b": [2]}}
    assert base == {"a": {"b": [1]}}


def test_text_in_place_of_a_number_is_named():
    """Snakemake reads ``--config 'overrides={train: {steps: 3}}'`` as text."""
    with pytest.raises(WsssError, match=r"s: 'a\.b' is a number, not the text '3' .*--configfile"):
        overlay({"a": {"b": 0.1}}, Layer("s", {"a": {"b": "3"}}))


def test_table_cells_take_settings_from_column_row_and_cell(make_plan):
    table = drawings.table(make_plan(), "shapes", "a", "t")
    (a, b), (quoted, _) = (row["cells"] for row in table["rows"])
    assert a["metrics"] == ["results/shapes/a/first/seed0/measure/cam_measured.json"]
    assert b["metrics"] == ["results/shapes/a/first/seed0/measure/crf_measured.json"]
    assert b["reported"] == 50.0
    assert "metrics" not in quoted
    assert quoted["literature"] == "somebody 2019"
    assert "data set shapes, backbone tiny" in a["not_comparable"]
    assert drawings.inputs(table) == sorted(a["metrics"] + b["metrics"])


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("run", "nobody", "unknown run 'nobody'"),
        ("stage", "sed", "unknown stage 'sed': choose one of cam"),
        ("metric", "iuo", "unknown metric 'iuo': choose one of miou"),
    ],
)
def test_a_wrong_cell_is_named(make_plan, where, value, message):
    paper = copy.deepcopy(PAPER)
    paper["tables"]["t"]["rows"][0][where] = value
    with pytest.raises(WsssError, match=rf"a\.yaml, table t: {message}"):
        make_plan(paper)


def test_a_paper_file_with_an_unknown_key_is_named(make_plan):
    with pytest.raises(WsssError, match=r"a\.yaml: tables\.t.*captoin"):
        make_plan({**PAPER, "tables": {"t": {**PAPER["tables"]["t"], "captoin": "x"}}})


def test_pretraining_has_images_of_its_own(make_plan):
    plan = make_plan()
    assert plan.stage_config(Run("shapes", *PRETRAINING), 0, "train")["dataset"]["splits"]["train"] == "icons"
    assert plan.stage_config(Run("shapes", "a", "first"), 0, "train")["dataset"]["splits"]["train"] == "train"
    plan.config["datasets"]["shapes"]["pretraining"]["images"] = "icnos"
    with pytest.raises(WsssError, match=r"datasets\.shapes: 'pretraining\.images' is 'icnos', which is no split"):
        plan.check("shapes")


def test_a_run_with_the_settings_of_pretraining_learns_from_its_own_images(make_plan):
    """On other images it is another network, so it has a folder of its own; on the same images it shares one."""
    for images, owner in (("icons", "a/first"), ("train", "pretraining/classifier")):
        own = {"method": "cam", "images": images}
        about = shapes(pretraining=own)
        tiny = {**about["shapes"]["stand_ins"]["resnet38d"], "weights": None}
        about["shapes"]["stand_ins"] = dict.fromkeys(about["shapes"]["stand_ins"], tiny)
        plan = make_plan(datasets=about)
        plan.check("shapes")
        run = Run("shapes", "a", "first")
        assert plan.owner(run, "train").word == owner
        assert plan.model(run, 0) == Path(f"results/shapes/{owner}/seed0/train/model.pt")


def test_pseudo_label_images_split_into_measured_ones_and_the_rest(make_plan):
    plan = make_plan(shards=2)
    plan.config["datasets"]["shapes"]["splits"] = {"train": "train", "measured": "train", "val": "val"}
    assert plan.parts("shapes", "train") == ["measured"]
    assert plan.parts("voc12", "train") == ["measured", "rest"]
    home = plan.home(Run("shapes", "a", "first"), 0, "cam")
    assert plan.shards(home, "cam", "shapes", "train") == [f"{home}/measured-{i}-of-2.npz" for i in range(2)]
    home = plan.home(Run("voc12", "a", "first"), 0, "walk")
    assert len(plan.shards(home, "walk", "voc12", "train", "val")) == 6


def test_shards_that_are_there_stay_when_another_number_is_configured(make_plan, tmp_path):
    results = str(tmp_path / "results")
    known = {"results": results, "datasets": shapes(splits={"train": "train", "measured": "train", "val": "val"})}
    whole, cut = make_plan(**known), make_plan(**known, shards=3)
    cam, crf = (Path(whole.home(Run("shapes", "a", "first"), 0, stage)) for stage in ("cam", "crf"))
    assert len(cut.shards(cam, "cam", "shapes", "train")) == 3
    cam.mkdir(parents=True)
    (cam / "measured-0-of-2.npz").touch()  # one of two: not whole
    assert len(cut.shards(cam, "cam", "shapes", "train")) == 3
    (cam / "measured-0-of-10.npz").touch()  # nor is this
    (cam / "measured-0-of-1.record.json").touch()
    (cam / "measured-1-of-2.npz").touch()
    assert len(cut.shards(cam, "cam", "shapes", "train")) == len(cut.shards(crf, "crf", "shapes", "train")) == 2
    assert len(cut.shards(cam, "cam", "shapes", "val")) == 3


def test_results_of_the_old_layout_are_refused(make_plan, tmp_path):
    plan = make_plan(results=str(tmp_path / "results"))
    plan.check("shapes")
    (tmp_path / "results/shapes/a/first/seed0/metrics").mkdir(parents=True)
    with pytest.raises(WsssError, match=r"seed0/metrics: made by an earlier version.*set 'results' to another folder"):
        plan.check("shapes")


@pytest.mark.parametrize("method", methods())
def test_commands_take_the_settings_that_the_workflow_writes(make_plan, method, tmp_path):
    plan = make_plan({**PAPER, "runs": {"first": {"method": method}}, "tables": {}})
    path = tmp_path / "config.yaml"
    for dataset, stage in itertools.product(("shapes", "voc12", "coco14"), STAGES):
        if stage != "index":
            path.write_text(as_yaml(plan.stage_config(Run(dataset, "a", "first"), 0, stage)))
            assert checked(str(path), read(path))["stage"] == stage


def test_settings_are_written_in_the_same_bytes_with_and_without_libyaml(make_plan):
    """Snakemake runs a job again whose settings are written in other bytes."""
    plan = make_plan()
    values = [
        plan.stage_config(Run("shapes", "a", "first"), 0, stage) for stage in ("train", "walk", "predict", "measure")
    ]
    values.append({"note": "±" + " long texts with other letters than ASCII are broken into lines" * 4})
    assert [as_yaml(value) for value in values] == [yaml.safe_dump(value) for value in values]


def test_settings_written_section_by_section_have_the_same_bytes(make_plan):
    plan = make_plan()
    for seed, stage in itertools.product((0, 1), ("train", "cam", "walk", "predict", "measure", "train")):
        config = plan.stage_config(Run("shapes", "a", "first"), seed, stage)
        assert sections_as_yaml(config) == yaml.safe_dump(config)
    assert sections_as_yaml({"a": 1}) != sections_as_yaml({"a": "1"})  # what is kept is found by name and content


def test_a_file_of_settings_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("a: [1")
    with pytest.raises(WsssError, match=r"my\.yaml: not valid YAML"):
        read(path)
    with pytest.raises(WsssError, match=r"other\.yaml: no such file"):
        read(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; write keys and values"),
        ("# a comment\n", "is empty; write keys and values"),
        ("- a\n", "holds no mapping; write keys and values"),
        ("a: 1\nb: 2020-13-45\n", r"month must be in 1\.\.12; put it in quotes if it is a text .*line 2, column 4"),
        ("a: 0x_\n", "line 1, column 4"),
        ("a: 1\nb: &a [*a]\n", "recursive node .*line 2, column 4"),
        ("[" * 400 + "]" * 400, "not valid YAML"),
        (None, "cannot be read .*give a YAML file"),
    ],
)
def test_a_configuration_that_holds_no_settings_is_named(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)
    with pytest.raises(WsssError, match=rf"my\.yaml: .*{message}"):
        configuration.load_plan(path)


def test_a_mapping_may_take_its_keys_from_anchors_even_from_its_own(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {<<: [*a, *b], y: *a}\n")
    assert read_by_hand(path) == {"a": {"x": 1}, "b": {"x": 1, "y": {"x": 1}}}


def test_what_a_layer_does_not_touch_is_shared_and_never_changed(make_plan):
    released = method_settings("cam")
    plan = make_plan(overrides={"train": {"steps": 7}})
    assert plan.resolve(Run("shapes", "a", "first"))["train"]["steps"] == 7
    assert plan.resolve(Run("shapes", *PRETRAINING))["backbone"]["weights"] is None
    assert method_settings("cam") == released


def test_a_configuration_has_every_key_and_the_one_that_lacks_is_named():
    own, schema = read(configuration.OWN), read(configuration.SCHEMA)
    assert set(schema["required"]) == set(schema["properties"]) == set(own)
    for key in own:
        rest = {name: value for name, value in own.items() if name != key}
        with pytest.raises(WsssError, match=f"'{key}' is a required property"):
            configuration.check(rest, [])


def test_a_key_that_is_given_twice_is_refused_by_line(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("overrides:\n  train: {epochs: 3}\n  train: {batch_size: 4}\n")
    with pytest.raises(WsssError, match=r"mine\.yaml: 'train' is given twice in one place; keep one .*\(line 3\)"):
        configuration.check(read(configuration.OWN), [mine])
    mine.write_text("shared: &shared {epochs: 3}\nother: {<<: *shared, epochs: 4}\n")
    assert read_by_hand(mine)["other"] == {"epochs": 4}
