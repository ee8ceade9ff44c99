"""The index and its VOC builder: what a data set says, and every fault in it named before anything is trained."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from toys import label_of, photograph, write_csv

from wsss.cli import main
from wsss.data import build, voc
from wsss.data.index import Dataset, Record
from wsss.data.labels import from_csv, from_npy, from_xml
from wsss.errors import Problems, WsssError
from wsss.files import sha256
from wsss.stores import png_bytes

CLASSES = voc.CLASSES
IDS = ("2007_000032", "2007_000039", "2008_000008")
BIRD = "<annotation><object><name>bird</name></object></annotation>"
LABELS = {"2007_000032": ("aeroplane", "person"), "2007_000039": ("tvmonitor",), "2008_000008": ("horse", "person")}


@pytest.fixture
def devkit(tmp_path):
    """A VOC folder with three images; the last has no mask and is in the list of all images only."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for k, image_id in enumerate(IDS):
        photograph(20 + k, 10, k).save(root / "JPEGImages" / f"{image_id}.jpg")
        objects = "".join(
            f"<object><name>{name}</name><difficult>{k % 2}</difficult><part><name>head</name></part></object>"
            for name in LABELS[image_id]
        )
        (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    for k, image_id in enumerate(IDS[:2]):
        values = [CLASSES.index(name) + 1 for name in LABELS[image_id]]
        (root / "SegmentationClass" / f"{image_id}.png").write_bytes(png_bytes(label_of(20 + k, 10, *values, 255)))
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text(f"{IDS[0]}\n")
    (lists / "val.txt").write_text(f"{IDS[1]}\n\n")
    pairs = (f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in (IDS[0], IDS[2]))
    (lists / "train_aug.txt").write_text("".join(pairs))
    return root


def config(root, **options) -> dict:
    lists = {"train": "train.txt", "val": "val.txt", "train_aug": "train_aug.txt"}
    return {"name": "toy", "builder": "voc", "root": str(root), "lists": lists, "unmasked": ["train_aug"], **options}


@pytest.fixture
def index(devkit, tmp_path):
    build(config(devkit), tmp_path / "out")
    return Dataset.load(tmp_path / "out")


def findings(root, tmp_path, **options) -> list[str]:
    with pytest.raises(Problems) as caught:
        build(config(root, **options), tmp_path / "out")
    assert not (tmp_path / "out" / "index.csv").exists()
    return caught.value.findings


def test_a_csv_column_that_is_no_class_is_named_once(devkit, tmp_path, one_line):
    header = ",".join(["id", *voc.CLASSES]).replace(",cat,", ",kat,")
    (tmp_path / "labels.csv").write_text("\n".join([header, *(f"{i}{',0' * 20}" for i in IDS)]))
    one_line(
        lambda: build(config(devkit, labels=str(tmp_path / "labels.csv")), tmp_path / "out"),
        "labels.csv: class 'cat' has no column (columns of no class: 'kat')",
    )


# ---- the table


def test_a_voc_folder_becomes_an_index(index, devkit):
    assert index.name == "toy"
    assert index.classes == CLASSES
    assert index.ids == list(IDS)
    assert [record.split for record in index.records] == [("train", "train_aug"), ("val",), ("train_aug",)]
    assert [record.labels for record in index.records] == [LABELS[i] for i in IDS]
    assert index.records[2].mask is None
    for record in index.records:
        assert (record.width, record.height) == index.image(record.id).shape[1::-1]
        assert record.sha256 == sha256(devkit / record.image)
    assert index.records[0].mask_sha256 == sha256(devkit / "SegmentationClass" / f"{IDS[0]}.png")


def test_images_masks_and_labels(index):
    labels = index.split("train_aug").labels()
    assert labels.shape == (2, 20)
    assert labels.dtype == np.float32
    assert np.flatnonzero(labels[0]).tolist() == [0, 14]
    assert np.flatnonzero(labels[1]).tolist() == [12, 14]
    image, label = index.image(IDS[0]), index.mask(IDS[0])
    assert image.shape == (10, 20, 3)
    assert image.dtype == label.dtype == np.uint8
    assert label[0, :4].tolist() == [1, 15, 255, 0]


def test_masks_of_objects_are_found_where_there_are_some(devkit, tmp_path):
    (devkit / "SegmentationObject").mkdir()
    path = devkit / "SegmentationObject" / f"{IDS[0]}.png"
    path.write_bytes(png_bytes(label_of(20, 10, 1, 2, 255)))
    build(config(devkit), tmp_path / "without")
    build(config(devkit, instances="SegmentationObject"), tmp_path / "with")
    plain, objects = ((tmp_path / name / "index.csv").read_text().splitlines()[0] for name in ("without", "with"))
    assert objects == f"{plain},instances,instances_sha256"
    index = Dataset.load(tmp_path / "with")
    assert [record.instances_sha256 for record in index.records] == [sha256(path), None, None]
    assert index.instances(IDS[0])[0, :4].tolist() == [1, 2, 255, 0]
    with pytest.raises(WsssError, match=f"image '{IDS[1]}' of data set 'toy' has no mask of its objects"):
        index.instances(IDS[1])
    path.write_bytes(png_bytes(label_of(9, 10, 1)))
    assert findings(devkit, tmp_path, instances="SegmentationObject") == [
        f"{path}: is 9x10 but its image is 20x10 (width x height)"
    ]
    with pytest.raises(WsssError, match="SegmentationObjects: no such folder; set instances to SegmentationObject"):
        build(config(devkit, instances="SegmentationObjects"), tmp_path / "out")


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_root_may_be_a_folder_above(devkit, tmp_path, above):
    root = [devkit, devkit.parent, devkit.parent.parent][above]
    build(config(root), tmp_path / "out")
    assert len(Dataset.load(tmp_path / "out")) == 3


def test_no_file_of_the_user_is_touched(devkit, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.is_dir() or sha256(path)) for path in devkit.rglob("*")}
    build(config(devkit), tmp_path / "out")
    assert {path: (path.stat().st_mtime_ns, path.is_dir() or sha256(path)) for path in devkit.rglob("*")} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.json", "index.csv"]


