"""The gate: whether a candidate may take the champion's place.

Both models answer the same test images, and every judgement is of pairs. What a model is chosen
by, macro-F1, must not be shown to fall: the interval of the difference lies above the permitted
loss, or the candidate is no worse on these very images (a small test set can show nothing, and
would otherwise keep every champion for ever). What it is guarded by, the recall of each class and
the calibration, fails when harm is shown: the loss is above the limit, and its interval above 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import some
from pipeline.evaluation.metrics import intervals
from pipeline.evaluation.metrics.definitions import Floats, answers

Block = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One condition of the gate.

    Attributes:
        name: of the condition.
        passed: whether it holds.
        value: what was found.
        limit: what it was held against, the key of `register` that says so in `reason`.
        reason: a sentence with both.
    """

    name: str
    passed: bool
    value: float
    limit: float
    reason: str


def check_baseline(candidate: float, baseline: float, min_gain: float) -> Check:
    """Ask for a macro-F1 above the baseline's, by `min_gain` at least."""
    gain = candidate - baseline
    passed = gain > 0 and gain >= min_gain
    reason = (
        f"macro-F1 {candidate:.4f} against the baseline's {baseline:.4f}: a gain of {gain:+.4f},"
        f" {'as asked' if passed else 'too little'} (more than 0, and at least"
        f" register.min_gain_over_baseline, {min_gain:g})"
    )
    return Check("baseline", passed, gain, min_gain, reason)


def check_macro_f1(difference: Block, max_loss: float) -> Check:
    """Ask for a paired interval above -`max_loss`, or for a difference that is not negative.

    Args:
        difference: {"value": candidate - champion, "ci95": [low, high]}.
        max_loss: what may be lost, at least 0.
    """
    value, (low, high) = difference["value"], difference["ci95"]
    if low >= -max_loss:
        verdict = "a larger loss can be ruled out"
    elif value >= 0:
        verdict = "a larger loss cannot be ruled out by so few images, but on these there is none"
    else:
        verdict = "it is lower, and a larger loss cannot be ruled out"
    reason = (
        f"macro-F1 {value:+.4f} against the champion's, 95 % interval {low:+.4f} to {high:+.4f};"
        f" register.max_macro_f1_loss is {max_loss:g}: {verdict}"
    )
    return Check("macro_f1", low >= -max_loss or value >= 0, value, max_loss, reason)


def compare_recalls(
    labels: npt.NDArray[np.integer], candidate: Floats, champion: Floats, classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Compare the recall of each class that has images, champion minus candidate.

    The intervals are Bonett and Price's, and hold for all classes together in 95 % of test sets
    (Bonferroni): of a hundred classes some always look bad. They know how few images a class has:
    one error in three shows nothing, and nor do three in three.

    Args:
        labels: n class numbers.
        candidate: n x k posteriors.
        champion: n x k posteriors.
        classes: k names.

    Returns:
        {class: {"support": images, "candidate": recall, "champion": recall, "loss": champion -
        candidate, "interval": [low, high]}}.
    """
    new, old = answers(labels, candidate), answers(labels, champion)
    only_old = np.bincount(new.labels[old.right & ~new.right], minlength=len(classes))
    only_new = np.bincount(new.labels[new.right & ~old.right], minlength=len(classes))
    present = np.flatnonzero(new.support)
    confidence = 1 - 0.05 / len(present)
    found = {}
    for row in map(int, present):
        support = int(new.support[row])
        interval = intervals.paired_proportions(
            only_old[row], only_new[row], np.asarray(support), confidence
        )
        found[classes[row]] = {
            "support": support,
            "candidate": int(new.hits[row]) / support,
            "champion": int(old.hits[row]) / support,
            "loss": (int(old.hits[row]) - int(new.hits[row])) / support,
            "interval": interval.tolist(),
        }
    return found


def check_recalls(recalls: Mapping[str, Block], max_loss: float) -> Check:
    """Refuse where a class is shown to lose recall, and more than `max_loss` of it."""
    lost = {
        name: block
        for name, block in recalls.items()
        if block["loss"] > max_loss and block["interval"][0] > 0
    }
    worst = max(lost or recalls, key=lambda name: float(recalls[name]["loss"]))
    loss = float(recalls[worst]["loss"])
    if lost:
        listed = some(
            f"class {name} {block['champion']:.3f} to {block['candidate']:.3f}"
            f" ({block['support']} images)"
            for name, block in lost.items()
        )
        reason = f"recall falls by more than register.max_class_recall_loss, {max_loss:g}: {listed}"
    elif loss > max_loss:
        reason = (
            f"recall falls most in class {worst}, by {loss:.4f}: above"
            f" register.max_class_recall_loss, {max_loss:g}, but perhaps by chance among its"
            f" {recalls[worst]['support']} images"
        )
    elif loss > 0:
        reason = (
            f"recall falls most in class {worst}, by {loss:.4f}: within"
            f" register.max_class_recall_loss, {max_loss:g}"
        )
    else:
        reason = "recall falls in no class"
    return Check("class_recall", not lost, loss, max_loss, reason)


def check_calibration(difference: Block, max_gain: float) -> Check:
    """Refuse a calibration error that is shown to rise, and by more than `max_gain`.

    Args:
        difference: of the ECE, {"value": candidate - champion, "ci95": [low, high]}.
        max_gain: what it may rise by, at least 0.
    """
    value, (low, high) = difference["value"], difference["ci95"]
    failed = value > max_gain and low > 0
    if failed:
        verdict = "more than"
    elif value > max_gain:
        verdict = "perhaps by chance more than"
    else:
        verdict = "within"
    reason = (
        f"calibration error {value:+.4f} against the champion's, 95 % interval {low:+.4f} to"
        f" {high:+.4f}: {verdict} register.max_ece_gain, {max_gain:g}"
    )
    return Check("calibration", not failed, value, max_gain, reason)


def check_latency(ratio: float, max_ratio: float) -> Check:
    """Permit at most `max_ratio` times the champion's time per image."""
    passed = ratio <= max_ratio
    reason = (
        f"{ratio:.2f} times the champion's time per image: {'within' if passed else 'more than'}"
        f" register.max_latency_ratio, {max_ratio:g}"
    )
    return Check("latency", passed, ratio, max_ratio, reason)


def as_markdown(decision: Block, alias: str) -> str:
    """Write a decision for people who look at the version in the registry.

    Args:
        decision: with "promoted", "checks", "champion" and "comparison".
        alias: that was asked for.
    """
    verdict = "Promoted" if decision["promoted"] else "Not promoted"
    lines = [
        f"- {'passed' if check['passed'] else 'failed'}: {check['reason']}"
        for check in decision["checks"]
    ]
    parts = [f"**{verdict}** to `{alias}`.", "\n".join(lines)]
    if decision["comparison"]:
        parts.append(_table(decision))
    return "\n\n".join(parts)


def _table(decision: Block) -> str:
    champion = decision["champion"]
    lines = [
        f"| test metric | champion, version {champion['version']} | candidate - champion | 95 % |",
        "|---|---|---|---|",
    ]
    for name, difference in decision["comparison"].items():
        if difference.get("value") is not None:
            low, high = difference["ci95"]
            lines.append(
                f"| {name} | {champion['test'][name]['value']:.4f} | {difference['value']:+.4f}"
                f" | {low:+.4f} to {high:+.4f} |"
            )
    return "\n".join(lines)
