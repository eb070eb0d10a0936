"""The figures of reports as flat metrics: each name with one number, for a list of runs.

What stands before the slash is a section of charts in MLflow's UI.
"""

from collections.abc import Mapping

from pipeline.evaluation.reports.schema import EvaluateReport, Figure, Model, TtaReport

# The one that is compared most; its interval is worth two columns more.
_WITH_INTERVAL = "macro_f1"

Metrics = dict[str, float]


def network_metrics(model: Model) -> Metrics:
    """Return what a network reaches on the test images as they are.

    `test/<metric>`; `.low` and `.high` are the ends of macro-F1's 95 % interval; `.calibrated` is
    the value at `test/temperature`, which was fitted on validation images.
    """
    calibration = model.calibration
    return {
        **_judged(model.test.figures, "test/"),
        **_values(calibration.test, "test/", ".calibrated"),
        **_values({"temperature": calibration.temperature}, "test/"),
    }


def final_metrics(evaluate: EvaluateReport, tta: TtaReport) -> Metrics:
    """Return what the final model reaches, as it is shipped: with its views and temperature.

    `test_final/<metric>` as in `network_metrics`, and `gain.macro_f1`: its difference from its
    network without views.
    """
    gain = {"macro_f1": evaluate.comparisons[f"final_minus_{tta.network.name}"].macro_f1}
    return {
        **_judged(evaluate.final.test.figures, "test_final/"),
        **_judged(gain, "test_final/gain."),
        **_values({"temperature": tta.temperature}, "test_final/"),
        "test_final/views": max(tta.chosen.count, 1),
    }


def _judged(figures: Mapping[str, Figure], prefix: str) -> Metrics:
    low, high = figures[_WITH_INTERVAL].ci95
    ends = {f"{prefix}{_WITH_INTERVAL}.low": low, f"{prefix}{_WITH_INTERVAL}.high": high}
    return _values(figures, prefix) | ends


def _values(figures: Mapping[str, Figure], prefix: str, suffix: str = "") -> Metrics:
    """Take the values; one that is not defined is left out."""
    return {
        f"{prefix}{name}{suffix}": figure.value
        for name, figure in figures.items()
        if figure.value is not None
    }
