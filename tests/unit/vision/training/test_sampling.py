import numpy as np
import pytest

from pipeline.vision.training.sampling import epoch_rows, global_batches

# Classes 0, 1, 3; none of class 2.
LABELS = np.random.default_rng(7).permutation(np.repeat([0, 1, 3], [64, 16, 4]))


def drawn(sampler, seed=0, labels=LABELS):
    return epoch_rows(labels, sampler, np.random.default_rng(seed))


def test_natural_is_a_permutation():
    rows = drawn("natural")
    assert sorted(rows) == list(range(84))
    assert (rows != np.arange(84)).any()


def test_balanced_takes_all_classes_alike():
    assert np.bincount(LABELS[drawn("balanced")]).tolist() == [28, 28, 0, 28]


def test_square_root_goes_by_the_square_root_of_the_rows():
    # Shares 8 : 4 : 2 of 84.
    assert np.bincount(LABELS[drawn("square_root")]).tolist() == [48, 24, 0, 12]


@pytest.mark.parametrize("sampler", ["square_root", "balanced"])
@pytest.mark.parametrize("seed", range(5))
def test_rows_of_a_class_appear_equally_often_give_or_take_one(sampler, seed):
    times = np.bincount(drawn(sampler, seed), minlength=84)
    for label in (0, 1, 3):
        own = times[label == LABELS]
        assert own.max() - own.min() <= 1


def test_leftover_rows_go_to_every_class_in_turn():
    labels = np.repeat([0, 1, 2], [8, 2, 1])  # 11 rows: 4 + 4 + 3 in some order
    extra = np.zeros(3)
    for seed in range(600):
        counts = np.bincount(labels[drawn("balanced", seed, labels)])
        assert sorted(counts) == [3, 4, 4]
        extra += counts - 3
    assert extra == pytest.approx(400, abs=50)  # standard deviation 11.5


def test_largest_remainders_get_the_leftover_rows():
    labels = np.repeat([0, 1, 2], [9, 4, 1])  # shares 3 : 2 : 1 of 14: 7, 4 2/3, 2 1/3
    assert np.bincount(labels[drawn("square_root", 0, labels)]).tolist() == [7, 5, 2]


def test_more_classes_than_fit_still_add_up():
    labels = np.arange(49)
    assert sorted(drawn("balanced", 0, labels)) == list(range(49))


def test_the_remainder_of_a_class_changes_between_epochs():
    first, second = (np.unique(drawn("balanced", seed)) for seed in (0, 1))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("sampler", ["natural", "square_root", "balanced"])
def test_the_same_generator_draws_the_same_rows_in_random_order(sampler):
    rows = drawn(sampler)
    assert rows.dtype == np.int64
    assert len(rows) == len(LABELS)
    assert (rows == drawn(sampler)).all()
    assert (rows != drawn(sampler, 1)).any()
    # Not class after class: both halves hold rows of each.
    for half in (rows[:42], rows[42:]):
        assert set(LABELS[half]) == {0, 1, 3}


@pytest.mark.parametrize(("count", "size"), [(53, 16), (48, 16), (17, 16), (5, 16), (1, 1)])
def test_batches_hold_every_row_once_and_are_near_equal(count, size):
    rows = np.random.default_rng(0).permutation(count)
    batches = global_batches(rows, size)
    assert (np.concatenate(batches) == rows).all()
    assert len(batches) == -(-count // size)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
