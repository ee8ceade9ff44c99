"""What people bring: tables and lists as programs export them, and annotations in other layouts.

Each is read as it was meant, or refused by a line that says what to write.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from farm import IDS, field, indexed, refused
from toys import photograph, write_csv

from wsss.stores import png_bytes

# ---- classes and splits


@pytest.mark.parametrize("name", ["background", "Background", "__background__", "_BG_"])
def test_background_is_no_class(farm, tmp_path, name):
    _, settings = farm
    refused(settings | {"classes": [name, "hen", "goose"]}, tmp_path, f"'{name}' is no class", "value 0")


def test_columns_that_are_no_class(farm, tmp_path):
    root, settings = farm
    rows = [["id", "hen", "goose", "difficult", "width"], *([i, 1 - k % 2, k % 2, 1, 12] for k, i in enumerate(IDS))]
    write_csv(root / "labels.csv", rows)
    assert indexed(settings, tmp_path).labels().tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    write_csv(root / "labels.csv", [row[:4] for row in rows])
    refused(settings | {"classes": None}, tmp_path, "column 'difficult' looks like no class")


@pytest.mark.parametrize("joined", ["hen,goose", "hen|goose", "Hen; goose", "hen;;goose"])
def test_names_joined_in_one_cell(farm, tmp_path, joined):
    root, settings = farm
    write_csv(root / "labels.csv", [["id", "labels"], *([i, joined] for i in IDS)])
    assert indexed(settings, tmp_path).labels().tolist() == [[1, 1]] * 4
    if ";" not in joined:
        refused(settings | {"classes": None, "masks": None}, tmp_path, "line 2", joined, "join names by ';'")


def test_classes_that_differ_in_capitals_alone(farm, tmp_path):
    root, settings = farm
    write_csv(root / "labels.csv", [["id", "labels"], *([i, ("Hen", "hen")[k % 2]] for k, i in enumerate(IDS))])
    refused(settings | {"classes": None, "masks": None}, tmp_path, "'Hen' and 'hen'", "write one")


def test_an_image_to_learn_from_is_not_measured_on(farm, tmp_path):
    root, settings = farm
    (root / "val.txt").write_text("p\ns\n")
    refused(settings, tmp_path, "1 of 2 images to measure on", "(p)")
    roles = {"train": "val", "measured": "val", "val": "other"}
    (root / "other.txt").write_text("r\n")
    lists = settings["lists"] | {"other": "other.txt"}
    assert len(indexed(settings | {"lists": lists, "splits": roles}, tmp_path)) == 4
    (root / "val.txt").write_text("r\ns\n")
    (root / "images" / "r.png").write_bytes((root / "images" / "p.png").read_bytes())
    refused(settings, tmp_path, "same bytes", "'r' is 'p'")


def test_an_empty_list_is_refused(farm, tmp_path):
    root, settings = farm
    (root / "val.txt").write_text("\n \n")
    refused(settings, tmp_path, "val.txt", "lists no image")


def test_one_class_needs_images_without_it(farm, tmp_path, capsys):
    root, settings = farm
    for image_id in IDS:
        (root / "masks" / f"{image_id}.png").write_bytes(png_bytes(field(0)))
    write_csv(root / "labels.csv", [["id", "labels"], *([i, "hen"] for i in IDS)])
    indexed(settings | {"classes": ["hen"]}, tmp_path)
    assert "nothing can be learnt of hen: every image of 'train' has that label" in capsys.readouterr().err
    write_csv(root / "labels.csv", [["id", "hen"], *([i, 1 - k % 2] for k, i in enumerate(IDS))])
    for image_id in IDS[1::2]:
        (root / "masks" / f"{image_id}.png").write_bytes(png_bytes(field(0) * 0))
    dataset = indexed(settings | {"classes": ["hen"]}, tmp_path)
    assert dataset.labels().tolist() == [[1], [0], [1], [0]]
    assert "nothing" not in capsys.readouterr().err


# ---- texts


def test_other_encodings_are_named(farm, tmp_path):
    root, settings = farm
    for name, text in (("labels.csv", "id,labels\np,hen\n"), ("train.txt", "p\nq\n")):
        before = (root / name).read_bytes()
        (root / name).write_text(text, encoding="utf-16")
        refused(settings, tmp_path, name, "not UTF-8", "UTF-16")
        (root / name).write_text(text + "ä\n", encoding="latin-1")
        refused(settings, tmp_path, name, "not UTF-8")
        (root / name).write_bytes(b"\xef\xbb\xbf" + before)
        assert len(indexed(settings, tmp_path)) == 4
        (root / name).write_bytes(before)


@pytest.mark.parametrize(
    "lines",
    [
        "id;hen;goose|p;1;0|q;0;1|r;1;0|s;0;1",
        "id\then\tgoose|p\t1\t0|q\t0\t1|r\t1\t0|s\t0\t1",
        " ID , hen,goose|p,True,False|q,false,true|r,1.0,0.0|s,0,1",
        ",id,hen,goose|0,p,1,0|1,q,0,1|2,r,1,0|3,s,0,1",
        "id,labels|p.png,hen|images/q.png,goose|r ,hen|s,goose||",
    ],
)
def test_tables_as_programs_write_them(farm, tmp_path, lines):
    root, settings = farm
    (root / "labels.csv").write_text(lines.replace("|", "\n"))
    assert indexed(settings, tmp_path).labels().tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("id,label|p,hen|q,goose", "labels.csv: class 'hen' has no column (columns of no class: 'label')"),
        ("id,hen|p,1|q,0", "labels.csv: class 'goose' has no column"),
        ("id,hen,geese|p,1,0|q,0,0", "labels.csv: class 'goose' has no column (columns of no class: 'geese')"),
        ("id,hen,geese|p,1,0|q,0,2", "labels.csv: class 'goose' has no column (columns of no class: 'geese')"),
    ],
)
def test_a_class_without_a_column_is_named(farm, tmp_path, lines, words):
    """Its images would all be negatives."""
    root, settings = farm
    (root / "labels.csv").write_text(lines.replace("|", "\n"))
    refused(settings, tmp_path, words, "or write names into a column 'labels'")


@pytest.mark.parametrize("other", ["p.png", "images/p.png", "images\\p"])
def test_one_image_under_two_spellings_occurs_twice(farm, tmp_path, other):
    root, settings = farm
    with (root / "labels.csv").open("a") as stream:
        stream.write(f"{other},goose\n")
    refused(settings, tmp_path, f"labels.csv: 'p' and '{other}' are one image, so it occurs twice; remove one of them")
    np.save(root / "cls_labels.npy", {**{image_id: [1, 0] for image_id in IDS}, other: [0, 1]})
    refused(settings | {"labels": "cls_labels.npy"}, tmp_path, "cls_labels.npy: 'p' and", "occurs twice")


def test_ids_that_are_numbers_stay_as_they_are(farm, tmp_path):
    """Those of VOC, such as 2007000032, are its ids without the line between."""
    root, settings = farm
    np.save(root / "cls_labels.npy", {k: [1, 0] for k in range(4)})
    refused(settings | {"labels": "cls_labels.npy"}, tmp_path, "it has '0', the lists have 'p'")
    np.save(root / "cls_labels.npy", {2007000032: [1, 0], "2007_000032": [0, 1]})
    refused(settings | {"labels": "cls_labels.npy"}, tmp_path, "an id occurs twice, as a number and as a text")


def test_letters_are_compared_composed(farm, tmp_path):
    root, settings = farm
    (root / "labels.csv").write_text("id,labels\np,Ga\u0308nse\nq,hen\nr,Ga\u0308nse\ns,hen\n", encoding="utf-8")
    dataset = indexed(settings | {"classes": ["G\u00e4nse", "hen"]}, tmp_path)
    assert dataset.labels()[0].tolist() == [1, 0]


def test_tables_and_lists_that_need_a_word(farm, tmp_path):
    root, settings = farm
    write_csv(root / "labels.csv", [["id", "labels"], ["x1", "hen"], ["x2", "goose"]])
    refused(settings, tmp_path, "no id in it is that of a listed image", "'x1'", "'p'")
    write_csv(root / "labels.csv", [["id", "hen", "goose"], *([i, 1, ""] for i in IDS)])
    refused(settings, tmp_path, "line 2", "column 'goose' is empty; write 0 or 1")
    write_csv(root / "labels.csv", [["id", "labels"], *([i, "hen"] for i in IDS)])
    (root / "train.txt").write_text("p  1\nq -1\n")
    refused(settings, tmp_path, "train.txt", "lists of a class")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": [1, 2]}, ("'classes'", "quotes")),
        ({"classes": [True, None]}, ("'classes'", "quotes")),
        ({"lists": {"train": ["a", "b"]}}, ("'lists.train'", "one file")),
        ({"lists": "train.txt"}, ("'lists'", "split: file")),
        ({"images": None}, ("'images'", "a name or a path")),
        ({"root": 5}, ("'root'", "a name or a path")),
        ({"masks": True}, ("'masks'", "a name or a path")),
        ({"splits": ["train"]}, ("'splits'", "role: split")),
        ({"splits": {"train": ["train"]}}, ("'splits.train'", "one split")),
    ],
)
def test_options_of_another_kind(farm, tmp_path, options, words):
    _, settings = farm
    refused(settings | options, tmp_path, *words)


# ---- other layouts


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "big5", "shift_jis", "utf-8", "latin-1"])
def test_annotations_in_other_encodings_and_classes_of_ones_own(tmp_path, encoding):
    root = tmp_path / "mine"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    folder = "caf\u00e9" if encoding == "latin-1" else "\u5c71"
    for k, (image_id, suffix) in enumerate((("p", "JPG"), ("q", "png"))):
        photograph(12, 9, k).save(root / "JPEGImages" / f"{image_id}.{suffix}")
        text = f"""<?xml version="1.0" encoding="{encoding}"?><annotation><folder>{folder}</folder>
            <object><name>{("hen", "Goose")[k]}</name></object></annotation>"""
        (root / "Annotations" / f"{image_id}.xml").write_bytes(text.encode(encoding))
        (root / "SegmentationClass" / f"{image_id}.png").write_bytes(png_bytes(field(k)))
        (root / "ImageSets" / "Segmentation" / f"{image_id}.txt").write_text(image_id)
    settings = {"name": "mine", "builder": "voc", "root": str(root), "lists": {"train": "p.txt", "val": "q.txt"}}
    dataset = indexed(settings | {"classes": ["hen", "goose"]}, tmp_path)
    assert [record.labels for record in dataset.records] == [("hen",), ("goose",)]
    refused(settings, tmp_path, "label 'hen' is no class")
    (root / "Annotations" / "p.xml").write_bytes(b'<?xml version="1.0" encoding="klingon"?><annotation/>')
    refused(settings, tmp_path, "p.xml", "unknown encoding 'klingon'")


POLYGON = [3, 2, 8, 2, 8, 6, 3, 6]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": []}, ("no segmentation", "2 of 2")),
        ({"segmentation": None}, ("no segmentation", "2 of 2")),
        ({"segmentation": POLYGON}, ("not a list of polygons",)),
        ({"segmentation": [POLYGON[:7]]}, ("not x, y",)),
        ({"category_id": 9}, ("category_id, such as 9",)),
        ({"image_id": "0"}, ("image_id, such as '0'",)),
    ],
)
def test_annotations_that_no_mask_can_be_painted_from(tmp_path, change, words):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for k, name in enumerate(("train", "val")):
        (root / name).mkdir()
        photograph(12, 9, k).save(root / name / f"{name}.jpg")
        good = [{"id": n, "image_id": 0, "category_id": 1, "segmentation": [POLYGON]} for n in range(2)]
        content = {
            "images": [{"id": 0, "file_name": f"{name}.jpg", "width": 12.0, "height": 9}],
            "categories": [{"id": 1, "name": "hen"}],
            "annotations": good,
        }
        text = json.dumps(content)
        (root / "annotations" / f"instances_{name}.json").write_text(text, encoding="utf-8-sig")
    settings = {"name": "c", "builder": "coco", "root": str(root), "sets": {"train": "train", "val": "val"}}
    assert len(indexed(settings, tmp_path)) == 2
    content["annotations"] = [annotation | change for annotation in good]
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    refused(settings, tmp_path, "instances_val.json", *words)
    (root / "annotations" / "instances_val.json").write_text("{")
    refused(settings, tmp_path, "instances_val.json", "restore the file of annotations")
