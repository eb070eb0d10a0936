import numpy as np
import torch

from pipeline.vision.training.mixing import draw_partners, draw_weights, mix


def test_mix_two_by_two_by_hand():
    images = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    others = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    mixed = mix(images, others, torch.tensor([0.75, 0.2]))
    by_hand = torch.tensor([[[0.75, 0.25], [0.25, 0.75]], [[0.9, 0.1], [0.1, 0.9]]])
    assert torch.allclose(mixed, by_hand)


def test_mixed_one_hot_targets_hold_both_weights():
    own, other = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.allclose(mix(own, other, torch.tensor([0.7])), torch.tensor([[0.7, 0.0, 0.3]]))


def test_partners_are_of_another_class():
    labels = np.array([0] * 60 + [1] * 3 + [2])
    partners = draw_partners(labels, np.random.default_rng(0))
    assert (labels[partners] != labels).all()


def test_partners_of_a_class_come_from_all_others():
    labels = np.repeat([0, 1, 2], 200)
    partners = draw_partners(labels, np.random.default_rng(1))
    counts = np.bincount(labels[partners[labels == 0]], minlength=3)
    assert counts[0] == 0
    assert 60 < counts[1] < 140  # 100 expected of 200


def test_a_batch_of_one_class_is_left_as_it_is():
    labels = np.zeros(8, int)
    assert (draw_partners(labels, np.random.default_rng(0)) == np.arange(8)).all()


def test_weights_follow_the_beta_distribution():
    weights = draw_weights(20_000, 0.4, np.random.default_rng(0)).astype(float)
    assert abs(weights.mean() - 0.5) < 0.01
    # Variance of Beta(a, a): 1 / (4 (2a + 1)).
    assert abs(weights.var() - 1 / (4 * 1.8)) < 0.003
