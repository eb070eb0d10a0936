from pipeline.evaluation.registration.run_metrics import final_metrics, network_metrics
from pipeline.evaluation.reports.schema import EvaluateReport, Model
from tests import reports

CLASSES = ("ant", "bee")


def figure(value, low=0.0, high=1.0):
    return {"value": value, "ci95": [low, high]}


def model(**changes):
    """A model's block with few metrics."""
    test = {
        "images": 10,
        "accuracy": figure(0.9, 0.8, 0.95),
        "balanced_accuracy": figure(0.7, 0.5, 0.8),
        "macro_f1": figure(0.6, 0.4, 0.7),
        "average_precision": figure(None),
        "nll": figure(0.5, 0.4, 0.6),
        "per_class": {},
    }
    calibration = {
        "images": 5,
        "temperature": figure(1.5, 1.2, 1.9),
        "test": {"nll": figure(0.45, 0.3, 0.6)},
        "change": {"nll": figure(-0.05, -0.1, 0.0)},
    }
    return {"test": test | changes, "calibration": calibration}


def test_a_networks_figures():
    assert network_metrics(Model.model_validate(model())) == {
        "test/accuracy": 0.9,
        "test/balanced_accuracy": 0.7,
        "test/macro_f1": 0.6,
        "test/macro_f1.low": 0.4,
        "test/macro_f1.high": 0.7,
        "test/nll": 0.5,
        "test/nll.calibrated": 0.45,
        "test/temperature": 1.5,
    }


def test_the_final_models_figures():
    evaluate = reports.evaluate_report(CLASSES, 8).model_dump()
    evaluate["metrics"] = []
    evaluate["final"] = model(nll=figure(0.3, 0.2, 0.4)) | {"confusions": []}
    evaluate["comparisons"]["final_minus_tuned"]["macro_f1"] = figure(0.05, 0.01, 0.1)
    evaluate = EvaluateReport.model_validate(evaluate)
    chosen = {"count": 3, "views": ["a", "b", "c"], "reason": "", "untried": [], "why_untried": ""}
    tta = reports.changed(
        reports.tta_report(CLASSES, 8), temperature=figure(1.25, 1.0, 1.5), chosen=chosen
    )
    found = final_metrics(evaluate, tta)
    assert found["test_final/nll"] == 0.3
    assert found["test_final/macro_f1.low"] == 0.4
    assert found["test_final/gain.macro_f1"] == 0.05
    assert found["test_final/gain.macro_f1.high"] == 0.1
    assert found["test_final/temperature"] == 1.25
    assert found["test_final/views"] == 3
    assert not [name for name in found if name.endswith("calibrated")]
    # Without views the image as it is counts as one.
    none = reports.changed(tta, chosen=chosen | {"count": 0})
    assert final_metrics(evaluate, none)["test_final/views"] == 1
