"""The builders of other layouts: a folder of one's own, and COCO."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from toys import label_of, photograph, write_csv

from wsss.data import build
from wsss.data.coco import covered, paint
from wsss.data.index import Dataset
from wsss.errors import Problems, WsssError
from wsss.provenance.sources import sources
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
    assert "a/2.x: label 'rust' is no class (nor in 1 other images); correct it to one of " in text
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


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"counts": [48], "size": [8, 6]}, "annotation 7: its code is of an image of another size than 6×8"),
        ({"counts": [3]}, "annotation 7: neither polygons nor a run-length code"),
        (5, "annotation 7: neither polygons nor a run-length code"),
    ],
)
def test_a_shape_that_is_none_is_named(shape, message):
    with pytest.raises(WsssError, match=message):
        cover(shape)


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


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"annotations": [{"segmentation": [["x"]]}]}'])
def test_a_file_of_other_annotations_is_named(tmp_path, text):
    root, _ = coco_folder(tmp_path)
    (root / "annotations" / "instances_val.json").write_text(text)
    settings = {"name": "coco", "builder": "coco", "root": str(root), "sets": {"train": "train", "val": "val"}}
    with pytest.raises(WsssError, match=r"instances_val\.json: no file of instance annotations"):
        build(settings, tmp_path / "out")
