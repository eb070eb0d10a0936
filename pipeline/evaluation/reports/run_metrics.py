"""The figures of reports as flat metrics: each name with one number, for a list of runs.

What stands before the slash is a section of charts in MLflow's UI.
"""

from collections.abc import Mapping
from typing import Any

# The one that is compared most; its interval is worth two columns more.
_WITH_INTERVAL = {"macro_f1"}

Block = Mapping[str, Any]
Metrics = dict[str, float]


def network_metrics(model: Block) -> Metrics:
    """Return what a network reaches on the test images as they are.

    `test/<metric>`; `.low` and `.high` are the ends of macro-F1's 95 % interval; `.calibrated` is
    the value at `test/temperature`, which was fitted on validation images.

    Args:
        model: of reports/evaluate.json, such as its "base".
    """
    calibration = model["calibration"]
    calibrated = _values(calibration["test"], "test/", ".calibrated")
    temperature = calibration["temperature"]["value"]
    return _judged(model["test"], "test/") | calibrated | {"test/temperature": temperature}


def final_metrics(evaluate: Block, tta: Block) -> Metrics:
    """Return what the final model reaches, as it is shipped: with its views and temperature.

    `test_final/<metric>` as in `network_metrics`, and `gain.macro_f1`: its difference from the
    tuned network without views.

    Args:
        evaluate: reports/evaluate.json.
        tta: reports/tta.json.
    """
    gain = {"macro_f1": evaluate["comparisons"]["final_minus_tuned"]["macro_f1"]}
    return {
        **_judged(evaluate["final"]["test"], "test_final/"),
        **_judged(gain, "test_final/gain."),
        "test_final/temperature": tta["temperature"]["value"],
        "test_final/views": max(tta["chosen"]["count"], 1),
    }


def _judged(block: Block, prefix: str) -> Metrics:
    figures = {key: value for key, value in block.items() if key not in ("images", "per_class")}
    metrics = _values(figures, prefix)
    for key in figures.keys() & _WITH_INTERVAL:
        low, high = figures[key]["ci95"]
        metrics |= {f"{prefix}{key}.low": low, f"{prefix}{key}.high": high}
    return metrics


def _values(figures: Block, prefix: str, suffix: str = "") -> Metrics:
    """Take the values; one that is not defined is left out."""
    return {
        f"{prefix}{key}{suffix}": figure["value"]
        for key, figure in figures.items()
        if figure["value"] is not None
    }
