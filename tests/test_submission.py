"""The archive for VOC's test server: what it holds, and what keeps it from being written."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from PIL import Image
from stages import given
from toys import mask_shard

from wsss.data.index import Dataset, Record
from wsss.errors import WsssError
from wsss.segment.submission import FOLDER, check, submission
from wsss.stores import png_bytes


@pytest.fixture
def images(tmp_path) -> Dataset:
    """Four images of two classes; the archive's masks are their ground truth."""
    records = []
    for i in range(8, 12):
        label = np.random.default_rng(i).integers(0, 3, (40, 48)).astype(np.uint8)
        (tmp_path / f"{i}_mask.png").write_bytes(png_bytes(label))
        records.append(Record(f"im{i}", f"{i}.png", f"{i}_mask.png", ("test",), (), 48, 40, "", ""))
    return Dataset("noise", ["red", "blue"], tmp_path, records)


def test_submission_holds_every_image_as_a_palette_png(images, tmp_path):
    shard, out = mask_shard(tmp_path / "m.zip", images), tmp_path / "results.tgz"
    submission(given({}, images, masks=[shard]), out)
    first = out.read_bytes()
    submission(given({}, images, masks=[shard]), out)
    assert out.read_bytes() == first
    with tarfile.open(out) as archive:
        names = archive.getnames()
        assert names == [f"results/VOC2012/Segmentation/comp6_test_cls/{image_id}.png" for image_id in images.ids]
        image = Image.open(archive.extractfile(names[0]))
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        np.testing.assert_array_equal(np.asarray(image), images.mask(images.ids[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks.update(im9=np.full((40, 48), 3, np.uint8)), r"im9\.png: value 3, there are 2 classes"),
        (lambda masks: masks.update(im9=np.zeros((48, 40), np.uint8)), r"im9\.png: 40×48, the image is 48×40"),
        (lambda masks: masks.pop("im9"), "no label map for image 'im9'"),
    ],
)
def test_faulty_submissions_are_not_written(images, tmp_path, change, message):
    shard = mask_shard(tmp_path / "m.zip", images, change)
    with pytest.raises(WsssError, match=message):
        submission(given({}, images, masks=[shard]), tmp_path / "results.tgz")
    assert not (tmp_path / "results.tgz").exists()


def test_check_sees_missing_foreign_and_grey_files_and_a_folder(images, tmp_path):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(tmp_path / "grey.png")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name in ("im8", "im10", "im10", "other"):
            archive.add(tmp_path / "grey.png", f"{FOLDER}/{name}.png")
        archive.add(tmp_path, f"{FOLDER}/im11.png", recursive=False)
    assert check(tmp_path / "a.tgz", images) == [
        f"{FOLDER}/im8.png: PNG of mode L, not a palette PNG",
        *[f"{FOLDER}/im10.png: PNG of mode L, not a palette PNG"] * 2,
        f"{FOLDER}/im11.png: no file",
        f"{FOLDER}/im9.png: missing",
        f"{FOLDER}/im10.png: 2 times",
        f"{FOLDER}/other.png: not an image of the split",
    ]
