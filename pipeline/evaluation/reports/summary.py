"""The models side by side, in a few lines of text."""

from collections.abc import Mapping
from typing import Any

Block = Mapping[str, Any]

_COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


# The simplest first; the last is the one that is shipped.
MODELS = ("baseline", "base", "tuned", "final")


def model_blocks(evaluate: Block) -> dict[str, Block]:
    """Return the test metrics of the four models by name, the simplest first.

    Args:
        evaluate: reports/evaluate.json.
    """
    return {name: evaluate[name]["test"] for name in MODELS}


def format_figure(figure: Block, sign: bool = False) -> str:
    """Write {"value": v, "ci95": [low, high]} as '0.974 [0.923, 0.996]'."""
    mark = "+" if sign else ""
    low, high = figure["ci95"]
    value = "n/a" if figure["value"] is None else f"{figure['value']:{mark}.3f}"
    return f"{value} [{low:{mark}.3f}, {high:{mark}.3f}]"


def summary_table(evaluate: Block) -> str:
    """Write accuracy, balanced accuracy and macro-F1 of each model as plain text.

    Args:
        evaluate: reports/evaluate.json.
    """
    blocks = model_blocks(evaluate)
    lines = [["test set, 95 % intervals", *_COLUMNS.values()]]
    lines += [
        [name, *(format_figure(block[key]) for key in _COLUMNS)] for name, block in blocks.items()
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
