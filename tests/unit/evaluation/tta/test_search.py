import numpy as np
import pytest

from pipeline.evaluation.metrics.measure import compare
from pipeline.evaluation.tta.search import ViewPosteriors, choose_views, search_views
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=100,
    calibration_bins=5,
    top_k=(2,),
    suspicious_images=20,
)
CLASSES = ("ant", "bee")


def answering(answers, classes=2):
    """Return posteriors that are 0.9 sure of each answer."""
    return np.where(np.eye(classes, dtype=bool)[answers], 0.9, 0.1 / (classes - 1))


def pick(given, how=HOW):
    gains = [compare(given.labels, step, given.plain, how) for step in given.steps]
    return choose_views(given, [{"validation": {"gain": gain}} for gain in gains], how)


def test_steps_by_hand():
    labels = np.array([0, 0, 1])
    plain = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    # With the second view the second image is mended and the third spoiled.
    second = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    test = ViewPosteriors.of(labels, plain, [plain, second], "arithmetic")
    validation = ViewPosteriors.of(labels[:2], plain[:2], [plain[:2], second[:2]], "arithmetic")
    first, both = search_views(validation, test, CLASSES, HOW)
    assert (first["mended"], first["spoiled"]) == (0, 0)
    assert first["gain"]["accuracy"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    assert (both["mended"], both["spoiled"]) == (1, 1)
    assert both["test"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert both["gain"]["accuracy"]["value"] == 0
    mean = (plain + second) / 2
    expected = -np.log(mean[np.arange(3), labels]).mean()
    assert both["test"]["nll"]["value"] == pytest.approx(expected)
    # Both validation images are ants: recall, precision and F1 of ants go from 1/2, 1, 2/3 to 1.
    found = both["validation"]
    assert (found["mended"], found["spoiled"]) == (1, 0)
    assert found["macro_f1"]["value"] == 1.0
    assert found["gain"]["accuracy"]["value"] == pytest.approx(1 / 2)


def test_a_geometric_mean_of_views():
    plain, other = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    given = ViewPosteriors.of(np.array([0]), plain, [plain, other], "geometric")
    np.testing.assert_array_equal(given.steps[0], plain)
    # sqrt(0.45) : sqrt(0.05) is 3 : 1.
    np.testing.assert_allclose(given.steps[1], [[0.75, 0.25]])


def test_the_fewest_views_with_a_gain_are_taken():
    labels = np.arange(60) % 2
    wrong = np.where(np.arange(60) < 30, 1 - labels, labels)
    plain, perfect = answering(wrong), answering(labels)
    choice = pick(ViewPosteriors(labels, plain, [plain, perfect, perfect]))
    assert choice.count == 2
    assert choice.reason.startswith(
        "the first of 3 steps whose gain in macro-F1 on 60 validation images is beyond chance,"
        " +0.500 (98.33 % interval +0.3"
    )


@pytest.mark.parametrize(
    "wrong", [range(4), range(40), range(56, 60)], ids=["the same", "worse", "four for four"]
)
def test_without_a_gain_the_image_is_taken_as_it_is(wrong):
    labels = np.arange(60) % 2
    plain, step = (
        answering(np.where(np.isin(np.arange(60), rows), 1 - labels, labels))
        for rows in (range(4), wrong)
    )
    choice = pick(ViewPosteriors(labels, plain, [step]))
    assert choice.count == 0
    assert choice.reason == (
        "of 1 step none has a gain in macro-F1 on 60 validation images beyond chance"
        " (95 % intervals)"
    )


def test_of_many_steps_one_must_gain_more():
    """7 mended, none spoiled of 100: Bonett and Price's interval ends at 0 where it is of 98.35 %.

    (8 - 1) / 102 = z sqrt(((8 + 1) / 102 - (7 / 102)^2) / 102), with z = 2.398.
    """
    labels = np.arange(100) % 2
    plain = answering(np.where(np.arange(100) < 7, 1 - labels, labels))
    better = answering(labels)
    assert pick(ViewPosteriors(labels, plain, [better])).count == 1
    assert pick(ViewPosteriors(labels, plain, [plain, better])).count == 2
    assert pick(ViewPosteriors(labels, plain, [*[plain] * 3, better])).count == 0


@pytest.mark.parametrize(
    "labels", [[0], [0, 1, 2, 3], [2, 2, 2], np.repeat(np.arange(4), [9, 1, 0, 1])]
)
def test_a_few_images_show_nothing(labels):
    """One image per class, or classes without any: every image is mended, and may be by chance."""
    labels = np.asarray(labels)
    plain, better = answering((labels + 1) % 4, 4), answering(labels, 4)
    spoilt = answering(np.where(labels == labels[0], labels, (labels + 1) % 4), 4)
    assert (
        pick(ViewPosteriors(labels[:4], plain[:4], [plain[:4], better[:4], spoilt[:4]])).count == 0
    )


def draw(rng, sizes, gain):
    """Draw a validation set and eight steps, whose logits have unit noise of their own.

    Of two steps, and of a step and the images as they are, three quarters are the same.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    logits = rng.normal(size=(len(labels), len(sizes)))
    logits[np.arange(len(labels)), labels] += 2.5
    noise = 0.6 * rng.normal(size=(9, *logits.shape))
    noise[1:, np.arange(len(labels)), labels] += gain
    plain, *steps = np.exp(logits + noise) / np.exp(logits + noise).sum(axis=2, keepdims=True)
    return ViewPosteriors(labels, plain, steps)


@pytest.mark.parametrize("sizes", [(20, 10, 5), (30, 1, 1, 1)])
def test_noise_is_hardly_ever_chosen(sizes):
    rng = np.random.default_rng(0)
    chosen = [pick(draw(rng, sizes, gain=0.0)).count for _ in range(25)]
    assert np.count_nonzero(chosen) <= 1


def test_a_real_gain_is_chosen():
    rng = np.random.default_rng(0)
    chosen = [pick(draw(rng, (40, 40, 40), gain=1.5)).count for _ in range(10)]
    assert np.count_nonzero(chosen) == 10


def test_the_same_validation_images_give_the_same_choice():
    given = draw(np.random.default_rng(3), (40, 40, 40), gain=1.0)
    assert pick(given) == pick(given)
