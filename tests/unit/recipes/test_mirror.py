import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.recipes.mirror import chosen_rows, compare_mirrored


def test_digits_are_unlike_their_mirror_images():
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., None]
    found = compare_mirrored(images, digits.target)
    assert not found.alike
    assert found.accuracy > 0.9
    assert found.mirrored < 0.6
    assert "mirrored images are unlike the others" in str(found)


def test_a_set_that_holds_both_hands_is_alike():
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., None]
    both = np.concatenate([images, images[:, :, ::-1]])
    found = compare_mirrored(both, np.tile(digits.target, 2))
    assert found.alike
    assert found.accuracy == pytest.approx(found.mirrored, abs=0.02)


def test_where_nothing_is_recognised_nothing_speaks_against_mirroring():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 65536, (200, 20, 30, 3), dtype=np.uint16)
    assert compare_mirrored(images, rng.integers(0, 4, 200)).alike


def test_classes_of_few_images_are_left_out():
    images = np.zeros((13, 8, 8, 1), np.uint8)
    labels = np.array([0] * 6 + [1] * 6 + [2])
    assert compare_mirrored(images, labels).alike
    assert compare_mirrored(images[:7], labels[:7]).alike


def test_few_rows_of_each_class_are_drawn():
    labels = np.repeat([0, 1, 2], [900, 300, 4])
    rows = chosen_rows(labels)
    assert np.bincount(labels[rows]).tolist() == [200, 200, 4]
    assert (np.diff(rows) > 0).all()
    many = np.repeat(np.arange(1000), 30)
    assert np.bincount(many[chosen_rows(many)]).tolist() == [5] * 1000
