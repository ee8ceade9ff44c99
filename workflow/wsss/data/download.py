"""Public data sets: download, verification and unpacking; and VOC's train_aug from VOC 2012 and SBD.

Nothing is redistributed: images and annotations come from their publishers, under their terms.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from wsss.data.ids import read_list
from wsss.data.transfer import download, unpack
from wsss.data.voc import LISTS, voc_folder
from wsss.errors import WsssError, choose
from wsss.files import atomic, read_json, write_json, write_text
from wsss.progress import bar
from wsss.stores import png_bytes

MIRROR = "WSSS_MIRROR"  # environment variable: the base URL of a mirror that has the archives under their file names
TRAIN_AUG = 10582  # images of train_aug


@dataclass(frozen=True)
class Source:
    """A published archive. ``checksum`` is ``md5:`` or ``sha256:`` and hex digits, ``size`` in bytes or None."""

    url: str
    checksum: str
    size: int | None
    terms: str


SOURCES = {
    "voc2012": Source(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "md5:6cd6e144f989b92b3379bac3b3de84fd",
        1_999_639_040,
        "PASCAL VOC 2012 trainval; images from Flickr, under Flickr's terms of use",
    ),
    "voc2012-test": Source(  # the official copy is behind the evaluation server's login; this is a public one
        "http://pjreddie.com/media/files/VOC2012test.tar",
        "sha256:f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3",
        1_850_626_560,
        "PASCAL VOC 2012 test images without annotations; images from Flickr, under Flickr's terms of use",
    ),
    "sbd": Source(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "md5:82b4d87ceb2ed10f6038a1cba92111cb",
        None,
        "Semantic Boundaries Dataset; images from Flickr, under Flickr's terms of use; to be cited when used",
    ),
}


def fetch(name: str, out_dir: str | Path, url: str | None = None) -> None:
    """Download, verify and unpack a data set, unless this is done already.

    Args:
        name: one of ``SOURCES``.
        out_dir: the folder to unpack into. Its ``source.json`` records the address and the checksum.
        url: replaces the published address, as the base address in ``WSSS_MIRROR`` does. The checksum stays the same.

    Raises:
        WsssError: the name is unknown, the download fails, or the archive is damaged.
    """
    source, out_dir = choose(SOURCES, name, "data set to download"), Path(out_dir)
    done = out_dir / "source.json"
    if done.is_file() and read_json(done)["checksum"] == source.checksum:
        return
    filename = source.url.rpartition("/")[2]
    mirror = os.environ.get(MIRROR)
    url = url or (f"{mirror.rstrip('/')}/{filename}" if mirror else source.url)
    archive = out_dir / filename
    if not archive.is_file():
        download(url, archive, source.checksum, source.size)
    unpack(archive, out_dir)
    write_json(done, {"name": name, "url": url, "checksum": source.checksum, "terms": source.terms})
    archive.unlink()


def train_aug(sbd: Path, voc: Path, expected: int | None) -> list[str]:
    """List the ids of train_aug: SBD's train and val and VOC's train, without VOC's val.

    Args:
        sbd: folder with SBD's ``train.txt`` and ``val.txt``.
        voc: the VOC2012 folder.
        expected: the right number of ids; None if the lists are not the published ones.

    Raises:
        WsssError: there are more or fewer ids, or a list cannot be read.
    """
    ids = {i for name in ("train.txt", "val.txt") for i in read_list(sbd / name)}
    ids |= set(read_list(voc / LISTS / "train.txt"))
    ids -= set(read_list(voc / LISTS / "val.txt"))
    if expected is not None and len(ids) != expected:
        raise WsssError(f"{sbd}: its lists and VOC's give {len(ids)} images, not {expected}; download both again")
    return sorted(ids)


def augment(voc_root: str | Path, sbd_root: str | Path, out_dir: str | Path, expected: int | None = TRAIN_AUG) -> None:
    """Make a VOC 2012 folder with the list ``train_aug`` and the masks ``SegmentationClassAug``.

    The folders of images, annotations and VOC's own masks are linked. A mask in ``SegmentationClassAug`` is a copy of
    VOC's own where there is one. Otherwise it is SBD's, which is coarser and ignores no border.

    Args:
        voc_root: the VOC2012 folder, or one above it.
        sbd_root: the folder that SBD was unpacked into.
        out_dir: the folder to make.
        expected: as in :func:`train_aug`.

    Raises:
        WsssError: a folder is not VOC or SBD, or a file of theirs cannot be read.
    """
    voc, sbd, out_dir = voc_folder(voc_root), _sbd_folder(Path(sbd_root)), Path(out_dir)
    ids = train_aug(sbd, voc, expected)
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        _link(voc / name, out_dir / name)
    lists = {name: read_list(voc / LISTS / f"{name}.txt") for name in ("train", "val")} | {"train_aug": ids}
    for name, members in lists.items():
        write_text(out_dir / LISTS / f"{name}.txt", "".join(f"{i}\n" for i in members))

    masks = out_dir / "SegmentationClassAug"
    masks.mkdir(parents=True, exist_ok=True)
    everyone = sorted({*ids, *lists["val"]})
    for image_id in bar(everyone, out=masks, unit="mask", total=len(everyone)):
        own = voc / "SegmentationClass" / f"{image_id}.png"
        with atomic(masks / f"{image_id}.png") as temporary:
            if own.is_file():
                shutil.copyfile(own, temporary)
            else:
                temporary.write_bytes(png_bytes(sbd_mask(sbd / "cls" / f"{image_id}.mat")))


def sbd_mask(path: Path) -> np.ndarray:
    """Read the class mask in one of SBD's Matlab files, ``H×W`` uint8.

    Raises:
        WsssError: the file cannot be read.
    """
    try:
        mask: np.ndarray = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0].astype(np.uint8)
        return mask
    except Exception as error:  # a damaged file can fail in any way
        raise WsssError(f"{path}: not a class mask of SBD ({error}); download SBD again") from None


def _sbd_folder(root: Path) -> Path:
    for below in (".", "dataset", "benchmark_RELEASE/dataset"):
        if (root / below / "cls").is_dir():
            return root / below
    raise WsssError(f"{root}: has no benchmark_RELEASE/dataset/cls; give the folder SBD was unpacked into")


def _link(target: Path, link: Path) -> None:
    """Make a relative link, so that the folder of results can move."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with atomic(link) as temporary:
        temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()), target_is_directory=True)
