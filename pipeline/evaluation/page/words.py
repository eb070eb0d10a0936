"""How the page names and writes what the reports hold."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.reports.summary import format_figure

Block = Mapping[str, Any]

_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "average_precision": "Average precision",
    "nll": "NLL, nats",
    "brier": "Brier score",
    "ece": "Calibration error",
}
# Metrics of confidence; of these less is better.
OF_CONFIDENCE = ("nll", "brier", "ece")


def titles(block: Block) -> dict[str, str]:
    """Return the titles of the metrics that a block or a comparison holds, by key, in order."""
    found = [key for key in block if key in _TITLES or key.startswith("top_")]
    return {key: _TITLES.get(key) or f"Top-{key.split('_')[1]} accuracy" for key in found}


def figure_text(figure: Block, sign: bool = False) -> tuple[str, str]:
    """Return value and interval of a figure as '0.974' and '[0.923, 0.996]', in one piece each."""
    value, interval = format_figure(figure, sign).replace("-", "\N{MINUS SIGN}").split(" ", 1)
    return value, interval.replace(" ", "\N{NO-BREAK SPACE}")


def number(value: float, sign: bool = False) -> str:
    """Write a number to three digits, with a true minus sign."""
    return f"{value:{'+' if sign else ''}.3f}".replace("-", "\N{MINUS SIGN}")


def limit(value: float) -> str:
    """Write a limit as params.yaml has it."""
    return f"{value:g}"


def p_value(value: float) -> str:
    """Write a p-value as 'p = 0.042'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def per_cent(value: float) -> str:
    """Write a share as '4.2 %', without letting an almost look like an all."""
    text = f"{100 * value:.1f}"
    text = "99.9" if text == "100.0" and value < 1 else text
    return f"{text}\N{NO-BREAK SPACE}%"
