import itertools

import numpy as np
import pytest
from scipy.stats import chi2_contingency, kstest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from pipeline.errors import PipelineError
from pipeline.evaluation.drift import two_sample
from pipeline.evaluation.drift._units import choose_sides
from pipeline.evaluation.drift.two_sample import class_shift, classifier_test, kernel_test

TESTS = (classifier_test, kernel_test)


def draw(seed, n, m, d=6, shift=0.0):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(n, d)).astype(np.float32)
    new = rng.normal(size=(m, d)).astype(np.float32)
    new[:, 0] += shift
    return reference, new


def test_the_auc_is_that_of_a_cross_validated_discriminant():
    """scikit-learn's, on its own folds: as close as two splits into folds are."""
    reference, new = draw(0, 400, 150, shift=0.8)
    found = classifier_test(reference, new, seed=0, permutations=19)
    labels = np.repeat([0, 1], [400, 150])
    aucs = [
        roc_auc_score(
            labels,
            cross_val_predict(
                LinearDiscriminantAnalysis(),
                np.concatenate([reference, new]),
                labels,
                cv=StratifiedKFold(5, shuffle=True, random_state=seed),
                method="decision_function",
            ),
        )
        for seed in range(8)
    ]
    assert min(aucs) - 0.01 < found.auc < max(aucs) + 0.01
    # All new images are in the sample, hence their strangeness is their held-out score.
    assert found.p == 1 / 20


def test_strangeness_gives_the_auc_by_hand():
    """With both sides exchanged, each side's scores are known: AUC is the share of right pairs."""
    values = np.arange(40, dtype=np.float32)[:, None]
    reference, new = values[:20], values[15:35]
    found = classifier_test(reference, new, seed=0, permutations=19)
    pairs = [(a > b) + 0.5 * (a == b) for a in new[:, 0] for b in reference[:, 0]]
    # One number per image: whatever fold, the score rises with it; folds move it a little.
    assert found.auc == pytest.approx(np.mean(pairs), abs=0.02)
    assert found.strangeness.argmax() == 19
    assert np.corrcoef(found.strangeness, new[:, 0])[0, 1] > 0.98


def test_mmd_by_a_double_loop():
    reference, new = draw(1, 25, 30, d=3, shift=0.5)
    found = kernel_test(reference, new, seed=0, permutations=9)
    pooled = np.concatenate([reference, new]).astype(np.float64)
    # Principal components of all three numbers are a rotation: distances stay.
    scaled = (pooled - pooled.mean(0)) / pooled.std(0)
    pairs = itertools.combinations(range(55), 2)
    width = np.median([np.linalg.norm(scaled[i] - scaled[j]) for i, j in pairs])

    def kernel(i, j):
        return np.exp(-np.sum((scaled[i] - scaled[j]) ** 2) / (2 * width**2))

    first, second = range(25), range(25, 55)
    within = [
        np.mean([kernel(i, j) for i in side for j in side if i != j]) for side in (first, second)
    ]
    across = np.mean([kernel(i, j) for i in first for j in second])
    assert found.mmd2 == pytest.approx(sum(within) - 2 * across, abs=2e-3 * abs(found.mmd2))


def test_p_of_the_kernel_test_is_that_of_all_permutations(monkeypatch):
    """On 4 + 4 images all 70 permutations are enumerated."""
    monkeypatch.setattr("pipeline.evaluation.drift._units.FEWEST", 2)
    reference, new = draw(2, 4, 4, d=2, shift=1.2)
    pooled = np.concatenate([reference, new])

    def statistic(rows):
        rest = [row for row in range(8) if row not in rows]
        return kernel_test(pooled[rest], pooled[list(rows)], seed=0, permutations=1).mmd2

    observed = statistic((4, 5, 6, 7))
    every = [statistic(rows) for rows in itertools.combinations(range(8), 4)]
    exact = np.mean([value >= observed - 1e-9 for value in every])
    found = kernel_test(reference, new, seed=0, permutations=20_000)
    assert found.mmd2 == pytest.approx(observed)
    assert 0.02 < exact < 0.5
    assert found.p == pytest.approx(exact, abs=0.01)