def test_files_that_are_there_under_another_name_are_named(devkit, tmp_path):
    """Two files of one id, another suffix, and a mask that is no PNG; capitals are the same suffix."""
    images, masks = devkit / "JPEGImages", devkit / "SegmentationClass"
    (masks / f"{IDS[0]}.png").rename(masks / f"{IDS[0]}.PNG")
    build(config(devkit), tmp_path / "fine")
    assert Dataset.load(tmp_path / "fine").mask(IDS[0])[0, :4].tolist() == [1, 15, 255, 0]
    photograph(20, 10).save(images / f"{IDS[0]}.bmp")
    (images / f"{IDS[2]}.jpg").rename(images / f"{IDS[2]}.jfif")
    (masks / f"{IDS[1]}.png").rename(masks / f"{IDS[1]}.gif")
    suffixes = ".jpg, .jpeg, .png, .bmp, .webp, .tif, .tiff"
    assert findings(devkit, tmp_path) == [
        f"{images / IDS[0]}.jpg: another file has the same id '{IDS[0]}'; rename one of them",
        f"{masks}: the mask of image '{IDS[1]}' is there as '{IDS[1]}.gif', and its suffix is none of .png; convert it",
        f"{images}: listed image '{IDS[2]}' is there as '{IDS[2]}.jfif', and its suffix is none of {suffixes}; "
        "convert it",
    ]


def test_masks_may_be_in_another_place(devkit, tmp_path):
    (devkit / "SegmentationClass").rename(tmp_path / "masks")
    build(config(devkit, masks=str(tmp_path / "masks")), tmp_path / "out")
    assert Dataset.load(tmp_path / "out").mask(IDS[0])[0, :4].tolist() == [1, 15, 255, 0]


@pytest.mark.parametrize("options", [{"root": 5}, {"masks": True}, {"labels": 5}, {"instances": ["a"]}])
def test_options_of_another_kind_are_named(devkit, tmp_path, one_line, options):
    key = next(iter(options))
    one_line(lambda: build(config(devkit) | options, tmp_path / "out"), f"option '{key}' must be a name or a path")


@pytest.mark.parametrize("text", ["", "- a\n", "5\n"])
def test_settings_that_are_none_are_named(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["index", "--config", "index.yaml", "--out", "out"])
    assert ended.value.code == 2
    assert "wsss index: index.yaml: holds no settings; give the config.yaml" in capsys.readouterr().err


