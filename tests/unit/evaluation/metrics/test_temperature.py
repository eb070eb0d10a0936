import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.scores import answers, expected_calibration_error
from pipeline.evaluation.metrics.temperature import class_weights, fit_temperature


def world(rng, count, sharpness, classes=4):
    """Draw labels from the posteriors of some logits; the model's are those times a factor."""
    logits = 2 * rng.normal(size=(count, classes))
    chances = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((count, 1)) > chances[:, :-1]).sum(axis=1)
    return labels, softmax(sharpness * logits, axis=1)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_takes_back_what_made_the_model_too_sure(sharpness):
    labels, probabilities = world(np.random.default_rng(0), 4000, sharpness)
    found = fit_temperature(labels, probabilities)
    assert found.value == pytest.approx(sharpness, rel=0.1)
    assert found.low < found.value < found.high
    assert found.high / found.low < 1.3


def test_no_other_temperature_has_a_lower_loss():
    labels, probabilities = world(np.random.default_rng(1), 200, 2.0)
    best = fit_temperature(labels, probabilities).value
    losses = [
        answers(labels, temper(probabilities, t)).loss.mean()
        for t in (best / 1.02, best, best * 1.02)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_scaling_posteriors_is_scaling_logits():
    logits = np.random.default_rng(2).normal(size=(5, 3))
    np.testing.assert_allclose(
        temper(softmax(logits, axis=1), 2.5), softmax(logits / 2.5, axis=1), rtol=1e-9
    )


def test_scaling_keeps_the_answers_and_sums_to_1():
    _, probabilities = world(np.random.default_rng(3), 50, 3.0)
    scaled = temper(probabilities, 4.0)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))


def test_posteriors_of_0_and_1_are_taken():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    said = np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]
    found = fit_temperature(labels, said)
    # 9 of 10 are right: the loss is lowest where it says 90 %.
    assert temper(said, found.value)[0, 0] == pytest.approx(0.9, abs=0.01)


def test_a_model_that_says_nothing_has_any_temperature():
    found = fit_temperature(np.array([0, 1]), np.full((2, 2), 0.5))
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(50))


def test_without_mistakes_the_model_is_made_no_surer():
    found = fit_temperature(np.array([0, 1]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert found.value == pytest.approx(1.0, abs=0.001)
    assert found.low == 0.1


def test_intervals_hold_the_temperature_in_about_95_of_100():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        found = fit_temperature(*world(rng, 100, 2.0))
        held += found.low <= 2.0 <= found.high
    assert 0.9 < held / 300 < 0.99


def test_against_a_grid():
    labels, probabilities = world(np.random.default_rng(5), 300, 1.7)
    grid = np.geomspace(0.1, 10, 2001)
    scores, rows = np.log(probabilities), np.arange(300)
    losses = [-log_softmax(scores / t, axis=1)[rows, labels].mean() for t in grid]
    assert fit_temperature(labels, probabilities).value == pytest.approx(
        grid[np.argmin(losses)], rel=0.005
    )


def long_tail(rng, sizes):
    """Draw images of a model that is right of large classes, and unsure of them; too sure else."""
    labels = np.repeat(np.arange(10), sizes)
    logits = rng.normal(size=(len(labels), 10))
    logits[np.arange(len(labels)), labels] += np.linspace(5.0, 1.0, 10)[labels]
    return labels, softmax(2.2 * logits, axis=1)


TAIL = np.geomspace(400, 4, 10).round().astype(int)


def test_a_temperature_fitted_on_a_long_tail_hurts_where_classes_are_alike():
    """That of all classes alike does not: it is fitted for what the model will meet."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        validation, (labels, said) = long_tail(rng, TAIL), long_tail(rng, [300] * 10)
        natural, balanced = (
            temper(said, fit_temperature(*validation, prior).value)
            for prior in ("natural", "balanced")
        )
        given = [answers(labels, one) for one in (said, natural, balanced)]
        found.append([(expected_calibration_error(one, 15), one.loss.mean()) for one in given])
    (ece, nll), (ece_natural, nll_natural), (ece_balanced, nll_balanced) = np.mean(found, axis=0)
    assert ece_natural > ece + 0.03
    assert nll_natural > nll + 0.03
    assert ece_balanced < ece + 0.01
    assert nll_balanced < nll


def test_weights_give_each_class_its_share():
    labels = np.array([0, 0, 0, 2])
    assert class_weights(labels, "natural").tolist() == [1, 1, 1, 1]
    assert class_weights(labels, "balanced") == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_weighing_is_counting_more_often():
    """Three ants and one bee, balanced: as if each bee were there three times."""
    labels, probabilities = world(np.random.default_rng(6), 400, 2.0, classes=2)
    rows = np.concatenate([np.flatnonzero(labels == 0)[:90], np.flatnonzero(labels == 1)[:30]])
    often = np.concatenate([rows, rows[90:], rows[90:]])
    found = fit_temperature(labels[rows], probabilities[rows], "balanced")
    assert found.value == pytest.approx(fit_temperature(labels[often], probabilities[often]).value)
    # It knows that no further image was seen.
    assert found.high / found.low > 1.0


def test_balanced_intervals_hold_the_temperature_in_about_95_of_100():
    rng = np.random.default_rng(7)
    truth = fit_temperature(*long_tail(rng, [20_000] * 10)).value
    held = 0
    for _ in range(200):
        found = fit_temperature(*long_tail(rng, [60] * 5 + [20] * 5), "balanced")
        held += found.low <= truth <= found.high
    assert 0.9 < held / 200 <= 1.0


def test_the_expected_change_is_that_of_leaving_one_out():
    """Stone 1977: what the fit flatters itself by is what leaving each image out takes off."""
    labels, probabilities = world(np.random.default_rng(8), 300, 1.6)
    rows = np.arange(300)
    changes = []
    for out in rows:
        at = fit_temperature(np.delete(labels, out), np.delete(probabilities, out, axis=0)).value
        before, after = (
            -np.log(given[0, labels[out]])
            for given in (probabilities[[out]], temper(probabilities[[out]], at))
        )
        changes.append(after - before)
    found = fit_temperature(labels, probabilities)
    inside = answers(labels, temper(probabilities, found.value)).loss.mean()
    flattered = inside - answers(labels, probabilities).loss.mean()
    assert found.change > flattered
    assert found.change == pytest.approx(np.mean(changes), abs=0.1 * (found.change - flattered))


def test_a_temperature_is_expected_to_help_where_it_does():
    """A model that is too sure, and a calibrated one, of which 60 images say little."""
    rng = np.random.default_rng(0)
    for sharpness, least, most in ((3.0, 95, 100), (1.0, 0, 40)):
        helps = [fit_temperature(*world(rng, 60, sharpness)).change < 0 for _ in range(100)]
        assert least <= sum(helps) <= most


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1], [[0.4, 0.6]]), ([0, 1], [[0.9, 0.1], [0.1, 0.9]]), ([0, 1], [[0.5, 0.5]] * 2)],
)
def test_images_that_say_nothing_promise_nothing(labels, said):
    assert fit_temperature(np.array(labels), np.array(said)).change >= 0


def test_no_validation_images():
    with pytest.raises(PipelineError, match=r"^expected validation images .* raise split\.val"):
        fit_temperature(np.empty(0, int), np.empty((0, 2)))


def test_probabilities_that_are_no_numbers():
    with pytest.raises(PipelineError, match=r"NaN or infinity for 1 of 2 validation images"):
        fit_temperature(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, np.nan]]))
