"""How a picture file becomes pixels. All images and masks of data sets are opened here, and nowhere else.

Orientation: a picture is turned as its EXIF entry says, as viewers and annotation tools show it. Its hash is that of
the stored file.

Depth: 8 bits per channel are taken as they are, and 1 bit is 0 or 255. Grey of 16 bits is divided by 257 if its highest
value needs 15 or 16 bits. Otherwise nobody can tell a dark image from one of 10, 12 or 14 bits, so it is refused. Of
colours of 16 bits, and of grey with transparency, Pillow hands over the high bytes; the same rule holds for them. 32
bits and floating point are refused, since no file states their range.

Of several frames the first is read. Transparent areas are shown on white.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from wsss.errors import WsssError

Turn = Image.Transpose
TURNS = {  # value of EXIF's orientation -> what makes the picture upright
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
WHITE = (255, 255, 255)
CLEAR_BITS = 15  # values of 16 bits of which the highest needs fewer may be of 10, 12 or 14
HIGH_BYTES = "high_bytes"  # key in what Pillow knows of a picture: its values are the high bytes of 16 bits
SCALE_16 = 257  # 65535 / 255
DAMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises over a faulty file


def opened(path: Path) -> Image.Image:
    """Open, decode and turn a picture.

    Raises:
        WsssError: there is no such file, or it cannot be decoded.
    """
    return decoded(stored(path), path)


def stored(path: Path) -> bytes:
    """Read the bytes of a picture's file.

    Raises:
        WsssError: there is no such file, or it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise WsssError(f"{path}: is no file; put the picture there, or take it out of the list")
        return path.read_bytes()
    except FileNotFoundError:
        raise WsssError(f"{path}: listed, but there is no such file; restore it, or take it out of the list") from None
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); restore the file") from None


def decoded(data: bytes, path: Path) -> Image.Image:
    """Decode and turn a picture whose bytes are read.

    Raises:
        WsssError: it cannot be decoded; the message names ``path``.
    """
    try:
        picture = Image.open(io.BytesIO(data))
        if any(";16" in str(tile.args) for tile in picture.tile):  # the layout that is stored, such as RGB;16B
            picture.info[HIGH_BYTES] = True
        picture.load()
    except DAMAGE as error:
        reason = "is no image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise WsssError(f"{path}: cannot be decoded ({reason}); restore the file") from None
    return upright(picture)


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF entry says. A damaged or unknown entry turns nothing, as in viewers."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's reader of EXIF fails in many ways, and none of them concerns the pixels
        turn = None
    return picture if turn is None else picture.transpose(turn)


def rgb(picture: Image.Image, path: Path) -> np.ndarray:
    """Return the pixels of a picture, ``H×W×3`` uint8 RGB.

    Raises:
        WsssError: the rule above leaves open what its values mean.
    """
    if picture.mode.startswith("I;16"):
        return np.repeat(_grey_of_16_bits(np.asarray(picture), path)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        kind = "whole numbers of 32 bits" if picture.mode == "I" else "floating-point numbers"
        raise WsssError(f"{path}: its pixels are {kind}, whose range is not stated; convert it to 8 bits per channel")
    if HIGH_BYTES in picture.info:
        highest = int(np.asarray(picture.convert("RGB")).max())
        _check_bits("channels of 16 bits", 256 * highest + 255, path)
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", shown.size, WHITE), shown)
    try:
        return np.array(picture.convert("RGB"))
    except ValueError:
        raise WsssError(f"{path}: mode {picture.mode} has no conversion to RGB; convert it to RGB of 8 bits") from None


def _grey_of_16_bits(values: np.ndarray, path: Path) -> np.ndarray:
    if highest := int(values.max()):
        _check_bits("grey of 16 bits", highest, path)
    return ((values.astype(np.uint32) + SCALE_16 // 2) // SCALE_16).astype(np.uint8)


def _check_bits(kind: str, highest: int, path: Path) -> None:
    bits = highest.bit_length()
    if bits < CLEAR_BITS:
        raise WsssError(
            f"{path}: {kind} with no value above {highest}, which may be {bits} bits in 16 or a dark image; "
            "convert it to 8 bits per channel"
        )
