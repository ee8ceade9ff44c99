"""Results of images in few files: one zip per shard, written once and read by image id.

Scores are two deflated ``.npy`` files per image: uint8 label values and float16 planes. Instances are ``.npy`` files
whose masks are packed to bits. Label maps are palette PNGs. All shards are plain zip files that unzip, numpy and
Pillow can read without this project.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from wsss.errors import WsssError
from wsss.files import atomic

if TYPE_CHECKING:
    from PIL import Image

IGNORE = 255
# what zipfile, numpy and Pillow raise over a faulty member of an archive
DAMAGE = (OSError, EOFError, KeyError, RuntimeError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error)
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp, so that equal content is equal bytes


def voc_palette() -> list[int]:
    """Compute the VOC palette of 256 colours as 768 values from 0 to 255.

    Bit ``k`` of the class index becomes bit ``7 - k // 3`` of channel ``k % 3``.
    """
    palette = np.zeros((256, 3), dtype=int)
    for index in range(256):
        for bit in range(8):
            for channel in range(3):
                palette[index, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette.ravel().tolist()


def png_bytes(labels: np.ndarray) -> bytes:
    """Encode an ``H×W`` uint8 label map (0 background, c + 1 class, 255 ignore) as a VOC palette PNG."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    image.putpalette(voc_palette())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


class Detections(NamedTuple):
    """Instances in one image: ``N`` float32 scores, ``N`` uint8 label values of classes, ``N×H×W`` bool masks."""

    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray


class _ZipWriter:
    """Write access to a shard that is open."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive

    def _put(self, name: str, data: bytes, compression: int) -> None:
        info = zipfile.ZipInfo(name, ZIP_EPOCH)
        info.compress_type = compression
        self._archive.writestr(info, data, compresslevel=1)

    def _put_arrays(self, image_id: str, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            self._put(f"{image_id}/{name}.npy", buffer.getvalue(), zipfile.ZIP_DEFLATED)


class ScoreWriter(_ZipWriter):
    """Write access to a score shard."""

    def put(self, image_id: str, classes: Iterable[int], scores: np.ndarray) -> None:
        """Add the scores of one image, stored as float16.

        Args:
            image_id: the key of the entry.
            classes: label values (0 background, c + 1 class) of the ``K`` planes.
            scores: planes ``K×H×W``.

        Raises:
            WsssError: a score is no finite number.
        """
        if not np.isfinite(scores).all():
            raise WsssError(
                f"scores of image '{image_id}' are not all finite numbers, so its model is broken; "
                "train it again with a smaller learning rate"
            )
        self._put_arrays(image_id, classes=np.asarray(list(classes), np.uint8), scores=scores.astype(np.float16))


class InstanceWriter(_ZipWriter):
    """Write access to an instance shard."""

    def put(self, image_id: str, found: Detections) -> None:
        """Add the detections of one image."""
        arrays = {**found._asdict(), "masks": np.packbits(found.masks), "shape": np.array(found.masks.shape)}
        self._put_arrays(image_id, **arrays)


class MaskWriter(_ZipWriter):
    """Write access to a mask shard."""

    def put(self, image_id: str, labels: np.ndarray) -> None:
        """Add the label map of one image, ``H×W`` uint8."""
        self._put(f"{image_id}.png", png_bytes(labels), zipfile.ZIP_STORED)


Writer = TypeVar("Writer", bound=_ZipWriter)
Parsed = TypeVar("Parsed")


@contextmanager
def _writing(path: str | Path, writer: type[Writer]) -> Iterator[Writer]:
    """Open a shard for writing. It gets its name when the block ends without an error."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield writer(archive)


def write_scores(path: str | Path) -> AbstractContextManager[ScoreWriter]:
    """Open a new score shard (``.npz``)."""
    return _writing(path, ScoreWriter)


def write_masks(path: str | Path) -> AbstractContextManager[MaskWriter]:
    """Open a new mask shard (``.zip`` of PNGs)."""
    return _writing(path, MaskWriter)


def write_instances(path: str | Path) -> AbstractContextManager[InstanceWriter]:
    """Open a new instance shard (``.npz``)."""
    return _writing(path, InstanceWriter)


