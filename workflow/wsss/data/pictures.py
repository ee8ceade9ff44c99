"""How a picture file becomes pixels. All images and masks of data sets are opened here, and nowhere else.

Orientation: a picture is turned as its EXIF entry says, as viewers and annotation tools show it. Its hash is that of
the stored file.

Depth: 8 bits per channel are taken as they are, and 1 bit is 0 or 255. Grey of 16 bits is divided by 257 if its highest
value needs 15 or 16 bits. Otherwise nobody can tell a dark image from one of 10, 12 or 14 bits, so it is refused. So
are 32 bits and floating point, whose range no file states.

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
CLEAR_BITS = 15  # grey of 16 bits whose highest value needs fewer may be of 10, 12 or 14
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
        return path.read_bytes()
    except FileNotFoundError:
        raise WsssError(f"{path}: listed, but there is no such file; restore it, or take it out of the list") from None
    except OSError as error:
        raise WsssError(f"{path}: cannot be read ({error.strerror}); restore the file") from None


def decoded(data: bytes, path: Path) -> Image.Image:
    """Decode and turn a picture whose bytes are read.

    Raises:
        WsssError: it cannot be decoded; the line names ``path``.
    """
    try:
        picture = Image.open(io.BytesIO(data))
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
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", shown.size, WHITE), shown)
    try:
        return np.array(picture.convert("RGB"))
    except ValueError:
        raise WsssError(f"{path}: mode {picture.mode} has no conversion to RGB; convert it to RGB of 8 bits") from None


def _grey_of_16_bits(values: np.ndarray, path: Path) -> np.ndarray:
    bits = int(values.max()).bit_length()
    if 0 < bits < CLEAR_BITS:
        raise WsssError(
            f"{path}: grey of 16 bits with no value above {values.max()}, which may be {bits} bits in 16 or a "
            f"dark image; "
            "convert it to 8 bits per channel"
        )
    return ((values.astype(np.uint32) + SCALE_16 // 2) // SCALE_16).astype(np.uint8)
