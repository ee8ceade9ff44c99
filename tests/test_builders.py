"""The builders of other layouts: a folder of one's own, and COCO."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from toys import label_of, photograph, write_csv

from wsss.data import BUILDERS, build
from wsss.data.coco import covered, paint
from wsss.data.index import Dataset
from wsss.errors import Problems, WsssError
from wsss.plan.configuration import SCHEMA
from wsss.plan.written import read
from wsss.provenance.sources import FINDERS, sources
from wsss.stores import png_bytes


def own_folder(tmp_path):
    """A user's images in sub-folders and several formats, with names in the CSV."""
    root = tmp_path / "mine"
    for k, name in enumerate(["a/1.JPG", "a/2.x.png", "b/1.jpeg"]):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(12, 9, k).save(root / "images" / name)
    (root / "masks" / "a").mkdir(parents=True)
    (root / "masks" / "a" / "1.png").write_bytes(png_bytes(label_of(12, 9, 1, 2, 255)))
    write_csv(root / "labels.csv", [["id", "labels"], ["a/1", "wood;rust"], ["a/2.x", " rust "], ["b/1", "wood"]])
    (root / "train.txt").write_text("a/2.x\nb/1\n")
    (root / "val.txt").write_text("a/1\n")
    lists = {"train": "train.txt", "val": "val.txt"}
    return root, {
        "name": "mine",
        "builder": "folder",
        "root": str(root),
        "lists": lists,
        "masks": "masks",
        "classes": ["rust", "wood"],
        "unmasked": ["train"],
    }