class _Shards:
    """Read access to the images of any number of shards. The order of the shards does not matter.

    Each process opens the files anew, because processes that share an open file share its position, too.

    Raises:
        WsssError: a file cannot be read, or an image is in two shards.
    """

    def __init__(self, paths: Iterable[str | Path]):
        self._where: dict[str, str] = {}
        self._archives: dict[tuple[int, str], zipfile.ZipFile] = {}
        for path in map(str, paths):
            for name in self._open(path).namelist():
                image_id = self._id_of(name)
                if (other := self._where.setdefault(image_id, path)) != path:
                    raise WsssError(f"{path}: image '{image_id}' is in {other}, too; delete both and make them again")

    @staticmethod
    def _id_of(name: str) -> str:
        """Return the image id in the name of a zip member."""
        raise NotImplementedError

    def _open(self, path: str) -> zipfile.ZipFile:
        key = (os.getpid(), path)
        if key not in self._archives:
            try:
                self._archives[key] = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise WsssError(f"{path}: cannot be read ({error}); delete it and run the step that makes it") from None
        return self._archives[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archives": {}}

    @property
    def ids(self) -> list[str]:
        """The keys of all entries, sorted."""
        return sorted(self._where)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    def _read(self, image_id: str, name: str, parse: Callable[[io.BytesIO], Parsed]) -> Parsed:
        """Return what ``parse`` makes of a member of an image."""
        if image_id not in self._where:
            raise WsssError(f"no result for image '{image_id}'; the step before did not cover it")
        path = self._where[image_id]
        try:
            return parse(io.BytesIO(self._open(path).read(name)))
        except DAMAGE as error:
            raise self._damaged(image_id, error) from None

    def _damaged(self, image_id: str, why: object) -> WsssError:
        """Return the error of an image whose entry is faulty."""
        reason = " ".join(str(why).split())
        return WsssError(
            f"{self._where[image_id]}: what it holds of image '{image_id}' cannot be read ({reason}); delete it and "
            "run the step that makes it"
        )


def _without_pickle(stream: io.BytesIO) -> np.ndarray:
    return np.lib.format.read_array(stream, allow_pickle=False)


class _Arrays(_Shards):
    """Shards with a folder of arrays for each image."""

    @staticmethod
    def _id_of(name: str) -> str:
        return name.rsplit("/", 1)[0]

    def _array(self, image_id: str, name: str) -> np.ndarray:
        return self._read(image_id, f"{image_id}/{name}.npy", _without_pickle)


class Scores(_Arrays):
    """Read access to the class scores of images."""

    def get(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the label values of an image's planes, ``K`` uint8, and the planes ``K×H×W`` float32.

        Raises:
            WsssError: there is no such entry, or it is damaged.
        """
        classes, planes = self._array(image_id, "classes"), self._array(image_id, "scores")
        if fault := _fault_of_scores(classes, planes):
            raise self._damaged(image_id, fault)
        scores = planes.astype(np.float32)
        if not np.isfinite(scores).all():  # of float16 it takes ten times as long
            raise self._damaged(image_id, "its scores are not all finite numbers")
        return classes, scores


def _fault_of_scores(classes: np.ndarray, planes: np.ndarray) -> str | None:
    """Say what is wrong with arrays that should be label values and planes; another program may have written them."""
    if classes.dtype.kind not in "iu" or classes.ndim != 1:
        return "its classes are no list of whole numbers"
    if classes.min(initial=0) < 0:
        return f"it has class {classes.min()}"
    if planes.dtype.kind not in "biuf" or planes.ndim != 3:
        return "its scores are no planes of numbers"
    if len(planes) != len(classes):
        return f"it has {len(planes)} planes for {len(classes)} classes"
    return None


class Instances(_Arrays):
    """Read access to the instances of images."""

    def get(self, image_id: str) -> Detections:
        """Return the detections of one image.

        Raises:
            WsssError: there is no such entry, or it is damaged.
        """
        shape = tuple(self._array(image_id, "shape"))
        masks = np.unpackbits(self._array(image_id, "masks"), count=int(np.prod(shape))).reshape(shape).astype(bool)
        return Detections(self._array(image_id, "scores"), self._array(image_id, "classes"), masks)


class Masks(_Shards):
    """Read access to the label maps of images."""

    @staticmethod
    def _id_of(name: str) -> str:
        return name.removesuffix(".png")

    def get(self, image_id: str) -> np.ndarray:
        """Return the label map of one image, ``H×W`` uint8.

        Raises:
            WsssError: there is no such entry, or it is damaged.
        """
        return np.asarray(self.picture(image_id))

    def picture(self, image_id: str) -> Image.Image:
        """Return the label map of one image as it is stored, with its palette.

        Raises:
            WsssError: there is no such entry, or it is damaged.
        """
        return self._read(image_id, f"{image_id}.png", _picture)


def _picture(stream: io.BytesIO) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(stream)
    except UnidentifiedImageError:  # whose own words are about a stream
        raise ValueError("it is no image") from None
    picture.load()
    return picture
