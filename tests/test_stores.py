"""Result files: round trip, damage, duplicates, and reading from forked processes."""

from __future__ import annotations

import io
import multiprocessing
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from wsss.data.drawing import BADGES
from wsss.data.ids import read_list
from wsss.data.shapes import scene
from wsss.data.voc import LISTS, voc_folder
from wsss.errors import WsssError
from wsss.files import sha256
from wsss.measure.counts import Sweep, threshold_grid
from wsss.measure.metrics import miou_of_occurring
from wsss.stores import IGNORE, Masks, Scores, png_bytes, voc_palette, write_masks, write_scores


@pytest.fixture
def scores(tmp_path):
    """Two shards of made-up scores, and what was put into them."""
    rng = np.random.default_rng(0)
    content = {f"id.{i}": rng.random((2, 20 + i, 30)).astype(np.float32) for i in range(40)}
    paths = [tmp_path / f"seed-{n}-of-2.npz" for n in range(2)]
    for n, path in enumerate(paths):
        with write_scores(path) as shard:
            for image_id in list(content)[n::2]:
                shard.put(image_id, [1, 4], content[image_id])
    return paths, content


def test_scores_come_back_within_half_precision(scores):
    paths, content = scores
    store = Scores(paths)
    assert store.ids == sorted(content)
    for image_id, planes in content.items():
        classes, found = store.get(image_id)
        assert classes.tolist() == [1, 4]
        assert found.dtype == np.float32
        assert np.abs(found - planes).max() <= 2**-11


def real_masks() -> Iterator[np.ndarray]:
    """Masks of the VOC folder that ``WSSS_VOC`` names, if it is set; else of the drawn data set."""
    if folder := os.environ.get("WSSS_VOC"):
        root = voc_folder(folder)
        for image_id in read_list(root / LISTS / "train.txt")[:200]:
            yield np.asarray(Image.open(root / "SegmentationClass" / f"{image_id}.png"))
    else:
        masks = (scene(112, list(BADGES), np.random.default_rng(seed))[1] for seed in range(70))
        yield from (mask for mask in masks if mask.any())


