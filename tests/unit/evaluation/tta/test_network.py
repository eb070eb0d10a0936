import numpy as np
import pytest

from pipeline.evaluation.metrics.measure import compare
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.tta.network import choose_network
from tests.reports import HOW, posteriors

LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def chosen(base, tuned, how=HOW, **options):
    return choose_network(Scored.of(LABELS, base, how), Scored.of(LABELS, tuned, how), **options)


def test_a_network_that_fine_tuning_made_worse_does_not_ship():
    base, tuned = posteriors(LABELS, 3, 3.0, 0), posteriors(LABELS, 3, 1.5, 1)
    found = chosen(base, tuned)
    assert found.name == "base"
    expected = compare(Scored.of(LABELS, tuned, HOW), Scored.of(LABELS, base, HOW))
    assert found.difference == expected["macro_f1"]
    assert found.difference["ci95"][1] < 0
    assert found.tuned - found.base == pytest.approx(found.difference["value"])
    low, high = found.difference["ci95"]
    assert found.reason == (
        f"macro-F1 on 100 validation images is {found.base:.3f} for base and {found.tuned:.3f} for"
        f" tuned, a difference of \N{MINUS SIGN}{found.base - found.tuned:.3f} (95 % interval"
        f" \N{MINUS SIGN}{-low:.3f} to \N{MINUS SIGN}{-high:.3f})"
    )
    assert chosen(tuned, base).name == "tuned"


def test_a_tie_goes_to_the_later_training():
    base = posteriors(LABELS, 3, 3.0, 0)
    surer = base**2 / (base**2).sum(axis=1, keepdims=True)  # the same answers
    found = chosen(base, surer)
    assert found.name == "tuned"
    assert found.reason == (
        "base and tuned give the same answers on all 100 validation images, macro-F1"
        f" {found.base:.3f}; a tie goes to the later training"
    )


@pytest.mark.parametrize("favoured", ["base", "tuned"])
def test_a_favoured_network_ships_unless_the_other_is_better_beyond_chance(favoured):
    good, bad = posteriors(LABELS, 3, 3.0, 0), posteriors(LABELS, 3, 1.5, 1)
    assert chosen(good, bad, favoured=favoured).name == "base"
    assert chosen(bad, good, favoured=favoured).name == "tuned"
    one_wrong = good.copy()
    at = int(np.flatnonzero(good.argmax(axis=1) == LABELS)[0])
    one_wrong[at] = np.roll(good[at], 1)
    assert chosen(good, one_wrong).name == "base"
    assert chosen(one_wrong, good).name == "tuned"
    for pair in ((good, one_wrong), (one_wrong, good), (good, good)):
        found = chosen(*pair, favoured=favoured)
        assert found.name == favoured
        end = f"; of this recipe {favoured} ships unless it is worse beyond chance"
        assert found.reason.endswith(end)


def test_the_metric_decides():
    """One is right on all images of the large class, the other on all of the small ones."""
    large = np.eye(3)[np.zeros(100, int)]
    small = np.eye(3)[np.where(LABELS == 0, np.arange(100) % 3, LABELS)]
    by = {
        metric: chosen(large, small, HOW.model_copy(update={"metric": metric}))
        for metric in ("accuracy", "balanced_accuracy", "macro_f1")
    }
    assert (by["accuracy"].base, by["accuracy"].tuned) == (0.6, 0.6)
    assert (by["balanced_accuracy"].base, by["balanced_accuracy"].tuned) == pytest.approx(
        (1 / 3, (1 / 3 + 2) / 3)
    )
    assert by["balanced_accuracy"].name == by["macro_f1"].name == "tuned"
    assert "balanced accuracy on 100 validation images" in by["balanced_accuracy"].reason