def test_p_of_the_class_shift_is_that_of_all_permutations(monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.drift._units.FEWEST", 2)
    pooled = np.array([0, 0, 0, 1, 1, 2, 1, 2, 2])
    found = class_shift(pooled[:5], pooled[5:], "abc", permutations=50_000)

    def statistic(rows):
        new = np.bincount(pooled[list(rows)], minlength=3)
        return chi2_contingency(np.stack([np.bincount(pooled) - new, new])).statistic

    observed = statistic((5, 6, 7, 8))
    every = [statistic(rows) for rows in itertools.combinations(range(9), 4)]
    exact = np.mean([value >= observed - 1e-9 for value in every])
    assert found.p == pytest.approx(exact, abs=0.01)


def test_p_of_the_class_shift_approaches_chi_square():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 4, 3000), rng.choice(4, 1000, p=[0.27, 0.26, 0.24, 0.23])
    table = [np.bincount(before, minlength=4), np.bincount(after, minlength=4)]
    found = class_shift(before, after, "abcd")
    assert found.p == pytest.approx(chi2_contingency(table).pvalue, abs=0.01)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("sizes", [(40, 40), (90, 25)])
def test_p_is_uniform_without_drift(test, sizes):
    found = [test(*draw([3, seed], *sizes), seed=seed, permutations=99).p for seed in range(250)]
    # On the grid of hundredths: the continuous distribution lies half a step lower.
    assert kstest(np.array(found) - 0.005, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.085


def test_p_of_the_class_shift_holds_its_level_with_rare_classes():
    rng = np.random.default_rng(4)
    chances = np.array([0.6, 0.2, 0.1, 0.05, 0.03, 0.01, 0.01])
    found = [
        class_shift(
            rng.choice(7, 60, p=chances),
            rng.choice(7, 25, p=chances),
            "abcdefg",
            seed=seed,
            permutations=499,
        ).p
        for seed in range(400)
    ]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08


@pytest.mark.parametrize("test", TESTS)
def test_a_shift_is_found(test):
    found = [
        test(*draw([5, seed], 150, 150, shift=0.7), seed=seed, permutations=99).p
        for seed in range(30)
    ]
    assert np.mean(np.array(found) < 0.05) >= 0.95


def test_the_kernel_sees_spread_that_the_classifier_does_not():
    reference, new = draw(6, 200, 200)
    assert kernel_test(reference, 2 * new, seed=0).p == 0.001
    assert classifier_test(reference, 2 * new, seed=0).p > 0.01


def test_the_strangest_images_are_found_outside_the_sample_too(monkeypatch):
    monkeypatch.setattr(two_sample, "MOST", 100)
    reference, new = draw(7, 300, 300)
    strange = np.random.default_rng(0).choice(300, 60, replace=False)
    new[strange, 1] += 6
    found = classifier_test(reference, new, seed=0)
    assert len(found.strangeness) == 300
    assert len(set(np.argsort(-found.strangeness)[:60]) & set(strange)) >= 55


def test_copies_are_one_unit():
    """New images in 25 bursts of 10: taken one by one, they alarm without drift."""
    alone, together = [], []
    for seed in range(20):
        rng = np.random.default_rng([8, seed])
        reference, films = draw([8, seed], 100, 25)
        new = films.repeat(10, axis=0) + rng.normal(0, 0.05, (250, 6)).astype(np.float32)
        units = np.repeat(np.arange(25), 10)
        for test in TESTS:
            how = {"seed": seed, "permutations": 99}
            alone.append(test(reference, new, **how).p)
            together.append(test(reference, new, **how, units_new=units).p)
    assert np.mean(np.array(alone) < 0.05) > 0.5
    assert np.mean(np.array(together) < 0.05) < 0.12


def test_one_image_of_each_unit_is_chosen_and_a_shared_unit_counts_once():
    units = np.array([7, 7, 3, 9]), np.array([3, 3, 5])
    sides_of_3 = set()
    for seed in range(30):
        sides = choose_sides((4, 3), units, np.random.default_rng(seed))
        kept = [*units[0][sides.reference], *units[1][sides.new]]
        assert sorted(kept) == [3, 5, 7, 9]
        sides_of_3.add(3 in units[1][sides.new])
    assert sides_of_3 == {False, True}
    # Images without a unit are units of their own.
    sides = choose_sides((4, 2), (units[0], None), np.random.default_rng(0), most=2)
    assert (len(sides.reference), sides.new.tolist()) == (2, [0, 1])


def test_images_of_a_sampled_unit_are_scored_where_none_of_them_was_learned_from():
    """A copy of an image in the sample is as strange as the image itself."""
    reference, new = draw(9, 60, 60)
    units = np.tile(np.arange(60), 2)
    found = classifier_test(reference, np.concatenate([new, new]), seed=0, units_new=units)
    assert np.allclose(found.strangeness[:60], found.strangeness[60:])


@pytest.mark.parametrize(("n", "m"), [(9, 300), (300, 9), (0, 0), (300, 0)])
def test_too_few_images_give_no_p_value(n, m):
    reference, new = draw(10, n, m)
    found = classifier_test(reference, new, seed=0)
    assert (found.auc, found.p) == (None, None)
    assert found.strangeness.tolist() == [0.0] * m
    assert kernel_test(reference, new, seed=0).p is None
    shift = class_shift(np.zeros(n, int), np.ones(m, int), "ab")
    assert shift.p is None
    assert {(one.name, one.reference, one.new) for one in shift.changes} == {
        ("a", n, 0),
        ("b", 0, m),
    }


def test_enough_images_of_too_few_units_give_no_p_value():
    reference, new = draw(11, 100, 100)
    units = np.arange(100) // 12
    assert classifier_test(reference, new, seed=0, units_new=units).p is None
    assert kernel_test(reference, new, seed=0, units_reference=units).p is None
    answers = np.zeros(100, int)
    assert class_shift(answers, answers, "ab", units_new=units).p is None


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("all the same", np.full((60, 8), 0.1, np.float32)),
        ("two images, copied", np.eye(8, dtype=np.float32)[np.arange(60) % 2]),
        ("more numbers than images", np.random.default_rng(0).normal(size=(60, 900))),
        ("dead units", np.pad(np.random.default_rng(0).normal(size=(60, 1)), ((0, 0), (0, 9)))),
        ("huge and tiny", np.random.default_rng(0).normal(size=(60, 2)) * [1e30, 1e-30]),
        ("one number", np.arange(60.0)[:, None] % 7),
    ],
)
def test_odd_embeddings_give_a_p_value(test, name, values):
    values = values.astype(np.float32)
    found = test(values[:30], values[30:], seed=0, permutations=99)
    assert 0.01 <= found.p <= 1
    statistic = found.auc if test is classifier_test else found.mmd2
    assert np.isfinite(statistic)
    if name == "all the same":
        assert found.p == 1
        assert statistic == pytest.approx(0.5 if test is classifier_test else 0, abs=1e-12)