def test_splits(index):
    assert index.split("train").ids == [IDS[0]]
    assert index.split("train_aug").without(index.split("train")).ids == [IDS[2]]
    with pytest.raises(WsssError, match=r"no image in split 'test': choose one of train, train_aug, val$"):
        index.split("test")
    with pytest.raises(WsssError, match="choose one of"):
        index.split("train").split("val")


def test_parts_of_the_images(index):
    splits = {"train": "train_aug", "measured": "train", "val": "val"}
    parts = {name: index.part(name, splits).ids for name in ("train", "measured", "rest", "val")}
    assert parts == {"train": [IDS[0], IDS[2]], "measured": [IDS[0]], "rest": [IDS[2]], "val": [IDS[1]]}
    with pytest.raises(WsssError, match=r"no image in split 'test'"):
        index.part("test", splits)
    with pytest.raises(
        WsssError, match=r"unknown part of the images 'seed': choose one of measured, rest, test, train"
    ):
        index.part("seed", splits)


def test_shards_are_interleaved_and_cover_all_images(index):
    assert index.shard(0, 1).ids == index.ids
    assert [index.shard(i, 2).ids for i in range(2)] == [[IDS[0], IDS[2]], [IDS[1]]]
    assert [len(index.shard(i, 5)) for i in range(5)] == [1, 1, 1, 0, 0]


def test_missing_mask_unknown_id_and_lost_file(index, devkit):
    with pytest.raises(WsssError, match=f"'{IDS[2]}'.*has no mask"):
        index.mask(IDS[2])
    with pytest.raises(WsssError, match="no image 'x'"):
        index.image("x")
    (devkit / "JPEGImages" / f"{IDS[0]}.jpg").unlink()
    with pytest.raises(WsssError, match=rf"{IDS[0]}\.jpg: listed, but there is no such file"):
        index.image(IDS[0])
    path = devkit / "JPEGImages" / f"{IDS[1]}.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(WsssError, match=rf"{IDS[1]}\.jpg: cannot be decoded"):
        index.image(IDS[1])


