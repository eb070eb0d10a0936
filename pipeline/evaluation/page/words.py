"""How the page writes what the reports hold."""

from pipeline.evaluation.reports.schema import Figure
from pipeline.evaluation.reports.words import interval_text, number


def figure_text(figure: Figure, sign: bool = False) -> tuple[str, str]:
    """Return value and interval of a figure as '0.974' and '[0.923, 0.996]'."""
    value = "n/a" if figure.value is None else number(figure.value, sign)
    return value, interval_text(figure.ci95, sign)


def p_value(value: float) -> str:
    """Write a p-value as 'p = 0.042'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def retrieval_title(name: str) -> str:
    """Write the name of a figure of retrieve.json: 'Recall@5', 'Mean average precision'."""
    return name.replace("_at_", "@").replace("_", " ").capitalize()


def per_cent(value: float) -> str:
    """Write a share as '4.2 %', without letting an almost look like an all."""
    text = f"{100 * value:.1f}"
    text = "99.9" if text == "100.0" and value < 1 else text
    return f"{text}\N{NO-BREAK SPACE}%"