def test_the_same_seed_gives_the_same_result():
    reference, new = draw(12, 80, 50)
    for test in TESTS:
        first, second = (test(reference, new, seed=5, permutations=49) for _ in range(2))
        assert first.p == second.p
    assert np.array_equal(
        classifier_test(reference, new, seed=5).strangeness,
        classifier_test(reference, new, seed=5).strangeness,
    )


@pytest.mark.parametrize("test", TESTS)
def test_embeddings_that_cannot_be_compared_are_refused(test):
    reference, new = draw(13, 30, 30)
    with pytest.raises(PipelineError, match="found 6 numbers for each reference image and 5"):
        test(reference, new[:, :5], seed=0)
    new[3, 2] = np.nan
    with pytest.raises(PipelineError, match="found 1 of 30 new images"):
        test(reference, new, seed=0)


def test_the_classes_that_changed_most_come_first():
    before = np.repeat(np.arange(4), [100, 100, 50, 0])
    after = np.repeat(np.arange(4), [20, 21, 4, 5])
    found = class_shift(before, after, ["ant", "bee", "cat", "dog"])
    assert found.changes[0].name == "dog"
    assert (found.changes[0].reference, found.changes[0].new) == (0, 5)
    assert found.changes[1].name == "cat"
    assert (found.changes[1].reference_share, found.changes[1].new_share) == (0.2, 0.08)
    assert found.p < 0.01
