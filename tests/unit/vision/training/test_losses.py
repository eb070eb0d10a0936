import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.params.choices.training import (
    BalancedSoftmax,
    ClassBalanced,
    CrossEntropy,
    Focal,
    LogitAdjusted,
)
from pipeline.vision.training.losses import (
    build_loss,
    effective_weights,
    focal,
    log_priors,
    smooth,
    target_rows,
)
from tests.jobs import RECIPE

COUNTS = torch.tensor([90, 9, 1])
LABELS = torch.tensor([0, 1, 2, 0, 2])
HARD = functional.one_hot(LABELS, 3).float()
LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 2, (5, 3)), dtype=torch.float32)
LOSSES = [
    CrossEntropy(name="cross_entropy"),
    ClassBalanced(name="class_balanced", beta=0.99, start=0.0),
    Focal(name="focal", gamma=2.0, start=0.0),
    Focal(name="focal", gamma=0.5, start=0.0),
    BalancedSoftmax(name="balanced_softmax", start=0.0),
    LogitAdjusted(name="logit_adjusted", tau=1.5, start=0.0),
]
each_loss = pytest.mark.parametrize("settings", LOSSES, ids=lambda settings: settings.name)


def posteriors(logits, shift=0.0):
    """Softmax of logits + shift in double precision."""
    powers = np.exp(np.asarray(logits, float) + shift)
    return powers / powers.sum(1, keepdims=True)


def of_labels(values):
    return np.asarray(values)[np.arange(len(LABELS)), LABELS]


def published(settings):
    """The formulas of the papers, for hard labels."""
    counts = COUNTS.numpy()
    p = of_labels(posteriors(LOGITS))
    match settings.name:
        case "cross_entropy":
            return -np.log(p)
        case "class_balanced":
            weights = (1 - settings.beta) / (1 - settings.beta**counts)
            return -(weights * 3 / weights.sum())[LABELS] * np.log(p)
        case "focal":
            return -((1 - p) ** settings.gamma) * np.log(p)
        case "balanced_softmax":
            powers = counts * np.exp(LOGITS.numpy().astype(float))
            return -np.log(of_labels(powers / powers.sum(1, keepdims=True)))
        case "logit_adjusted":
            return -np.log(of_labels(posteriors(LOGITS, settings.tau * np.log(counts / 100))))


@each_loss
def test_hard_targets_give_the_published_formula(settings):
    losses = build_loss(settings, COUNTS)(LOGITS, HARD)
    assert losses.dtype == torch.float32
    assert losses.numpy() == pytest.approx(published(settings), rel=1e-5)


def test_cross_entropy_is_that_of_torch():
    losses = build_loss(LOSSES[0], COUNTS)(LOGITS, HARD)
    assert torch.allclose(losses, functional.cross_entropy(LOGITS, LABELS, reduction="none"))


@each_loss
def test_a_mixed_target_has_the_mixed_loss(settings):
    loss, share = build_loss(settings, COUNTS), 0.3
    other = HARD.flip(0)
    mixed = loss(LOGITS, share * HARD + (1 - share) * other)
    assert torch.allclose(mixed, share * loss(LOGITS, HARD) + (1 - share) * loss(LOGITS, other))


def test_a_soft_target_by_hand():
    # p = 1/2, 1/4, 1/4.
    logits = torch.tensor([[2.0, 1.0, 1.0]]).log()
    targets = torch.tensor([[0.6, 0.4, 0.0]])
    by_hand = 0.6 * 0.5**2 * np.log(2) + 0.4 * 0.75**2 * np.log(4)
    assert focal(logits, targets, 2.0).item() == pytest.approx(by_hand, rel=1e-5)


def test_adjusted_by_the_whole_prior_is_the_balanced_softmax():
    targets = smooth(HARD, 0.1)
    adjusted = build_loss(LogitAdjusted(name="logit_adjusted", tau=1.0, start=0.0), COUNTS)
    balanced = build_loss(BalancedSoftmax(name="balanced_softmax", start=0.0), COUNTS)
    assert torch.equal(adjusted(LOGITS, targets), balanced(LOGITS, targets))


@pytest.mark.parametrize(
    "settings",
    [
        ClassBalanced(name="class_balanced", beta=0.0, start=0.0),
        Focal(name="focal", gamma=0.0, start=0.0),
        LogitAdjusted(name="logit_adjusted", tau=0.0, start=0.0),
    ],
    ids=lambda settings: settings.name,
)
def test_switched_off_each_is_the_cross_entropy(settings):
    plain = build_loss(LOSSES[0], COUNTS)(LOGITS, HARD)
    assert torch.allclose(build_loss(settings, COUNTS)(LOGITS, HARD), plain)


@each_loss
@pytest.mark.parametrize("scale", [1e-3, 20.0, 1e4])
def test_gradients_are_finite_at_any_logits(settings, scale):
    logits = (scale * torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 1.0]])).clone()
    logits.requires_grad_(True)
    losses = build_loss(settings, COUNTS)(logits, torch.eye(3))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(logits.grad).all()


# The class-balanced one's weights are float32, as its logits have to be.
@pytest.mark.parametrize(
    "settings",
    [settings for settings in LOSSES if settings.name != "class_balanced"],
    ids=lambda settings: settings.name,
)
def test_gradients_are_those_of_finite_differences(settings):
    logits = LOGITS.double().requires_grad_(True)
    loss, targets = build_loss(settings, COUNTS), smooth(HARD, 0.2).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)


def test_a_class_without_images_counts_as_one_of_one():
    with_none, with_one = torch.tensor([90, 9, 0]), torch.tensor([90, 9, 1])
    assert torch.equal(log_priors(with_none), log_priors(with_one))
    assert torch.equal(effective_weights(with_none, 0.9), effective_weights(with_one, 0.9))


def test_effective_weights_sum_to_the_classes_and_go_towards_the_inverse():
    weights = effective_weights(COUNTS, 0.999999)
    assert weights.sum().item() == pytest.approx(3)
    assert (weights * COUNTS).numpy() == pytest.approx(3 / (1 / COUNTS).sum().item(), rel=1e-3)


def smoothed(largest, smallest):
    return RECIPE.model_copy(update={"label_smoothing": largest, "tail_smoothing": smallest})


def test_label_aware_smoothing_by_hand():
    """A third of the way from the smallest to the largest class is sin(30 degrees) = 1/2."""
    rows = target_rows(smoothed(0.3, 0.1), np.array([40, 10, 20]))
    smoothing = [0.3, 0.1, 0.2]
    for row, (own, share) in enumerate(zip(rows.tolist(), smoothing, strict=True)):
        assert own[row] == pytest.approx(1 - share)
        assert [own[i] for i in range(3) if i != row] == pytest.approx([share / 2] * 2)
    alike = target_rows(smoothed(0.3, 0.0), np.array([7, 7]))
    assert torch.equal(alike, torch.eye(2))
    assert target_rows(smoothed(0.3, 0.0), np.array([7])).tolist() == [[1.0]]


def test_smoothing_by_hand():
    assert torch.allclose(smooth(torch.eye(4)[:1], 0.2), torch.tensor([[0.85, 0.05, 0.05, 0.05]]))
    assert smooth(HARD, 0.0) is HARD
