"""A metric that is added to the table shows up everywhere, without another edit."""

import re
from html import unescape

import numpy as np
import pytest

from pipeline.evaluation.metrics import intervals, table
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.table import Metric, Scored, mean_loss, proportion
from pipeline.evaluation.page import render
from pipeline.evaluation.registration.description import as_markdown
from pipeline.evaluation.registration.run_metrics import final_metrics, network_metrics
from pipeline.evaluation.reports.schema import EvaluateReport, Measured
from tests import reports

CLASSES = ("ant", "bee", "crab")
IMAGES = 60


def doubt(model):
    return 1.0 - float(model.answers.confidence.mean())


ADDED = (
    proportion("worst_avoided", "Not the last choice", lambda given: given.place < 2),
    mean_loss("spread", "Spread", lambda given: 1.0 - given.confidence, 1.0),
    # One whose interval is a bootstrap's.
    Metric(
        "doubt",
        "Mean doubt",
        judges="answers",
        lower_is_better=True,
        value=doubt,
        interval=lambda model, value: intervals.percentile_interval(
            model.resampled["doubt"], value
        ),
        difference=lambda one, two, value: intervals.percentile_interval(
            one.resampled["doubt"] - two.resampled["doubt"], value
        ),
        resampled=lambda block: 1.0 - block.answers.confidence[block.rows].mean(axis=1),
    ),
)
NAMES = [metric.name for metric in ADDED]


@pytest.fixture(autouse=True)
def larger_table(monkeypatch):
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, *ADDED))


def test_it_is_measured_and_compared():
    labels, given = reports.four_models(CLASSES, IMAGES)
    one, two = given["final"], given["base"]
    block = measure(Scored.of(labels, one, reports.HOW), CLASSES)
    change = compare(Scored.of(labels, one, reports.HOW), Scored.of(labels, two, reports.HOW))
    expected = [(1.0 - posteriors.max(axis=1)).mean() for posteriors in (one, two)]
    for name in ("spread", "doubt"):
        assert block[name]["value"] == pytest.approx(expected[0])
        assert change[name]["value"] == pytest.approx(expected[0] - expected[1])
    avoided = one.argsort(axis=1)[:, 0] != labels
    assert block["worst_avoided"]["value"] == pytest.approx(avoided.mean())
    for name in NAMES:
        for figure in (block[name], change[name]):
            low, high = figure["ci95"]
            assert low <= figure["value"] <= high
            assert low < high
    assert all(change[name]["ci95"] != block[name]["ci95"] for name in NAMES)


def test_it_is_in_the_reports():
    evaluate = reports.evaluate_report(CLASSES, IMAGES)
    again = EvaluateReport.model_validate_json(evaluate.model_dump_json(), strict=True)
    assert [metric.name for metric in again.metrics][-3:] == NAMES
    assert again.final.test.figures["doubt"] == evaluate.final.test.figures["doubt"]
    assert "spread" in again.base.calibration.test  # a metric of confidence
    assert "doubt" not in again.base.calibration.test
    values = evaluate.model_dump(mode="json")
    del values["tuned"]["test"]["doubt"]
    with pytest.raises(ValueError, match=r"lacks tuned\.test\.doubt"):
        EvaluateReport.model_validate(values)
    assert list(Measured.model_validate(values["base"]["test"]).model_dump())[-1] == "per_class"


def test_it_is_a_metric_of_the_runs():
    evaluate = reports.evaluate_report(CLASSES, IMAGES)
    base, final = evaluate.base, evaluate.final
    found = network_metrics(base)
    for name in NAMES:
        assert found[f"test/{name}"] == base.test.figures[name].value
    assert found["test/spread.calibrated"] == base.calibration.test["spread"].value
    shipped = final_metrics(evaluate, reports.tta_report(CLASSES, IMAGES))
    assert shipped["test_final/doubt"] == final.test.figures["doubt"].value


def test_it_is_on_the_page_and_on_the_version():
    register = reports.met(CLASSES, IMAGES, champion=3.0, candidate=-3.0)
    html = render(reports.make_page(CLASSES, IMAGES, register))
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))
    models, confidence = text.split("What it gets wrong")[0], text.split("How far to trust")[1]
    for title in ("Not the last choice", "Mean doubt"):
        assert models.count(title) == 3  # models, and two tables of differences
    assert confidence.count("Spread") >= 2
    assert "Lower is better: NLL, nats; Brier score; Calibration error; Spread; Mean doubt." in text
    rose = text.partition("What changed against the champion")[2].partition("Mean doubt ")[2]
    assert rose.split(" ")[3] == "▼"  # a higher value of a metric of which lower is better
    assert register.comparison.figures["doubt"].ci95[0] > 0
    assert f"| doubt | {register.champion.test.figures['doubt'].value:.4f} | " in as_markdown(
        register, "champion"
    )


def test_of_equal_posteriors_it_does_not_differ():
    labels, given = reports.four_models(CLASSES, IMAGES)
    change = compare(
        Scored.of(labels, given["base"], reports.HOW),
        Scored.of(labels, np.array(given["base"]), reports.HOW),
    )
    assert [change[name] for name in NAMES] == [{"value": 0.0, "ci95": [0.0, 0.0]}] * 3
