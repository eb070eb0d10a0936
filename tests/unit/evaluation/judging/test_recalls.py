import numpy as np
import pytest
from scipy.stats import binom, norm

from pipeline.evaluation.judging.gate import check_groups, check_recalls
from pipeline.evaluation.judging.recalls import compare_recalls, pool_small, smallest_loss_seen


def one_hot(predicted, classes):
    return np.eye(classes)[predicted]


def test_recalls_by_hand():
    # Class a: 4 images, the champion has all, the candidate half. Class b: 2, both all. c: none.
    labels = np.array([0, 0, 0, 0, 1, 1])
    champion = one_hot([0, 0, 0, 0, 1, 1], 3)
    candidate = one_hot([0, 0, 1, 2, 1, 1], 3)
    recalls = compare_recalls(labels, candidate, champion, ("a", "b", "c"), 0.05).classes
    assert set(recalls) == {"a", "b"}
    a = recalls["a"]
    assert (a.support, a.candidate, a.champion, a.loss) == (4, 0.5, 1.0, 0.5)
    # Bonett and Price with one more pair of either kind, at 1 - 0.05 / 2 for two classes.
    first, second, n = 3 / 6, 1 / 6, 6
    arm = norm.ppf(1 - 0.05 / 4) * np.sqrt((first + second - (first - second) ** 2) / n)
    assert a.interval == pytest.approx([first - second - arm, 1.0])  # it ends there


@pytest.mark.parametrize(
    ("support", "lost", "passed"),
    [
        (3, 1, True),  # a loss of 0.33, and yet one error in three shows nothing
        (3, 3, True),
        (8, 8, False),
        (100, 4, True),  # below the limit
        (100, 30, False),
        (400, 19, True),  # 0.0475: surely a loss, but a permitted one
        (400, 40, False),
    ],
)
def test_a_class_is_judged_by_its_images(support, lost, passed):
    labels = np.repeat([0, 1], [support, 50])
    champion = one_hot(labels, 2)
    answers = labels.copy()
    answers[:lost] = 1
    recalls = compare_recalls(labels, one_hot(answers, 2), champion, ("a", "b"), 0.05)
    check = check_recalls(recalls.classes, 0.05)
    assert check.passed == passed
    assert check.value == pytest.approx(lost / support)
    assert "class a" in check.reason


def test_noise_among_a_hundred_classes_is_not_harm():
    """Two models that are wrong at random, equally often, pass in nearly all of 40 draws."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 30)
    classes = tuple(map(str, range(100)))

    def model():
        wrong = rng.random(len(labels)) < 0.2
        return one_hot(np.where(wrong, (labels + 1) % 100, labels), 100)

    passed = [
        check_recalls(compare_recalls(labels, model(), model(), classes, 0.05).classes, 0.05).passed
        for _ in range(40)
    ]
    assert sum(passed) >= 36


def test_a_class_that_gains_is_no_loss():
    labels = np.array([0] * 10 + [1] * 10)
    worse = one_hot(np.zeros(20, int), 2)
    recalls = compare_recalls(labels, one_hot(labels, 2), worse, ("a", "b"), 0.0)
    check = check_recalls(recalls.classes, 0.0)
    assert check.passed
    assert check.reason.startswith("recall falls in no class; losses from 0.")
    assert (check.finding, check.detail) == ("falls in none", "")


@pytest.mark.parametrize(
    ("gained", "support", "max_loss", "classes"),
    [(0, 50, 0.05, 10), (3, 120, 0.05, 4), (0, 30, 0.5, 2)],
)
def test_the_smallest_loss_that_is_seen_by_hand(gained, support, max_loss, classes):
    """The fewest lost images that are refused, and the rate at which 80 % of draws have them."""
    confidence = 1 - 0.05 / classes
    z = norm.ppf(1 - (1 - confidence) / 2)

    def refused(lost):
        first, second, n = (lost + 1) / (support + 2), (gained + 1) / (support + 2), support + 2
        arm = z * np.sqrt((first + second - (first - second) ** 2) / n)
        return first - second > arm and (lost - gained) / support > max_loss

    least = next(lost for lost in range(support) if refused(lost))
    seen = smallest_loss_seen(gained, support, max_loss, confidence) + gained / support
    assert binom.sf(least - 1, support, seen) == pytest.approx(0.8)


def test_power_is_what_it_says():
    """Where each image of a class is lost as often as said, the gate refuses in 80 % of draws."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [50, 50])
    right = one_hot(labels, 2)
    seen = compare_recalls(labels, right, right, ("a", "b"), 0.05).classes["a"].seen_from
    assert 0.1 < seen < 0.25
    refused = 0
    for _ in range(1000):
        said = np.where((labels == 0) & (rng.random(100) < seen), 1, labels)
        recalls = compare_recalls(labels, one_hot(said, 2), right, ("a", "b"), 0.05)
        refused += not check_recalls(recalls.classes, 0.05).passed
    assert 0.76 < refused / 1000 < 0.84


