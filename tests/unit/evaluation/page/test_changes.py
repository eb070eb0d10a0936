import pytest

from pipeline.evaluation.judging.findings import RecallChange
from pipeline.evaluation.page.changes import judge, metrics, moved_recalls
from pipeline.evaluation.reports.schema import Figure
from tests import reports

CLASSES = ("ant", "bee")


@pytest.mark.parametrize(
    ("interval", "lower_is_better", "judgement"),
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
def test_an_interval_that_holds_0_shows_nothing(interval, lower_is_better, judgement):
    difference = Figure(value=sum(interval) / 2, ci95=interval)
    assert judge(difference, lower_is_better=lower_is_better) == judgement


def test_metrics_side_by_side():
    register = reports.met(CLASSES, 40, champion=3.0, candidate=-3.0).model_dump()
    before, difference = register["champion"]["test"], register["comparison"]
    before["accuracy"] = {"value": 0.75, "ci95": [0.5, 1]}
    difference["accuracy"] = {"value": 0.125, "ci95": [0.1, 0.15]}
    before["average_precision"] = {"value": None, "ci95": [0, 1]}
    difference["average_precision"] = {"value": None, "ci95": [-1, 1]}
    difference["nll"] = {"value": 0.125, "ci95": [0.1, 0.15]}
    found = metrics(reports.RegisterReport.model_validate(register))
    assert [row.title for row in found] == [
        "Accuracy",
        "Balanced accuracy",
        "Macro-F1",
        "Average precision",
        "NLL, nats",
        "Brier score",
        "Calibration error",
    ]
    assert (found[0].champion, found[0].candidate, found[0].judgement) == (0.75, 0.875, "better")
    assert (found[3].champion, found[3].candidate) == (None, None)
    assert found[3].judgement == "cannot tell"
    assert found[4].judgement == "worse"
    assert metrics(reports.first()) == []


def recall(loss, interval=(-1.0, 1.0)):
    return RecallChange(
        support=4,
        candidate=0.5 - loss,
        champion=0.5,
        loss=loss,
        interval=interval,
        seen_from=None,
    )


def test_the_classes_that_moved_most_come_first():
    losses = {f"down {i}": recall(0.01 * i) for i in range(1, 8)}
    gains = {"up": recall(-0.2, (-0.3, -0.1)), "up more": recall(-0.25)}
    classes = losses | gains | {"still": recall(0.0)}
    fell, rose = moved_recalls(reports.changed(reports.first(), classes=classes))
    assert [row.title for row in fell] == [f"down {i}" for i in (7, 6, 5, 4, 3)]
    assert [row.title for row in rose] == ["up more", "up"]
    # The report has what is lost, the page what changed.
    assert rose[1].difference == Figure(value=0.2, ci95=(0.1, 0.3))
    assert rose[1].judgement == "better"
    assert moved_recalls(reports.first()) == ([], [])
