import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import gmean

from pipeline.evaluation.metrics.posteriors import mean_posteriors, temper

RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), shape[:-1])


def test_the_arithmetic_mean_by_hand():
    found = mean_posteriors([np.array([[0.2, 0.8]]), np.array([[0.6, 0.4]])], "arithmetic")
    assert found == pytest.approx(np.array([[0.4, 0.6]]))


def test_the_geometric_mean_by_hand():
    # sqrt(0.2 x 0.45) = 0.3, sqrt(0.8 x 0.05) = 0.2, sqrt(0 x 0.5) = 0: of 0.5 in all.
    views = [np.array([[0.2, 0.8, 0.0]]), np.array([[0.45, 0.05, 0.5]])]
    found = mean_posteriors(views, "geometric")
    assert found == pytest.approx(np.array([[0.6, 0.4, 0.0]]), abs=1e-15)


def test_the_geometric_mean_is_that_of_scipy_divided_by_its_sum():
    views = drawn(5, 7, 4)
    expected = gmean(views, axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean_posteriors(views, "geometric"), expected, rtol=1e-12)


def test_the_geometric_mean_of_posteriors_is_the_softmax_of_mean_logits():
    logits = RNG.normal(0, 3, (3, 6, 5))
    found = mean_posteriors(softmax(logits, axis=-1), "geometric")
    np.testing.assert_allclose(found, softmax(logits.mean(axis=0), axis=-1), rtol=1e-12)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_certain_views_that_differ_leave_their_classes_alike(mean):
    views = np.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    found = mean_posteriors(views, mean)
    assert found == pytest.approx(np.array([[0.5, 0.5, 0.0]]), abs=1e-100)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_rows_sum_to_one_and_one_view_stays_as_it_is(mean):
    views = drawn(4, 9, 3)
    assert mean_posteriors(views, mean).sum(axis=1) == pytest.approx(np.ones(9))
    assert (mean_posteriors(views[:1], mean) == views[0]).all()
    assert mean_posteriors(list(views), mean).tolist() == mean_posteriors(views, mean).tolist()


def test_tempered_posteriors_are_those_of_divided_logits():
    logits = RNG.normal(0, 3, (8, 4))
    found = temper(softmax(logits, axis=1), 2.5)
    np.testing.assert_allclose(found, np.exp(log_softmax(logits / 2.5, axis=1)), rtol=1e-12)


def test_tempering_by_hand_and_with_a_zero():
    # The square roots of 0.64, 0.36 and almost 0.
    assert temper(np.array([[0.64, 0.36, 0.0]]), 2.0) == pytest.approx(
        np.array([[0.8, 0.6, 0.0]]) / 1.4, abs=1e-7
    )
    assert temper(np.array([[0.64, 0.36]]), 1.0) == pytest.approx(np.array([[0.64, 0.36]]))