def rough_scores(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Label values ``K`` and float32 maps ``K×H×W`` that say roughly where the classes of a mask are, as a CAM does."""
    classes, planes = np.setdiff1d(mask, (0, IGNORE)), []
    for value in classes:
        smooth = gaussian_filter((mask == value).astype(np.float32), max(mask.shape) / 16)[4::8, 4::8]
        noisy = np.maximum(smooth + gaussian_filter(rng.normal(size=smooth.shape), 2), 0).astype(np.float32)
        planes.append(np.asarray(Image.fromarray(noisy).resize(mask.shape[::-1], Image.Resampling.BILINEAR)))
    return classes, np.stack([plane / plane.max() for plane in planes])


def test_half_precision_moves_the_miou_by_less_than_a_hundredth_of_a_point(tmp_path):
    thresholds, rng = threshold_grid(0.0, 0.6, 0.01), np.random.default_rng(0)
    full, half, masks = Sweep(thresholds, 21), Sweep(thresholds, 21), {}
    with write_scores(tmp_path / "seed.npz") as store:
        for n, mask in enumerate(real_masks()):
            classes, scores = rough_scores(mask, rng)
            full.add(classes, scores, mask)
            store.put(str(n), classes, scores)
            masks[str(n)] = mask
    stored = Scores([tmp_path / "seed.npz"])
    for image_id, mask in masks.items():
        half.add(*stored.get(image_id), mask)
    exact, found = (miou_of_occurring(sweep.counts()) for sweep in (full, half))
    assert 0.3 < exact.max() < 0.95
    assert abs(found.max() - exact.max()) < 1e-4  # the value of every table
    assert abs(found - exact)[thresholds == 0.2] < 1e-4  # the one at a fixed threshold
    # elsewhere the mIoU may depend on the threshold so much that rounding, which shifts it by up to 0.00025, is seen
    assert 0 < abs(found - exact).max() < 5e-4


def test_numpy_reads_a_score_shard_without_this_project(scores):
    paths, content = scores
    with np.load(paths[0], allow_pickle=False) as archive:
        assert archive["id.0/scores"].shape == content["id.0"].shape


def test_masks_come_back_exactly(tmp_path):
    labels = np.array([[0, 1, 20], [IGNORE, 2, 0]], np.uint8)
    with write_masks(tmp_path / "m.zip") as shard:
        shard.put("a", labels)
    assert np.array_equal(Masks([tmp_path / "m.zip"]).get("a"), labels)


def test_equal_content_is_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        with write_scores(tmp_path / name) as shard:
            shard.put("x", [1], np.ones((1, 4, 4)))
    assert sha256(tmp_path / "a.npz") == sha256(tmp_path / "b.npz")


def test_a_failed_job_leaves_no_file(tmp_path):
    def fail():
        with write_scores(tmp_path / "a.npz") as shard:
            shard.put("x", [1], np.ones((1, 4, 4)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named(scores):
    path = scores[0][0]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WsssError, match=rf"{path.name}: cannot be read"):
        Scores([path])


def damaged(path: Path, image_id: str) -> Path:
    """The shard with another byte in the middle of what it holds of one image; it opens as before."""
    with zipfile.ZipFile(path) as archive:
        member = next(
            info for info in archive.infolist() if info.filename.startswith(image_id) and info.file_size > 200
        )
    content = bytearray(path.read_bytes())
    content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def test_a_damaged_image_in_a_shard_is_named(scores, tmp_path):
    path, content = damaged(scores[0][0], "id.6/"), scores[1]
    store = Scores(scores[0])
    with pytest.raises(WsssError, match=rf"{path.name}: what it holds of image 'id\.6' cannot be read \(.*delete it"):
        store.get("id.6")
    assert store.get("id.8")[1].shape == content["id.8"].shape
    with write_masks(tmp_path / "m.zip") as shard:
        shard.put("a", np.arange(1024, dtype=np.uint8).reshape(32, 32))
    with pytest.raises(WsssError, match=r"m\.zip: what it holds of image 'a' cannot be read"):
        Masks([damaged(tmp_path / "m.zip", "a")]).get("a")


def stored(array: np.ndarray) -> bytes:
    """The bytes of an ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


PLANE = np.ones((1, 4, 5), np.float16)
FAULTY_SCORES = {
    "objects": ([1], PLANE.astype(object)),
    "a cut array": ([1], stored(PLANE)[:140]),
    "an empty array": ([1], b""),
    "no number": ([1], np.full_like(PLANE, np.nan)),
    "infinite": ([1], np.full_like(PLANE, np.inf)),
    "fewer planes": ([1, 2], PLANE),
    "more planes": ([1], np.concatenate([PLANE, PLANE])),
    "a plane alone": ([1], PLANE[0]),
    "a class alone": (1, PLANE),
    "a negative class": ([-1], PLANE),
    "names of classes": (["cat"], PLANE),
    "fractions of classes": ([1.0], PLANE),
    "complex numbers": ([1], PLANE * 1j),
    "words": ([1], PLANE.astype(str)),
    "fields": ([1], np.zeros((1, 4, 5), [("a", "f4")])),
}


@pytest.mark.parametrize("name", FAULTY_SCORES)
def test_scores_of_another_program_that_are_none_are_named(tmp_path, one_line, name):
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        for key, value in zip(("classes", "scores"), FAULTY_SCORES[name], strict=True):
            archive.writestr(f"a/{key}.npy", value if isinstance(value, bytes) else stored(np.array(value)))
    one_line(lambda: Scores([tmp_path / "s.npz"]).get("a"), "s.npz: what it holds of image 'a' cannot be", "delete it")


@pytest.mark.parametrize("length", [0, 8, 60, 90])
def test_a_mask_that_is_cut_is_named(tmp_path, one_line, length):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("a.png", png_bytes(np.zeros((4, 5), np.uint8))[:length])
    one_line(lambda: Masks([tmp_path / "m.zip"]).get("a"), "m.zip: what it holds of image 'a' cannot be", "delete it")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_not_stored(tmp_path, one_line, value):
    def store() -> None:
        with write_scores(tmp_path / "s.npz") as shard:
            shard.put("a", [1], np.full((1, 4, 5), value, np.float32))

    one_line(store, "scores of image 'a' are not all finite numbers", "smaller learning rate")
    assert not list(tmp_path.iterdir())


def test_an_image_in_two_shards_is_named(scores, tmp_path):
    with write_scores(tmp_path / "again.npz") as shard:
        shard.put("id.0", [1], np.ones((1, 4, 4)))
    with pytest.raises(WsssError, match=r"again\.npz: image 'id.0' is in .*seed-0-of-2\.npz, too; delete both"):
        Scores([*scores[0], tmp_path / "again.npz"])


def test_an_image_without_result_is_named(scores):
    with pytest.raises(WsssError, match="no result for image 'nobody'"):
        Scores(scores[0]).get("nobody")


def _sum_all(store: Scores) -> float:
    return float(sum(store.get(image_id)[1].sum() for _ in range(5) for image_id in store.ids))


def test_forked_processes_read_the_same_store(scores):
    store = Scores(scores[0])
    expected = _sum_all(store)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_sum_all, [store] * 8) == [expected] * 8


def test_the_voc_palette():
    assert voc_palette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert voc_palette()[-3:] == [224, 224, 192]