def test_saving_what_was_loaded_gives_the_same_bytes(index, tmp_path):
    index.save(tmp_path / "again")
    for name in ("index.csv", "dataset.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_ids_of_any_form_survive(tmp_path):
    ids = ["COCO_train2014_000000000009", "a.b.c", "site-1/cam 2/0001", "käfer, grün", '"quoted"']
    records = [Record(i, f"{k}.jpg", None, ("x", "y"), ("a",), 1, 1, "0", None) for k, i in enumerate(ids)]
    Dataset("any", ["a"], tmp_path, records).save(tmp_path / "out")
    loaded = Dataset.load(tmp_path / "out")
    assert loaded.ids == ids
    assert loaded.records == records
    assert loaded.root.resolve() == tmp_path.resolve()


def test_a_relative_root_moves_with_its_index(devkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(config("VOCdevkit"), "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["root"] == "../VOCdevkit/VOC2012"
    (tmp_path / "moved").mkdir()
    for name in ("out", "VOCdevkit"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert Dataset.load("moved/out").image(IDS[0]).shape == (10, 20, 3)


def test_loading_what_is_no_index(tmp_path):
    with pytest.raises(WsssError, match=r"dataset\.json: no such file"):
        Dataset.load(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "x", "classes": ["a"], "root": "."}')
    with pytest.raises(WsssError, match=r"index\.csv: no such file"):
        Dataset.load(tmp_path)
    for text in ("a,b\n1,2\n", "id,image,mask,split,labels,width,height,sha256,mask_sha256\na,b,c\n"):
        (tmp_path / "index.csv").write_text(text)
        with pytest.raises(WsssError, match=r"index\.csv: not an index"):
            Dataset.load(tmp_path)


# ---- faults


def test_every_fault_is_reported_in_one_go(devkit, tmp_path):
    """Each fault on an image of its own; the report has all of them and nothing else."""
    names = ["truncated", "large", "strange", "unlabelled", "text", "fine", "gone", "colour"]
    for k, name in enumerate(names[:-2] + names[-1:]):
        photograph(20, 10, k).save(devkit / "JPEGImages" / f"{name}.jpg")
        (devkit / "SegmentationClass" / f"{name}.png").write_bytes(png_bytes(label_of(20, 10, 3)))
        (devkit / "Annotations" / f"{name}.xml").write_text(BIRD)
    jpeg = devkit / "JPEGImages" / "truncated.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size * 9 // 10])
    (devkit / "JPEGImages" / "text.jpg").write_text("not found")
    (devkit / "SegmentationClass" / "large.png").write_bytes(png_bytes(label_of(21, 10, 3)))
    (devkit / "SegmentationClass" / "strange.png").write_bytes(png_bytes(label_of(20, 10, 20, 21, 254, 255)))
    photograph(20, 10).save(devkit / "SegmentationClass" / "colour.png")
    (devkit / "Annotations" / "unlabelled.xml").unlink()
    (devkit / "Annotations" / "gone.xml").write_text("<annotation><object><name>dragon</name></object></annotation>")
    (devkit / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join([IDS[0], *names, "fine"]))

    found = findings(devkit, tmp_path)
    expected = {
        "train.txt: 'fine' is listed twice",
        "truncated.jpg: cannot be decoded (image file is truncated",
        "text.jpg: cannot be decoded (is no image)",
        "large.png: is 21x10 but its image is 20x10",
        "strange.png: values 21, 254 are neither 0 to 20 nor 255",
        "colour.png: mode RGB",
        "unlabelled: no image-level label",
        "gone.jpg: listed, but there is no such file",
        f"gone: label 'dragon' is no class; correct it to one of {', '.join(voc.CLASSES)}",
    }
    assert len(found) == len(expected)
    for text in expected:
        assert sum(text in finding for finding in found) == 1, text


def test_a_mask_is_needed_unless_the_split_says_otherwise(devkit, tmp_path):
    assert [
        f"{IDS[2]}.png: listed, but there is no such file" in f for f in findings(devkit, tmp_path, unmasked=[])
    ] == [True]
    build(config(devkit, masks=None, unmasked=[]), tmp_path / "out")
    assert all(record.mask is None for record in Dataset.load(tmp_path / "out").records)
    with pytest.raises(WsssError, match=r"Aug: no such folder; set masks"):
        build(config(devkit, masks="SegmentationClassAug"), tmp_path / "out")


@pytest.mark.parametrize("image_id", ["../escape", "/absolute", "a/../../b"])
def test_ids_that_leave_the_folder_are_refused(devkit, tmp_path, image_id):
    (devkit / "ImageSets" / "Segmentation" / "train.txt").write_text(f"{IDS[0]}\n{image_id}\n")
    assert any(f"'{image_id}': not usable as an id" in finding for finding in findings(devkit, tmp_path))


def test_wrong_settings_name_the_key(devkit, tmp_path):
    with pytest.raises(WsssError, match=r"unknown option 'mask': choose one of .*masks"):
        build(config(devkit, mask="x"), tmp_path)
    with pytest.raises(WsssError, match="option 'root' is missing"):
        build(config(devkit) | {"root": None}, tmp_path)
    with pytest.raises(WsssError, match="unknown data set builder 'vok': choose one of coco, folder, shapes, voc"):
        build(config(devkit) | {"builder": "vok"}, tmp_path)
    with pytest.raises(WsssError, match=r"tmp: has no JPEGImages|has no JPEGImages"):
        build(config(tmp_path / "out"), tmp_path)
    with pytest.raises(WsssError, match=r"trian\.txt: cannot be read"):
        build(config(devkit, lists={"train": "trian.txt"}), tmp_path)


# ---- labels


def test_labels_from_a_csv_and_a_released_file_are_those_of_the_xml(devkit, tmp_path):
    expected = from_xml(devkit / "Annotations", IDS)
    assert expected == {i: tuple(sorted(names)) for i, names in LABELS.items()}
    marks = {i: [int(name in names) for name in CLASSES] for i, names in expected.items()}
    write_csv(devkit / "image_labels.csv", [["id", *CLASSES], *([i, *row] for i, row in marks.items())])
    assert from_csv(devkit / "image_labels.csv") == (CLASSES, expected)

    as_text = {i: np.array(row, np.float32) for i, row in marks.items()}
    as_number = {np.int32(i.replace("_", "")): row for i, row in as_text.items()}
    for number, table in enumerate((as_text, as_number, {int(i): row for i, row in as_number.items()})):
        path = tmp_path / f"cls_labels{number}.npy"
        np.save(path, table)
        assert from_npy(path, CLASSES) == expected
        build(config(devkit, labels=str(path)), tmp_path / "out")
        assert np.array_equal(Dataset.load(tmp_path / "out").labels(), np.array(list(marks.values()), np.float32))


def test_protocols_of_old_numpy_are_read(tmp_path):
    """Python 2 and numpy 1 wrote other module names and byte strings."""
    table = {"2007_000032": np.ones(20, np.float32)}
    for protocol in (2, 3, 4):
        data = pickle.dumps(np.array(table, dtype=object), protocol=protocol)
        with (tmp_path / "old.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            stream.write(data.replace(b"numpy._core", b"numpy.core") if protocol < 4 else data)
        assert from_npy(tmp_path / "old.npy", CLASSES) == {"2007_000032": tuple(CLASSES)}


class _Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_hostile_label_file_runs_nothing(tmp_path):
    np.save(tmp_path / "evil.npy", {"2007_000032": _Trap(tmp_path / "harm")}, allow_pickle=True)
    with pytest.raises(WsssError, match=r"evil\.npy: not a table of labels.*refused"):
        from_npy(tmp_path / "evil.npy", CLASSES)
    assert not (tmp_path / "harm").exists()
    np.save(tmp_path / "short.npy", {"2007_000032": np.ones(3)})
    with pytest.raises(WsssError, match=r"shape \(3,\), not \(20,\)"):
        from_npy(tmp_path / "short.npy", CLASSES)
    (tmp_path / "noise.npy").write_bytes(b"hello")
    for name in ("noise.npy", "missing.npy"):
        with pytest.raises(WsssError, match=name):
            from_npy(tmp_path / name, CLASSES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["image", "a"], ["x", "1"]], "first line names 'image', 'a'; it must name a column 'id'"),
        ([["id", "a"], ["x", "2"]], "line 2: column 'a' is '2'"),
        ([["id", "a"], ["x", "1"], ["x", "0"]], "line 3: id 'x' occurs twice"),
        ([["id", "a", "b"], ["x", "1"]], "line 2: has more or fewer cells"),
    ],
)
def test_faulty_tables_of_labels(tmp_path, rows, message):
    write_csv(tmp_path / "labels.csv", rows)
    with pytest.raises(WsssError, match=message):
        from_csv(tmp_path / "labels.csv")


def test_a_table_may_have_some_of_vocs_classes_alone_if_no_column_is_meant_for_another(tmp_path):
    table = tmp_path / "image_labels.csv"
    table.write_text("id,width,cat,dog\na,9,1,0\n")
    assert voc.find_labels(tmp_path, table.name, voc.CLASSES, ["a"]) == {"a": ("cat",)}
    for lines in ("id,cat,dogs\na,1,0\n", "id,label\na,cat\n", "id,width\na,9\n"):
        table.write_text(lines)
        with pytest.raises(WsssError, match="has no column"):
            voc.find_labels(tmp_path, table.name, voc.CLASSES, ["a"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "not valid XML"),
        ("<html><body>Please log in</body></html>", "its root is <html>"),
        ('<annotation xmlns="http://x"><object><name>cat</name></object></annotation>', "its root is <{http://x}anno"),
        ("<annotation><objects><object><name>cat</name></object></objects></annotation>", "its objects are not in"),
    ],
)
def test_faulty_annotation(devkit, tmp_path, one_line, text, words):
    (devkit / "Annotations" / f"{IDS[0]}.xml").write_text(text)
    one_line(lambda: build(config(devkit), tmp_path / "out"), f"{IDS[0]}.xml: {words}")


# ---- other builders


def test_a_label_that_is_no_class_is_named(tmp_path):
    dataset = Dataset("toy", ["cat"], tmp_path, [Record("1", "1.png", None, (), ("cat", "yeti"), 1, 1, "", None)])
    with pytest.raises(WsssError, match="index of data set 'toy': image '1' has the unknown label 'yeti'"):
        dataset.labels()


def test_test_images_need_neither_labels_nor_masks(devkit, tmp_path):
    test = tmp_path / "test" / "VOCdevkit" / "VOC2012"
    (test / "JPEGImages").mkdir(parents=True)
    (test / "ImageSets" / "Segmentation").mkdir(parents=True)
    photograph(9, 8).save(test / "JPEGImages" / "2008_000006.jpg")
    (test / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    build(config(tmp_path / "test", lists={"test": "test.txt"}, labels=None, masks=None), tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out").split("test")
    assert dataset.ids == ["2008_000006"]
    assert dataset.image("2008_000006").shape == (8, 9, 3)
    assert dataset.labels().sum() == 0
