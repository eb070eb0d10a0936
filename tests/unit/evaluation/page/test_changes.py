import pytest

from pipeline.evaluation.page.changes import judge, metrics, moved_recalls


@pytest.mark.parametrize(
    ("interval", "less_is_better", "judgement"),
    [
        ((0.01, 0.02), False, "better"),
        ((0.01, 0.02), True, "worse"),
        ((-0.02, -0.01), False, "worse"),
        ((-0.02, -0.01), True, "better"),
        ((-0.01, 0.02), False, "cannot tell"),
        ((0.0, 0.02), False, "cannot tell"),
        ((0.0, 0.0), True, "cannot tell"),
    ],
)
def test_an_interval_that_holds_0_tells_nothing(interval, less_is_better, judgement):
    difference = {"value": sum(interval) / 2, "ci95": list(interval)}
    assert judge(difference, less_is_better=less_is_better) == judgement


def test_metrics_side_by_side():
    register = {
        "champion": {"test": {"accuracy": {"value": 0.75}, "average_precision": {"value": None}}},
        "comparison": {
            "accuracy": {"value": 0.125, "ci95": [0.1, 0.15]},
            "average_precision": {"value": None, "ci95": [-1, 1]},
            "mcnemar": {"only_first": 3, "only_second": 1, "p_value": 0.6},
        },
    }
    found = metrics(register)
    assert [row.title for row in found] == ["Accuracy", "Average precision"]
    assert (found[0].champion, found[0].candidate, found[0].judgement) == (0.75, 0.875, "better")
    assert (found[1].champion, found[1].candidate) == (None, None)
    assert found[1].judgement == "cannot tell"
    assert metrics({"comparison": None}) == []


def recall(loss, interval=(-1.0, 1.0)):
    block = {"support": 4, "candidate": 0.5 - loss, "champion": 0.5, "loss": loss}
    return block | {"interval": list(interval)}


def test_the_classes_that_moved_most_come_first():
    losses = {f"down {i}": recall(0.01 * i) for i in range(1, 8)}
    gains = {"up": recall(-0.2, (-0.3, -0.1)), "up more": recall(-0.25)}
    fell, rose = moved_recalls({"classes": losses | gains | {"still": recall(0.0)}})
    assert [row.name for row in fell] == [f"down {i}" for i in (7, 6, 5, 4, 3)]
    assert [row.name for row in rose] == ["up more", "up"]
    # The report has what is lost, the page what changed.
    assert rose[1].difference == {"value": 0.2, "ci95": [0.1, 0.3]}
    assert rose[1].judgement == "better"
    assert moved_recalls({"classes": None}) == ([], [])