def test_a_folder_of_ones_own(tmp_path):
    _, settings = own_folder(tmp_path)
    build(settings, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.classes == ["rust", "wood"]
    assert dataset.ids == ["a/2.x", "b/1", "a/1"]
    assert dataset.labels().tolist() == [[1, 0], [0, 1], [1, 1]]
    assert dataset.mask("a/1")[0, :3].tolist() == [1, 2, 255]
    build(settings | {"classes": ["wood", "rust"]}, tmp_path / "out")
    assert Dataset.load(tmp_path / "out").labels().tolist() == [[0, 1], [1, 0], [1, 1]]
    with pytest.raises(WsssError, match=r"labels\.csv: names of classes have no order, which the masks' values need"):
        build(settings | {"classes": None}, tmp_path / "out")
    build(settings | {"classes": None, "masks": None}, tmp_path / "out")
    assert Dataset.load(tmp_path / "out").classes == ["rust", "wood"]


def test_a_folder_with_labels_as_the_releases_have_them(tmp_path):
    """A ``cls_labels.npy``: a dict from id to 0 or 1 per class."""
    root, settings = own_folder(tmp_path)
    settings["labels"] = "cls_labels.npy"
    table = {"a/1": np.float32([1, 1]), "a/2.x": np.float32([1, 0]), "b/1": np.float32([0, 1])}
    np.save(root / "cls_labels.npy", table)
    build(settings, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.classes == ["rust", "wood"]
    assert dict(zip(dataset.ids, dataset.labels().tolist(), strict=True)) == {
        image_id: row.tolist() for image_id, row in table.items()
    }
    with pytest.raises(WsssError, match=r"cls_labels\.npy: has no names of classes; give 'classes' in the options"):
        build(settings | {"classes": None}, tmp_path / "out")


@pytest.mark.parametrize("change", [{}, {"labels": None}, {"classes": None, "masks": None}])
def test_test_images_of_a_folder_need_no_labels(tmp_path, change):
    """Images to predict: the table of labels does not know them, or there is none."""
    root, settings = own_folder(tmp_path)
    photograph(12, 9, 7).save(root / "images" / "new.png")
    (root / "test.txt").write_text("new\n")
    build({**settings, "lists": {"test": "test.txt"}, "masks": None, **change}, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert (dataset.ids, dataset.classes) == (["new"], ["rust", "wood"])
    assert not dataset.labels().any()
    with pytest.raises(WsssError, match="no id in it is that of a listed image"):
        build({**settings, "lists": {"train": "test.txt"}, "masks": None}, tmp_path / "out")
    with pytest.raises(WsssError, match="without labels there are no names of classes; give 'classes' in the options"):
        build({**settings, "lists": {"test": "test.txt"}, "labels": None, "classes": None}, tmp_path / "out")


def test_every_builder_can_be_named_and_says_what_it_reads():
    """Otherwise a changed list or table of labels would make nothing stale."""
    of_schema = read(SCHEMA)["properties"]["datasets"]["additionalProperties"]["properties"]["builder"]["enum"]
    assert set(BUILDERS) == set(of_schema) == set(FINDERS)


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_schema_knows_the_options_of_a_builder(builder, tmp_path):
    """So an unknown option is named with its file and line, before any job."""
    with pytest.raises(WsssError, match="unknown option 'x': choose one of ") as found:
        build({"name": "mine", "builder": builder, "x": 1}, tmp_path)
    _, _, choice = str(found.value).partition("choose one of ")
    of_schema = read(SCHEMA)["$defs"]
    assert {*of_schema[builder]["properties"], "builder", "name", "splits"} == set(choice.split(", "))
    assert set(of_schema[builder]["properties"]) <= set(of_schema["options"]["properties"])


def test_images_to_learn_from_need_a_table_of_labels(tmp_path):
    """One line, and not one for each image."""
    _, settings = own_folder(tmp_path)
    with pytest.raises(WsssError) as found:
        build(settings | {"labels": None}, tmp_path / "out")
    assert str(found.value) == (
        "data set 'mine': option 'labels' is null, and only test images need none; name the table with the labels of "
        "split 'train'"
    )
    with pytest.raises(WsssError, match="option 'labels' must be a name or a path, not ''"):
        build(settings | {"labels": ""}, tmp_path / "out")


def test_labels_that_test_images_do_not_need_are_no_source_of_them(tmp_path):
    root, settings = own_folder(tmp_path)
    assert str(root / "labels.csv") in sources(settings)
    assert sources(settings | {"labels": None}) == [str(root / "train.txt"), str(root / "val.txt")]


def test_faults_of_a_folder(tmp_path):
    root, settings = own_folder(tmp_path)
    photograph(4, 4).save(root / "images" / "b" / "1.png")
    (root / "val.txt").write_text("a/1\nmissing\n")
    with pytest.raises(Problems) as caught:
        build(settings | {"unmasked": [], "classes": ["wood"]}, tmp_path / "out")
    text = str(caught.value)
    assert "has the same id 'b/1'" in text
    assert "listed image 'missing' is not there" in text
    assert "'a/2.x' has no mask" in text
    assert "a/2.x: label 'rust' (also in 1 other images) is no class; correct it to one of " in text
    with pytest.raises(WsssError, match=r"pictures: no such folder"):
        build(settings | {"images": "pictures"}, tmp_path / "out")


def coco_folder(tmp_path):
    """Two images: two overlapping polygons and a run-length code; one with a crowd only. A third has no annotation."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    images = [{"id": k, "file_name": f"COCO_toy_{k:012d}.jpg", "width": 8, "height": 6} for k in (9, 25, 30)]
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    right = [[3, 0, 7, 0, 7, 3, 3, 3]]
    code = {"counts": [42, 6], "size": [6, 8]}  # the last column
    annotations = [
        {"id": 1, "image_id": 9, "category_id": 90, "segmentation": square, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 13, "segmentation": right, "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 1, "segmentation": code, "iscrowd": 0},
        {"id": 4, "image_id": 25, "category_id": 13, "segmentation": code, "iscrowd": 1},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}, {"id": 90, "name": "toothbrush"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    for name in ("train", "val"):
        (root / name).mkdir()
        for image in images:
            image["file_name"] = f"COCO_{name}_{image['id']:012d}.jpg"
            photograph(8, 6, image["id"] + len(name)).save(root / name / image["file_name"])
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return root, content


def test_coco(tmp_path):
    root, _ = coco_folder(tmp_path)
    settings = {"name": "coco", "builder": "coco", "root": str(root), "sets": {"train": "train", "val": "val"}}
    build(settings, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.classes == ["person", "stop sign", "toothbrush"]
    assert dataset.split("train").ids == ["COCO_train_000000000009", "COCO_train_000000000025"]
    assert len(dataset.split("val")) == 2
    assert dataset.split("train").labels().tolist() == [[1, 1, 1], [0, 1, 0]]
    label = dataset.mask("COCO_train_000000000009")
    expected = np.zeros((6, 8), int)
    expected[1:5, 1:5] = 3
    expected[0:3, 3:7] = 2  # painted later
    expected[:, 7] = 1
    assert np.array_equal(label, expected)
    assert (dataset.mask("COCO_train_000000000025") == 0).all()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.json", "index.csv", "masks"]


def cover(segmentation, height=6, width=8, **more) -> np.ndarray:
    return covered({"id": 7, "category_id": 1, "segmentation": segmentation, **more}, height, width).astype(int)


def test_polygons_cover_what_cocos_own_tool_says():
    """A square with its corners in the middle of pixels covers ten by ten of them, not eleven; parts are united."""
    half = [[4.5, 4.5, 14.5, 4.5, 14.5, 14.5, 4.5, 14.5]]
    assert cover(half, 20, 20).sum() == 100
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3, 8, 6, 5, 6]]
    expected = np.zeros((6, 8), int)
    expected[0:2, 0:2] = expected[3:6, 5:8] = 1
    assert np.array_equal(cover(parts), expected)
    assert cover([[1, 1, 5, 5]]).sum() == 0  # a line, not a box
    assert cover([]).sum() == 0


def test_run_length_codes_may_be_compressed_and_have_holes():
    ring = np.zeros((6, 8), np.uint8, order="F")
    ring[1:5, 1:7] = 1
    ring[2:4, 3:5] = 0
    compressed = coco_masks.encode(ring)
    compressed["counts"] = compressed["counts"].decode()  # as JSON has it
    assert np.array_equal(cover(compressed), ring)
    runs = [len(list(group)) for _, group in itertools.groupby(ring.T.ravel())]
    assert np.array_equal(cover({"counts": runs, "size": [6, 8]}), ring)
    beneath = {"id": 1, "category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}
    above = {"id": 2, "category_id": 2, "segmentation": compressed}
    crowd = {"id": 3, "category_id": 2, "segmentation": {"counts": [0, 48], "size": [6, 8]}, "iscrowd": 1}
    assert np.array_equal(
        paint([beneath, above, crowd], {1: 1, 2: 2}, 6, 8), 1 + ring
    )  # the hole shows what is beneath


def of_val(root) -> dict:
    """Settings of that COCO with one set."""
    return {"name": "coco", "builder": "coco", "root": str(root), "sets": {"val": "val"}}


def altered(tmp_path, part: str, change: dict) -> str:
    """What is said of that COCO if the first entry of one part has other values."""
    root, content = coco_folder(tmp_path)
    content[part][0] |= change
    path = root / "annotations" / "instances_val.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Problems) as caught:
        build(of_val(root), tmp_path / "out")
    (finding,) = caught.value.findings
    assert finding.startswith(f"{path}: ")
    assert not (tmp_path / "out" / "masks").exists()
    return finding


CODE = {"size": [6, 8], "counts": [40, 8]}
SUM = "the counts of their run-length code do not add up to the pixels of the image"
NO_CODE = "counts is neither a list of whole numbers nor a compressed code"
OTHER_SIZE = "the size of their run-length code is not height, width of the image"
FAR = "a coordinate of a polygon is no number, or far from any image"
OUTSIDE = "their polygons lie outside of the image"


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (CODE | {"size": [8, 6]}, OTHER_SIZE),
        ({"counts": [40, 8]}, OTHER_SIZE),
        ({"size": [6, 8]}, "segmentation has no 'counts'"),
        (CODE | {"counts": [10, 20]}, SUM),
        (CODE | {"counts": []}, SUM),
        (CODE | {"counts": ""}, SUM),
        (CODE | {"counts": [-8, 8, 48]}, SUM),
        (CODE | {"counts": [0, 4_000_000_000]}, SUM),
        (CODE | {"counts": [40.5, 7.5]}, NO_CODE),
        (CODE | {"counts": [float("inf")]}, NO_CODE),
        (CODE | {"counts": "~~~"}, NO_CODE),
        (CODE | {"counts": "é"}, NO_CODE),
        (CODE | {"counts": None}, NO_CODE),
        (5, "they have no segmentation"),
        ([[1, 1, float("nan"), 1, 5, 5]], FAR),
        ([[1, 1, float("inf"), 1, 5, 5]], FAR),
        ([[1, 1, 1e9, 1, 5, 5]], FAR),
        ([[1, 1, 10**400, 1, 5, 5]], "a polygon is not x, y"),
        ([[20, 1, 30, 1, 30, 5]], OUTSIDE),
        ([[1, -9, 5, -9, 5, -4]], OUTSIDE),
    ],
)
def test_a_shape_that_nothing_can_be_painted_from_is_named(tmp_path, shape, words):
    found = altered(tmp_path, "annotations", {"segmentation": shape})
    assert f"1 of 4 annotations (1) cannot be used: {words}" in found


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("annotations", {"iscrowd": "0"}, "their iscrowd, such as '0', is neither 0 nor 1"),
        ("annotations", {"category_id": [1]}, "has the category_id '[1]'; it must be a number or a text"),
        ("categories", {"id": [1]}, "has the id '[1]'; it must be a number or a text"),
        ("categories", {"id": 13}, "category 13 occurs 2 times"),
        ("categories", {"name": 1}, "has the name '1'; it must be a text"),
        ("images", {"id": 25}, "image 25 occurs 2 times"),
        ("images", {"width": float("nan")}, "no whole width and height"),
        ("images", {"width": float("inf")}, "no whole width and height"),
        ("images", {"height": -6}, "no whole width and height"),
        ("images", {"height": "6"}, "has the height '6'; it must be a number"),
        ("images", {"file_name": 5}, "has the file_name '5'; it must be a text"),
        ("images", {"file_name": "a\0.jpg"}, "no file can have the file_name of image 9"),
        ("images", {"file_name": f"{'a' * 300}.jpg"}, "no file can have the file_name of image 9"),
    ],
)
def test_an_entry_of_another_kind_is_named(tmp_path, part, change, words):
    assert words in altered(tmp_path, part, change)


def test_annotations_as_programs_write_them_are_read(tmp_path):
    """Whole numbers as floats, truth values, nulls, and polygons that reach beyond the image."""
    root, content = coco_folder(tmp_path)
    beyond, floats, compressed, crowd = content["annotations"]
    beyond |= {"image_id": 9.0, "iscrowd": False, "segmentation": [[-20, 1, 5, 1, 5, 5, -20, 5]]}
    floats |= {"iscrowd": None, "segmentation": {"size": [6, 8], "counts": [42.0, 6.0]}}
    right = np.zeros((6, 8), np.uint8, "F")
    right[:, 6:] = 1
    compressed["segmentation"] = coco_masks.encode(right) | {"counts": coco_masks.encode(right)["counts"].decode()}
    crowd |= {"iscrowd": True, "segmentation": None}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    build(of_val(root), tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    mask = dataset.mask("COCO_val_000000000009")
    assert mask[2].tolist() == [3, 3, 3, 3, 3, 0, 1, 1]  # the floats' column lies below the last code
    assert not dataset.mask("COCO_val_000000000025").any()


def test_shares_of_the_sides_are_no_coordinates(tmp_path):
    root, content = coco_folder(tmp_path)
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    with pytest.raises(Problems, match=r"instances_val\.json: all coordinates are between 0 and 1; multiply them"):
        build(of_val(root), tmp_path / "out")


def test_more_categories_than_masks_have_values_are_refused_before_painting(tmp_path):
    root, content = coco_folder(tmp_path)
    content["categories"] += [{"id": 1000 + k, "name": f"class {k}"} for k in range(297)]
    content["annotations"][0]["category_id"] = 1296
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    with pytest.raises(Problems, match=r"instances_val\.json: 300 classes; there must be 1 to 254"):
        build(of_val(root), tmp_path / "out")


def test_a_size_that_differs_from_the_images_names_the_annotations(tmp_path):
    """So do photographs that an EXIF entry turns, if they were annotated unturned."""
    root, _ = coco_folder(tmp_path)
    photograph(6, 8).save(root / "val" / "COCO_val_000000000025.jpg")
    with pytest.raises(Problems) as caught:
        build(of_val(root), tmp_path / "out")
    assert caught.value.findings == [
        f"{root}/annotations/instances_val.json: the mask of 'COCO_val_000000000025' is 8x6 but its image is 6x8 "
        "(width x height)"
    ]


def test_masks_are_not_painted_into_the_users_own_folder(tmp_path):
    root, _ = coco_folder(tmp_path)
    own = root / "masks" / "val" / "COCO_val_000000000009.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"drawn by hand")
    with pytest.raises(WsssError, match="is the folder of COCO itself; write the index and the masks to another one"):
        build(of_val(root), root)
    assert own.read_bytes() == b"drawn by hand"


@pytest.mark.parametrize("sets", [["val"], None, "val", {"val": 5}])
def test_sets_of_another_kind_are_named(tmp_path, one_line, sets):
    root, _ = coco_folder(tmp_path)
    one_line(lambda: build(of_val(root) | {"sets": sets}, tmp_path / "out"), "data set 'coco': option 'sets")


def test_images_without_annotation_are_kept_where_asked_for(tmp_path):
    root, _ = coco_folder(tmp_path)
    settings = {"name": "coco", "builder": "coco", "root": str(root), "sets": {"train": "train", "val": "val"}}
    build({**settings, "unannotated": ["val"]}, tmp_path / "out")
    dataset = Dataset.load(tmp_path / "out")
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (2, 3)
    assert dataset.split("val").labels().tolist()[2] == [0, 0, 0]
    assert (dataset.mask("COCO_val_000000000030") == 0).all()
    with pytest.raises(WsssError, match="unannotated: test is none of train, val"):
        build({**settings, "unannotated": ["test"]}, tmp_path / "other")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"annotations": [{"segmentation": [["x"]]}]}', "[" * 200_000]
)
def test_a_file_of_other_annotations_is_named(tmp_path, text):
    root, _ = coco_folder(tmp_path)
    (root / "annotations" / "instances_val.json").write_text(text)
    settings = {"name": "coco", "builder": "coco", "root": str(root), "sets": {"train": "train", "val": "val"}}
    with pytest.raises(WsssError, match=r"instances_val\.json: no file of instance annotations"):
        build(settings, tmp_path / "out")
