import numpy as np
import pytest

from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.reports.words import number
from pipeline.evaluation.tta.search import ViewSearch
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=100,
    calibration_bins=5,
    top_k=(2,),
    suspicious_images=20,
)


def answering(answers, classes=2):
    """Return posteriors that are 0.9 sure of each answer."""
    return np.where(np.eye(classes, dtype=bool)[answers], 0.9, 0.1 / (classes - 1))


def search(labels, plain, steps, asked="auto"):
    """Return the choice among posteriors of each step, and how many steps were tried."""
    found = ViewSearch(Scored.of(labels, plain, HOW), len(steps), asked)
    tried = 0
    while found.choice is None:
        found.add(Scored.of(labels, steps[tried], HOW))
        tried += 1
    return found.choice, tried


def count_of(labels, plain, steps):
    return search(labels, plain, steps)[0].count


def test_the_fewest_views_with_a_gain_are_taken():
    labels = np.arange(60) % 2
    wrong = np.where(np.arange(60) < 30, 1 - labels, labels)
    plain, perfect = answering(wrong), answering(labels)
    choice, tried = search(labels, plain, [plain, perfect, perfect])
    assert choice.count == tried == 2
    assert choice.reason.startswith(
        "the first of 3 steps whose gain in macro-F1 on 60 validation images is beyond chance,"
        " +0.500 (98.33 % interval +0.3"
    )
    assert choice.untried == "the fewest views with a gain are taken"


@pytest.mark.parametrize(
    "wrong", [range(4), range(40), range(56, 60)], ids=["the same", "worse", "four for four"]
)
def test_without_a_gain_the_image_is_taken_as_it_is(wrong):
    labels = np.arange(60) % 2
    plain, step = (
        answering(np.where(np.isin(np.arange(60), rows), 1 - labels, labels))
        for rows in (range(4), wrong)
    )
    choice, _ = search(labels, plain, [step])
    assert (choice.count, choice.untried) == (0, "")
    assert choice.reason == (
        "of 1 step none has a gain in macro-F1 on 60 validation images beyond chance"
        " (95 % intervals)"
    )


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_as_many_as_asked_for_are_tried_and_taken(asked):
    labels = np.arange(60) % 2
    choice, tried = search(labels, answering(labels), [answering(1 - labels)] * 3, asked)
    assert choice.count == tried == asked
    assert choice.reason == f"tta.choose asks for {asked}"
    assert choice.untried == ("" if asked == 3 else choice.reason)


def test_of_many_steps_one_must_gain_more():
    """7 mended, none spoiled of 100: Bonett and Price's interval ends at 0 where it is of 98.35 %.

    (8 - 1) / 102 = z sqrt(((8 + 1) / 102 - (7 / 102)^2) / 102), with z = 2.398.
    """
    labels = np.arange(100) % 2
    plain = answering(np.where(np.arange(100) < 7, 1 - labels, labels))
    better = answering(labels)
    assert count_of(labels, plain, [better]) == 1
    assert count_of(labels, plain, [plain, better]) == 2
    assert count_of(labels, plain, [better, plain, plain, plain]) == 0


@pytest.mark.parametrize(
    "labels", [[0], [0, 1, 2, 3], [2, 2, 2], np.repeat(np.arange(4), [9, 1, 0, 1])]
)
def test_a_few_images_show_nothing(labels):
    """One image per class, or classes without any: every image is mended, and may be by chance."""
    labels = np.asarray(labels)
    plain, better = answering((labels + 1) % 4, 4), answering(labels, 4)
    spoilt = answering(np.where(labels == labels[0], labels, (labels + 1) % 4), 4)
    assert count_of(labels[:4], plain[:4], [plain[:4], better[:4], spoilt[:4]]) == 0


@pytest.mark.parametrize(
    ("mended", "spoiled", "tried"),
    [(4, 6, 2), (5, 5, 3), (6, 4, 4), (7, 4, 5), (9, 5, 7), (14, 6, 8)],
)
def test_no_view_is_tried_from_which_no_gain_is_to_be_expected(mended, spoiled, tried):
    """Of 200 images each step mends and spoils so many: by Bonett and Price,

    (m - s) / 200 : sqrt((m + s + 2) / 202 - ((m - s) / 202)^2) / sqrt(202) standard errors, which
    is -0.58, 0, 0.58, 0.84, 1.01 and 1.73. Chance hides 1.64 more. Of 8 steps one must gain 2.73 of
    them, and all views gain 1.75 times as much as 2 views, 1.31 times as 3, 1.17 times as 4, then
    1.09, 1.05 and 1.02 times. So the search goes on after 2 to 7 views above -0.08, 0.44, 0.70,
    0.85, 0.96 and 1.03.
    """
    labels = np.arange(200) % 2
    wrong = np.arange(200) < 20
    changed = wrong.copy()
    changed[:mended], changed[20 : 20 + spoiled] = False, True
    plain, step = (answering(np.where(rows, 1 - labels, labels)) for rows in (wrong, changed))
    how = HOW.model_copy(update={"metric": "accuracy"})
    found = ViewSearch(Scored.of(labels, plain, how), 8, "auto")
    count = 0
    while found.choice is None:
        found.add(Scored.of(labels, step, how))
        count += 1
    assert (found.choice.count, count) == (0, tried)
    gain = number((mended - spoiled) / 200, sign=True)
    if tried < 8:
        assert found.choice.reason.startswith(f"of {tried} steps tried none has a gain in accuracy")
        assert found.choice.untried.startswith(f"{tried} views gain {gain} [")
    else:
        assert found.choice.reason.startswith("of 8 steps none has a gain in accuracy")
        assert found.choice.untried == ""


def draw(rng, sizes, gain, noise=0.6):
    """Draw a validation set and eight steps, whose logits have noise of their own.

    Of two steps, and of a step and the images as they are, much is the same.
    """
    labels = np.repeat(np.arange(len(sizes)), sizes)
    logits = rng.normal(size=(len(labels), len(sizes)))
    logits[np.arange(len(labels)), labels] += 2.5
    own = noise * rng.normal(size=(9, *logits.shape))
    own[1:, np.arange(len(labels)), labels] += gain
    odds = np.exp(logits + own)
    plain, *steps = odds / odds.sum(axis=2, keepdims=True)
    return labels, plain, steps


@pytest.mark.parametrize("sizes", [(20, 10, 5), (30, 1, 1, 1)])
def test_noise_is_hardly_ever_chosen(sizes):
    rng = np.random.default_rng(0)
    found = [search(*draw(rng, sizes, gain=0.0)) for _ in range(25)]
    assert np.count_nonzero([choice.count for choice, _ in found]) <= 1
    assert np.mean([tried for _, tried in found]) < 4


def test_a_real_gain_is_chosen():
    rng = np.random.default_rng(0)
    assert all(count_of(*draw(rng, (40, 40, 40), gain=1.5)) for _ in range(10))


def test_a_gain_of_averaging_is_chosen():
    """Views with much noise of their own, the first of them the image itself, averaged."""
    rng, found = np.random.default_rng(0), []
    for _ in range(10):
        labels, plain, views = draw(rng, (40, 40, 40), gain=0.0, noise=1.5)
        views = [plain, *views[:7]]
        steps = [np.mean(views[: count + 1], axis=0) for count in range(8)]
        found.append(count_of(labels, plain, steps))
    assert min(found) >= 2


def test_the_same_validation_images_give_the_same_choice():
    given = draw(np.random.default_rng(3), (40, 40, 40), gain=1.0)
    assert search(*given) == search(*given)