def test_a_pass_says_which_losses_it_would_have_noticed():
    labels = np.repeat([0, 1, 2], [200, 50, 3])
    right = one_hot(labels, 3)
    recalls = compare_recalls(labels, right, right, ("a", "b", "c"), 0.05).classes
    assert recalls["c"].seen_from is None
    assert recalls["a"].seen_from < recalls["b"].seen_from
    check = check_recalls(recalls, 0.05)
    ends = f"{recalls['a'].seen_from:.3f} to {recalls['b'].seen_from:.3f}"
    assert check.caveat == (
        f"losses from {ends}, by class, would have been noticed (power 80 %); in 1 of 3, for lack"
        " of images, none"
    )
    assert check.reason == f"recall falls in no class; {check.caveat}"
    blind = check_recalls({"c": recalls["c"]}, 0.05)
    assert blind.caveat == "with so few images, no loss would have been noticed in any class"


def test_a_champion_cannot_lose_what_it_does_not_have():
    labels = np.zeros(50, int)
    poor = one_hot(np.repeat([0, 1], [5, 45]), 2)
    assert compare_recalls(labels, poor, poor, ("a", "b"), 0.05).classes["a"].seen_from is None


@pytest.mark.parametrize(
    ("support", "groups"),
    [
        ([300, 200], []),
        ([300, 20], []),  # one small class is no group
        ([300, 20, 0, 10], [[3, 1]]),  # all that there is
        ([60, 50, 40, 30, 300], [[3, 2, 1, 0]]),  # 60 are left over and join the last
        ([60, 50, 40, 30, 90, 300], [[3, 2, 1], [0, 4]]),
        ([7] * 40, [list(range(15)), list(range(15, 40))]),
    ],
)
def test_small_classes_are_pooled(support, groups):
    assert pool_small(np.array(support)) == groups


def test_a_loss_in_forty_classes_of_seven_images_is_noticed():
    """Each class alone can show nothing; together they lose a fifth of their recall."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 7)
    classes = tuple(f"{row:02}" for row in range(40))
    champion = one_hot(labels, 40)
    said = np.where(rng.random(280) < 0.2, (labels + 1) % 40, labels)
    recalls = compare_recalls(labels, one_hot(said, 40), champion, classes, 0.05)
    assert check_recalls(recalls.classes, 0.05).passed
    check = check_groups(recalls.groups, 0.05)
    assert not check.passed
    first = recalls.groups[0]
    assert (first.classes, first.support) == (classes[:15], 105)
    assert first.loss == pytest.approx((said[:105] != labels[:105]).mean())
    assert "the 15 classes 00, 01, 02 and 12 more" in check.reason


def test_noise_in_the_tail_is_not_harm():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 10)
    classes = tuple(map(str, range(60)))

    def model():
        return one_hot(np.where(rng.random(600) < 0.2, (labels + 1) % 60, labels), 60)

    passed = [
        check_groups(compare_recalls(labels, model(), model(), classes, 0.05).groups, 0.05).passed
        for _ in range(100)
    ]
    assert sum(passed) >= 93
