"""What people bring: pictures as phones and scanners store them, masks as tools rewrite them.

Each is read as it was meant, or refused by a line that says what to write.
"""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from farm import IDS, field, indexed, refused
from PIL import Image
from toys import photograph

from wsss.data import pictures
from wsss.data.masks import Pair, compare
from wsss.stores import png_bytes, voc_palette

TURNED = {  # EXIF's orientation -> how a camera stores the upright picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


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


def test_a_mask_of_another_kind_of_file_is_named(farm, tmp_path):
    root, settings = farm
    (root / "masks" / "q.png").rename(root / "masks" / "q.jpg")
    refused(settings, tmp_path, "masks: the mask of image 'q' is there as 'q.jpg', and its suffix is none of .png")
    assert indexed(settings | {"unmasked": ["train"]}, tmp_path).record("q").mask is None
    (root / "masks" / "q.jpg").unlink()
    refused(settings, tmp_path, "masks: image 'q' has no mask; add its splits to 'unmasked'?")


# ---- memory


def test_an_image_that_would_take_too_much_memory_is_refused_until_asked_for(farm, tmp_path):
    root, settings = farm
    Image.new("RGB", (4000, 2500)).save(root / "images" / "q.png")
    Image.fromarray(np.full((2500, 4000), 2, np.uint8)).save(root / "masks" / "q.png")
    refused(settings, tmp_path, "1 images have more than 8 million pixels", "'q' is 4000x2500", "'megapixels'")
    large = indexed(settings | {"megapixels": 10}, tmp_path)
    assert (large.record("q").width, large.record("q").height) == (4000, 2500)
    refused(settings | {"megapixels": "many"}, tmp_path, "'megapixels' must be a number")
