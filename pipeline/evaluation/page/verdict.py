"""Would you ship this model: what reports/register.json says, in a few words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.page.words import figure_text, limit, number

Block = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The first thing that the page says.

    Attributes:
        decision: 'promoted', 'refused' or 'unchanged'.
        answer: two words or so.
        sentence: which version is what now.
    """

    decision: str
    answer: str
    sentence: str


@dataclass(frozen=True)
class Row:
    """A condition of the gate, as a line of a table.

    Attributes:
        title: what was asked.
        found: what was found.
        detail: its interval, or where it was found; may be empty.
        limit: what it was held against.
        passed: whether it holds.
        reason: the gate's own sentence.
    """

    title: str
    found: str
    detail: str
    limit: str
    passed: bool
    reason: str


def verdict(register: Block) -> Verdict:
    """Say whether to ship the model, and which version holds the alias.

    Args:
        register: reports/register.json.
    """
    alias, champion = register["alias"], register["champion"]
    this = f"{register['model']} version {register['version']}"
    holds = alias in register["aliases"]
    if register["decision"] == "unchanged":
        return Verdict(
            "unchanged", "Nothing to ship.", f"This model is the {alias} already: {this}."
        )
    if register["decision"] == "promoted":
        if not holds:
            now = f"was promoted; the alias {alias} has been moved since"
        elif champion:
            now = f"is {alias} now, in place of version {champion['version']}"
        else:
            now = f"is {alias} now"
        return Verdict("promoted", "Ship it.", f"{this} {now}.")
    others = f"version {champion['version']} is {alias}" if champion else f"there is no {alias}"
    stays = " and ".join(register["aliases"]) or "without an alias"
    return Verdict("refused", "Not yet.", f"{this} stays {stays}; {others}.")


def check_rows(register: Block) -> list[Row]:
    """Return the conditions of the gate in their order.

    Args:
        register: reports/register.json.
    """
    return [
        Row(*_written(check, register), passed=check["passed"], reason=check["reason"])
        for check in register["checks"]
    ]


def _written(check: Block, register: Block) -> tuple[str, str, str, str]:
    """Return title, what was found, its detail, and the limit of a condition."""
    name, most = check["name"], limit(check["limit"])
    comparison = register["comparison"] or {}
    if name == "baseline":
        least = f"above 0, at least {most}" if check["limit"] else "above 0"
        return "Macro-F1 above the baseline's", number(check["value"], sign=True), "", least
    if name == "macro_f1" and name in comparison:
        found = figure_text(comparison[name], sign=True)
        return (
            "Macro-F1 against the champion's",
            *found,
            f"interval above \N{MINUS SIGN}{most}, or no loss",
        )
    if name == "class_recall":
        found = _lost(check["value"], register)
        return "Recall of each class", *found, f"no loss above {most} beyond chance"
    if name == "calibration" and "ece" in comparison:
        found = figure_text(comparison["ece"], sign=True)
        return "Calibration error", *found, f"no rise above {most} beyond chance"
    if name == "latency":
        ratio = f"{check['value']:.2f} times the champion's"
        return "Time per image", ratio, "", f"at most {most} times"
    return name.replace("_", " ").capitalize(), number(check["value"], sign=True), "", most


def _lost(loss: float, register: Block) -> tuple[str, str]:
    """Return the largest loss of recall, and the class that it was found in."""
    if loss <= 0:
        return "falls in none", ""
    classes = register["classes"] or {}
    name = next((name for name, block in classes.items() if block["loss"] == loss), "")
    return number(-loss), f"in class {name}"
