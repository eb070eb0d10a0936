import numpy as np
import pytest
import torch

from pipeline.vision.training.mixing import (
    draw_any,
    draw_boxes,
    draw_other_classes,
    draw_weights,
    mix,
    paste,
)


def test_mix_two_by_two_by_hand():
    images = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    others = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    mixed = mix(images, others, torch.tensor([0.75, 0.2]))
    by_hand = torch.tensor([[[0.75, 0.25], [0.25, 0.75]], [[0.9, 0.1], [0.1, 0.9]]])
    assert torch.allclose(mixed, by_hand)


def test_mixed_one_hot_targets_hold_both_weights():
    own, other = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.allclose(mix(own, other, torch.tensor([0.7])), torch.tensor([[0.7, 0.0, 0.3]]))


def test_partners_of_any_class_are_a_permutation():
    labels = np.array([0] * 60 + [1] * 4)
    partners = draw_any(labels, np.random.default_rng(0))
    assert sorted(partners) == list(range(64))
    assert (labels[partners] == labels).sum() > 40  # 56.5 expected


def test_partners_are_of_another_class():
    labels = np.array([0] * 60 + [1] * 3 + [2])
    partners = draw_other_classes(labels, np.random.default_rng(0))
    assert (labels[partners] != labels).all()


def test_partners_of_a_class_come_from_all_others():
    labels = np.repeat([0, 1, 2], 200)
    partners = draw_other_classes(labels, np.random.default_rng(1))
    counts = np.bincount(labels[partners[labels == 0]], minlength=3)
    assert counts[0] == 0
    assert 60 < counts[1] < 140  # 100 expected of 200


def test_a_batch_of_one_class_is_left_as_it_is():
    labels = np.zeros(8, int)
    assert (draw_other_classes(labels, np.random.default_rng(0)) == np.arange(8)).all()


def test_weights_follow_the_beta_distribution():
    weights = draw_weights(20_000, 0.4, np.random.default_rng(0)).astype(float)
    assert abs(weights.mean() - 0.5) < 0.01
    # Variance of Beta(a, a): 1 / (4 (2a + 1)).
    assert abs(weights.var() - 1 / (4 * 1.8)) < 0.003


def test_paste_by_hand():
    own, other = torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4)
    boxes = torch.tensor([[0, 1, 2, 4], [1, 0, 3, 1]])
    pasted, shares = paste(own, other, boxes)
    assert pasted[:, 0].tolist() == [
        [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]],
    ]
    assert shares.tolist() == pytest.approx([0.5, 10 / 12])


def test_an_empty_box_and_one_of_the_whole_image():
    own, other = torch.rand(2, 3, 3, 4), torch.rand(2, 3, 3, 4)
    pasted, shares = paste(own, other, torch.tensor([[2, 2, 2, 3], [0, 0, 3, 4]]))
    assert torch.equal(pasted[0], own[0])
    assert torch.equal(pasted[1], other[1])
    assert shares.tolist() == [1.0, 0.0]


def test_paste_takes_every_channel_of_the_partner_and_the_share_is_exact():
    own, other = torch.zeros(50, 3, 7, 5), torch.rand(50, 3, 7, 5) + 1
    boxes = draw_boxes(50, 1.0, (7, 5), np.random.default_rng(0))
    pasted, shares = paste(own, other, torch.from_numpy(boxes))
    taken = pasted > 0
    assert torch.equal(pasted[taken], other[taken])
    assert (taken == taken[:, :1]).all()
    assert shares.dtype == torch.float32
    assert torch.allclose(shares, 1 - taken[:, 0].float().mean(dim=(1, 2)))


def test_boxes_lie_in_the_image():
    top, left, bottom, right = draw_boxes(2000, 0.5, (9, 30), np.random.default_rng(1)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top <= bottom).all()
    assert (left <= right).all()
    assert bottom.max() == 9
    assert right.max() == 30


def test_boxes_have_the_drawn_area_where_nothing_is_cut_off():
    # At so large an alpha lambda is 1/2: sides of sqrt(1/2).
    top, left, bottom, right = draw_boxes(200, 1e12, (100, 40), np.random.default_rng(0)).T
    whole = (top > 0) & (left > 0) & (bottom < 100) & (right < 40)
    assert whole.sum() > 10
    assert set((bottom - top)[whole]) == {71}
    assert set((right - left)[whole]) == {28}


def test_boxes_are_centred_evenly_and_follow_the_beta_distribution():
    size, count = 1000, 20_000
    boxes = draw_boxes(count, 1.0, (size, size), np.random.default_rng(2))
    # With u = sqrt(1 - lambda) and lambda uniform, a side about an even centre covers on average
    # u - u^2 / 4 of the length (each end loses u^2 / 8); E u = 2/3, E u^2 = 1/2.
    sides = (boxes[:, 2:] - boxes[:, :2]) / size
    assert sides.mean(axis=0) == pytest.approx(2 / 3 - 1 / 8, abs=0.01)
    # Both ends alike.
    assert (boxes[:, :2] + boxes[:, 2:]).mean() / (2 * size) == pytest.approx(0.5, abs=0.01)


def test_boxes_repeat():
    one, two = (draw_boxes(9, 0.3, (8, 8), np.random.default_rng(5)) for _ in range(2))
    assert (one == two).all()
