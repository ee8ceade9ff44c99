"""Result files: round trip, damage, duplicates, and reading from forked processes."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from wsss.errors import WsssError
from wsss.files import sha256
from wsss.stores import IGNORE, Masks, Scores, voc_palette, write_masks, write_scores


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


def test_an_image_in_two_shards_is_named(scores, tmp_path):
    with write_scores(tmp_path / "again.npz") as shard:
        shard.put("id.0", [1], np.ones((1, 4, 4)))
    with pytest.raises(WsssError, match=r"again.npz: image 'id.0' is in another shard"):
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
