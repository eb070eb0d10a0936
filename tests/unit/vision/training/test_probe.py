import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from pipeline.vision.training.losses import balanced_softmax, cross_entropy, log_priors
from pipeline.vision.training.probe import _PENALTY, fit_probe, penalty_at, probe_rows


def clouds(count, classes=4, features=6, scale=1.0):
    """Return features of overlapping classes, and labels."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, classes, count)
    centres = rng.normal(size=(classes, features))
    return scale * (centres[labels] + rng.normal(size=(count, features)) + 3), labels


def one_hot(labels, classes=4):
    return torch.eye(classes)[torch.from_numpy(labels)]


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_the_probe_is_the_logistic_regression_of_scikit_learn(scale):
    features, labels = clouds(500, scale=scale)
    weights, biases = fit_probe(torch.from_numpy(features), one_hot(labels), cross_entropy)
    mean, std = features.mean(0), features.std(0)
    reference = LogisticRegression(C=1 / (_PENALTY * 500), tol=1e-10, max_iter=10_000)
    reference.fit((features - mean) / std, labels)
    logits = torch.from_numpy(features).float() @ weights.T + biases
    expected = reference.predict_log_proba((features - mean) / std)
    assert torch.log_softmax(logits, 1).numpy() == pytest.approx(expected, abs=0.02)


def test_the_probe_is_for_the_loss_that_training_begins_with():
    """Under a balanced softmax the logits leave the priors to the loss."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [1900, 100])
    features = torch.from_numpy(rng.normal(size=(2000, 3)))  # of no use: only the priors are left
    priors = log_priors(torch.tensor([1900, 100]))
    plain = fit_probe(features, one_hot(labels, 2), cross_entropy)[1]
    adjusted = fit_probe(
        features,
        one_hot(labels, 2),
        lambda logits, targets: balanced_softmax(logits, targets, priors),
    )[1]
    assert float(plain[0] - plain[1]) == pytest.approx(np.log(19), abs=0.1)
    assert float(adjusted[0] - adjusted[1]) == pytest.approx(0.0, abs=0.1)


def test_features_that_never_vary_do_no_harm():
    features, labels = clouds(200)
    features[:, 2] = 7.0
    weights, biases = fit_probe(torch.from_numpy(features), one_hot(labels), cross_entropy)
    logits = torch.from_numpy(features).float() @ weights.T + biases
    assert torch.isfinite(logits).all()
    loss = functional.cross_entropy(logits, torch.from_numpy(labels))
    assert float(loss) < np.log(4)
    zeros = fit_probe(torch.zeros(20, 3), one_hot(labels[:20]), cross_entropy)
    assert all(torch.isfinite(values).all() for values in zeros)


def test_a_probe_sees_some_images_of_every_class():
    labels = np.repeat([0, 1, 2], [9000, 20, 3])
    rows = probe_rows(labels, seed=5)
    counts = np.bincount(labels[rows])
    assert 1000 < len(rows) < 1040
    assert counts[1] >= 8
    assert counts[2] == 3
    assert (np.diff(rows) > 0).all()
    assert (probe_rows(labels, seed=5) == rows).all()
    assert (probe_rows(np.zeros(5, int), seed=0) == np.arange(5)).all()


def test_a_probe_that_is_solved_to_the_end_has_the_minimum_of_scikit_learn():
    """From any start; its first penalties are 1, 0.316 and 0.1."""
    features, labels = clouds(300, scale=20.0)
    start = torch.randn(4, 6), torch.randn(4)
    assert [penalty_at(epoch) for epoch in range(3)] == pytest.approx([1.0, 0.316228, 0.1])
    for penalty in (0.1, 1e-3):
        weights, biases = fit_probe(
            torch.from_numpy(features), one_hot(labels), cross_entropy, penalty, start
        )
        mean, std = features.mean(0), features.std(0)
        reference = LogisticRegression(C=1 / (penalty * 300), tol=1e-10, max_iter=10_000)
        reference.fit((features - mean) / std, labels)
        logits = torch.from_numpy(features).float() @ weights.T + biases
        expected = reference.predict_log_proba((features - mean) / std)
        assert torch.log_softmax(logits, 1).numpy() == pytest.approx(expected, abs=2e-3)
