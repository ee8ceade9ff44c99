"""Instance labels: groups of cells, detections, their files, and average precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import relations

from wsss.errors import WsssError
from wsss.measure.instances import average_precision, true_instances
from wsss.plan.resolve import method_settings
from wsss.refine import irn_instances
from wsss.stores import IGNORE, Instances, write_instances


def settings() -> dict:
    return method_settings("cam")["irn_instances"]


def two_whirls() -> tuple[torch.Tensor, torch.Tensor]:
    """Displacements to the centres of two discs of one class, and its class map."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(40.0), indexing="ij")
    centre = torch.where(x < 20, 9.0, 30.0)
    dp = torch.stack([10 - y, centre - x])
    cam = ((dp.norm(dim=0) < 8).float() + 0.01)[None]
    return dp, cam


def test_two_objects_of_one_class_are_two_instances():
    dp, cam = two_whirls()
    [groups] = irn_instances.clusters(dp[None], 300, 2.5)
    assert len(groups) == 2
    assert groups[0][:, :20].all()
    assert groups[1][:, 20:].all()
    edge = torch.zeros(20, 40)
    edge[:, 19:21] = 1
    [found] = irn_instances.detect([relations(cam, edge, [5], (80, 160), dp)], settings())
    assert found.classes.tolist() == [5, 5]
    assert found.masks.shape == (2, 80, 160)
    assert not (found.masks[0] & found.masks[1]).any()
    assert found.masks[0][:, :72].mean() > 0.9
    truth = (np.array([5, 5]), np.stack([found.masks[1], found.masks[0]]))
    assert average_precision([(found, truth)])["map"] == 1


def test_images_together_have_the_instances_of_each_alone():
    """They differ in classes and groups, so the planes that walk for them differ in number, too."""
    dp, cam = two_whirls()
    edge = torch.zeros(20, 40)
    edge[:, 19:21] = 1
    still = relations(
        torch.rand(2, 20, 40, generator=torch.Generator().manual_seed(0)), edge.T.reshape(20, 40), [1, 3], (79, 158)
    )
    images = [relations(cam, edge, [5], (80, 160), dp), relations(cam[:0], edge, [], (80, 160), dp), still]
    together = irn_instances.detect(images, settings())
    for image, found in zip(images, together, strict=True):
        [alone] = irn_instances.detect([image], settings())
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        np.testing.assert_array_equal(found.classes, alone.classes)
        np.testing.assert_array_equal(found.masks, alone.masks)


def test_cells_outside_every_patch_form_a_group():
    dp = torch.zeros(2, 6, 8)
    dp[1, :, 5:] = 9  # pushed to the right border, where displacements are long
    [groups] = irn_instances.clusters(dp[None], 300, 2.5)
    assert groups.sum(0).eq(1).all()
    assert groups[0].nonzero()[:, 1].unique().tolist() == [5, 6, 7]


def test_image_without_instances_round_trips(tmp_path):
    [empty] = irn_instances.detect([relations(torch.zeros(0, 5, 6), torch.zeros(5, 6), [], (18, 23))], settings())
    dp, cam = two_whirls()
    [full] = irn_instances.detect([relations(cam, torch.zeros(20, 40), [5], (77, 159), dp)], settings())
    with write_instances(tmp_path / "a.npz") as store:
        store.put("x/empty", empty)
        store.put("full", full)
    read = Instances([tmp_path / "a.npz"])
    assert read.ids == ["full", "x/empty"]
    for name, written in (("x/empty", empty), ("full", full)):
        for ours, theirs in zip(read.get(name), written, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def boxes(*columns: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(columns), 4, 40), bool)
    for mask, (left, right) in zip(masks, columns, strict=True):
        mask[:, left:right] = True
    return masks


def test_average_precision_by_hand():
    """Class 1: hit, miss, hit, duplicate over three true instances; class 2 is never found; class 3 is never true."""
    found = (
        np.array([0.9, 0.8, 0.7, 0.6, 0.95]),
        np.array([1, 1, 1, 1, 3]),
        boxes((0, 10), (30, 40), (10, 20), (0, 9), (0, 40)),
    )
    truth = (np.array([1, 1, 1, 2]), boxes((0, 10), (10, 19), (20, 24), (0, 40)))
    result = average_precision([(found, truth)])
    # precision at the two hits: 1 and 2/3; the third instance is never reached
    assert result["ap"] == {1: pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3), 2: 0.0}
    assert result["map"] == pytest.approx(np.mean(list(result["ap"].values())))
    nothing = (np.zeros(0), np.zeros(0, int), boxes())
    assert np.isnan(average_precision([(nothing, nothing[1:])])["map"])


def test_scores_rank_over_images():
    """A confident miss in one image costs precision in another."""
    truth = (np.array([1]), boxes((0, 10)))
    nothing = (np.zeros(0, int), boxes())
    hit, miss = (np.array([0.5]), np.array([1]), boxes((0, 10))), (np.array([0.9]), np.array([1]), boxes((0, 10)))
    assert average_precision([(hit, truth), (miss, nothing)])["map"] == pytest.approx(0.5)


def test_true_instances_have_the_class_most_of_their_pixels_have():
    objects = np.array([[1, 1, IGNORE, 3], [1, 0, 3, 3]], np.uint8)
    classes = np.array([[5, 5, IGNORE, 2], [IGNORE, 0, 2, 2]], np.uint8)
    labels, masks = true_instances("a", objects, classes)
    assert labels.tolist() == [5, 2]
    np.testing.assert_array_equal(masks, np.stack([objects == 1, objects == 3]))
    nothing, masks = true_instances("a", np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8))
    assert (nothing.shape, masks.shape) == ((0,), (0, 2, 3))
    with pytest.raises(WsssError, match="image 'a': object 3 lies on no class"):
        true_instances("a", objects, np.where(classes == 2, 0, classes))
    with pytest.raises(WsssError, match=r"image 'a'.*differ in size"):
        true_instances("a", objects, classes[:, :3])
