"""What people bring: pictures as phones and scanners store them, masks as tools rewrite them, tables as programs
export them.

Each is read as it was meant, or refused by a line that says what to write.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from toys import photograph, write_csv

from wsss.data import build, pictures
from wsss.data.index import Dataset
from wsss.data.masks import Pair, compare
from wsss.errors import Problems, WsssError
from wsss.stores import png_bytes, voc_palette

IDS = ("p", "q", "r", "s")
TURNED = {  # EXIF's orientation -> how a camera stores the upright picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def field(k: int, width: int = 12, height: int = 9) -> np.ndarray:
    """The mask of the k-th image: hens on even ones, geese on odd ones."""
    mask = np.zeros((height, width), np.uint8)
    mask[2:6, 3:8] = 1 + k % 2
    return mask


@pytest.fixture
def farm(tmp_path):
    """Four images of hens and geese in turn, and the settings that index them."""
    root = tmp_path / "farm"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k, image_id in enumerate(IDS):
        photograph(12, 9, k).save(root / "images" / f"{image_id}.png")
        (root / "masks" / f"{image_id}.png").write_bytes(png_bytes(field(k)))
    write_csv(root / "labels.csv", [["id", "labels"], *([i, ("hen", "goose")[k % 2]] for k, i in enumerate(IDS))])
    (root / "train.txt").write_text("p\nq\n")
    (root / "val.txt").write_text("r\ns\n")
    lists = {"train": "train.txt", "val": "val.txt"}
    options = {"root": str(root), "lists": lists, "masks": "masks", "classes": ["hen", "goose"]}
    return root, {"name": "farm", "builder": "folder", **options}


def indexed(settings, tmp_path) -> Dataset:
    build(settings, tmp_path / "out")
    return Dataset.load(tmp_path / "out")


def refused(settings, tmp_path, *words: str) -> None:
    with pytest.raises(WsssError) as caught:
        build(settings, tmp_path / "out")
    lines = caught.value.findings if isinstance(caught.value, Problems) else [str(caught.value)]
    assert any(all(word in line for word in words) for line in lines), lines


# ---- pixels


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_read_upright(farm, tmp_path, orientation, suffix):
    root, settings = farm
    ramp = np.linspace(0, 250, 12 * 9).reshape(9, 12).astype(np.uint8)
    upright = Image.fromarray(np.stack([ramp] * 3, -1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "images" / "p.png").unlink()
    upright.transpose(TURNED[orientation]).save(root / "images" / f"p.{suffix}", exif=exif, quality=100)
    dataset = indexed(settings, tmp_path)
    assert (dataset.record("p").width, dataset.record("p").height) == (12, 9)
    assert abs(dataset.image("p").astype(int) - np.asarray(upright)).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_turns_nothing(tmp_path):
    picture = photograph(6, 4)
    picture.save(tmp_path / "p.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert pictures.opened(tmp_path / "p.jpg").size == (6, 4)


def test_ordinary_pictures_have_the_pixels_that_pillow_gives(tmp_path):
    for mode in ("RGB", "L", "P", "CMYK", "1"):
        path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
        photograph(9, 7).convert(mode).save(path)
        with Image.open(path) as picture:
            expected = np.array(picture.convert("RGB"))
        assert np.array_equal(pictures.rgb(pictures.opened(path), path), expected), mode


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_is_scaled_where_that_is_clear(farm, tmp_path, suffix, one_line):
    root, settings = farm
    (root / "images" / "p.png").unlink()
    path = root / "images" / f"p.{suffix}"
    grey = np.arange(108, dtype=np.uint16).reshape(9, 12) * 2 + 41
    Image.fromarray(grey * 257).save(path)
    assert np.array_equal(indexed(settings, tmp_path).image("p")[..., 1], grey)
    for bits in (10, 12, 14):  # in 16
        Image.fromarray((grey.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)).save(path)
        refused(settings, tmp_path, f"p.{suffix}", f"{bits} bits in 16", "convert it to 8 bits")


def deep_png(pixels: np.ndarray) -> bytes:
    """Pixels ``H×W×C`` as a PNG of 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_of_16_bits_are_read_as_grey_of_16_bits_is(farm, tmp_path, channels):
    """Two channels are grey and transparency; the last of two and of four is full."""
    root, settings = farm
    path = root / "images" / "p.png"
    shown = np.arange(9 * 12 * 3, dtype=np.uint16).reshape(9, 12, 3)[..., : channels - 1 + channels % 2] % 250
    clear = np.full((9, 12, 1 - channels % 2), 65535)
    path.write_bytes(deep_png(np.concatenate([shown * 257, clear], 2)))
    assert np.array_equal(indexed(settings, tmp_path).image("p"), np.broadcast_to(shown, (9, 12, 3)))
    for bits in (8, 12, 14):  # in 16
        path.write_bytes(deep_png(np.concatenate([shown.astype(np.uint32) * (2**bits - 1) // 249, clear], 2)))
        refused(settings, tmp_path, "p.png", f"{bits} bits in 16", "convert it to 8 bits")


@pytest.mark.parametrize("place", ["images", "masks"])
def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(farm, tmp_path, place):
    root, settings = farm
    (root / place / "q.png").unlink()
    os.mkfifo(root / place / "q.png")
    refused(settings, tmp_path, f"{place}/q.png: is no file; put the picture there")


@pytest.mark.parametrize(("kind", "word"), [(np.int32, "whole numbers of 32 bits"), (np.float32, "floating-point")])
def test_pixels_without_a_stated_range_are_refused(farm, tmp_path, kind, word):
    root, settings = farm
    (root / "images" / "q.png").unlink()
    Image.fromarray(np.ones((9, 12), kind)).save(root / "images" / "q.tif")
    refused(settings, tmp_path, "q.tif", word)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    path = tmp_path / "p.png"
    if mode == "P":
        picture = Image.fromarray(np.tile(np.array([3, 7], np.uint8), (4, 2)))
        picture.putpalette(voc_palette())
        picture.save(path, transparency=3)
    else:
        pixels = np.full((4, 4, len(mode)), 90, np.uint8)
        pixels[..., -1] = np.tile([0, 255], 2)
        Image.fromarray(pixels, mode).save(path)
    read = pictures.rgb(pictures.opened(path), path)
    assert (read[:, 0] == 255).all()
    assert (read[:, 1] == read[0, 3]).all()
    assert not (read[:, 1] == 255).any()


# ---- masks


def test_a_renumbered_palette_is_read_by_colour(farm, tmp_path, capsys):
    root, settings = farm
    colours = np.array(voc_palette(), np.uint8).reshape(256, 3)
    for k, image_id in enumerate(IDS):
        mask = field(k)
        mask[0, :3] = 255
        order = [255, *np.unique(mask)[:-1][::-1]]  # as a tool might sort them
        lookup = {value: index for index, value in enumerate(order)}
        picture = Image.fromarray(np.vectorize(lookup.get)(mask).astype(np.uint8))
        picture.putpalette(colours[order].ravel().tolist())
        picture.save(root / "masks" / f"{image_id}.png")
        expected = mask
        last = image_id
    assert np.array_equal(indexed(settings, tmp_path).mask(last), expected)
    assert "the palette of 4 masks is VOC's in another order" in capsys.readouterr().err


PALETTES = {
    "own": [0, 0, 0, 255, 0, 0, 0, 255, 0],
    "short": [0, 0, 0],
    "black": [0] * 768,
    "white objects": [0, 0, 0, 255, 255, 255],
    "greys to look at": [0, 0, 0, 128, 128, 128, 255, 255, 255],
    "many greys to look at": [level for level in range(0, 256, 2) for _ in range(3)],
    "the levels themselves": [level for level in range(256) for _ in range(3)],
}


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_the_indices_of_any_other_palette_are_the_values(farm, tmp_path, palette):
    root, settings = farm
    for k, image_id in enumerate(IDS[: 1 + len(palette) // 9]):  # a palette of two has no colour for geese
        picture = Image.fromarray(field(k))
        picture.putpalette(palette)
        picture.save(root / "masks" / f"{image_id}.png")
    dataset = indexed(settings, tmp_path)
    for k, image_id in enumerate(IDS):
        assert np.array_equal(dataset.mask(image_id), field(k))


@pytest.mark.parametrize("kind", ["reduced colours", "GIF"])
@pytest.mark.parametrize("ignored", [False, True])
def test_grey_masks_that_a_tool_gave_a_palette_have_the_values_of_their_greys(farm, tmp_path, capsys, kind, ignored):
    root, settings = farm
    for k, image_id in enumerate(IDS):
        mask = field(k)
        mask[7, :3] = 255 * ignored
        picture = Image.fromarray(mask)
        if kind == "GIF":
            picture.save(root / "masks" / f"{image_id}.png", "GIF")
        else:
            picture.quantize(3).save(root / "masks" / f"{image_id}.png")
    dataset = indexed(settings, tmp_path)
    for k, image_id in enumerate(IDS):
        read = dataset.mask(image_id)
        assert np.array_equal(np.where(read == 255, 0, read), field(k))
        assert (read[7, :3] == 255 * ignored).all()
    assert "VOC's in another order, or grey: values are taken by colour" in capsys.readouterr().err


def test_a_palette_whose_black_may_be_the_background_or_an_object_is_refused(farm, tmp_path):
    """Masks of 0 and 255 with reduced colours, or objects that are black to look at."""
    root, settings = farm
    buffer = io.BytesIO()
    Image.fromarray(field(0) * 255).quantize(2).save(buffer, "PNG")
    (root / "masks" / "r.png").write_bytes(buffer.getvalue())
    refused(settings, tmp_path, "r.png: its palette is grey, and black is not its first colour; save it without")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: mask * 0, ("4 of 4 images", "all background")),
        (lambda mask: np.where(mask, 255, 0), ("4 of 4 images", "255 alone", "ignored")),
        (lambda mask: np.where(mask, 3 - mask, 0), ("4 of 4 images", "labels hen", "order of the masks' values")),
    ],
)
def test_masks_that_contradict_the_labels_are_refused(farm, tmp_path, change, words):
    root, settings = farm
    for k, image_id in enumerate(IDS):
        (root / "masks" / f"{image_id}.png").write_bytes(png_bytes(change(field(k))))
    refused(settings, tmp_path, *words)


def test_single_differences_are_said_with_their_share(farm, tmp_path, capsys):
    root, settings = farm
    (root / "masks" / "q.png").write_bytes(png_bytes(field(1) * 0))
    indexed(settings, tmp_path)
    assert "differ in 1 of 4 images with masks (q); they have none in common in 1 of 4" in capsys.readouterr().err
    assert compare([Pair("a", ("hen",), (0, 1, 255)), Pair("b", (), (0,))], ["hen"]) == ([], [])


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


def test_a_mask_of_another_kind_of_file_is_named(farm, tmp_path):
    root, settings = farm
    (root / "masks" / "q.png").rename(root / "masks" / "q.jpg")
    refused(settings, tmp_path, "masks: the mask of image 'q' is there as 'q.jpg', and its suffix is none of .png")
    assert indexed(settings | {"unmasked": ["train"]}, tmp_path).record("q").mask is None
    (root / "masks" / "q.jpg").unlink()
    refused(settings, tmp_path, "masks: image 'q' has no mask; add its splits to 'unmasked'?")


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


def test_an_image_that_would_take_too_much_memory_is_refused_until_asked_for(farm, tmp_path):
    root, settings = farm
    Image.new("RGB", (4000, 2500)).save(root / "images" / "q.png")
    Image.fromarray(np.full((2500, 4000), 2, np.uint8)).save(root / "masks" / "q.png")
    refused(settings, tmp_path, "1 images have more than 8 million pixels", "'q' is 4000x2500", "'megapixels'")
    large = indexed(settings | {"megapixels": 10}, tmp_path)
    assert (large.record("q").width, large.record("q").height) == (4000, 2500)
    refused(settings | {"megapixels": "many"}, tmp_path, "'megapixels' must be a number")
