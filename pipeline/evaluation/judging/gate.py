"""The gate: whether a candidate may take the champion's place.

Both models answer the same test images, and every judgement is of pairs. What a model is chosen
by, macro-F1, must not be shown to fall: the interval of the difference lies above the permitted
loss, or the candidate is no worse on these very images (a small test set can show nothing, and
would otherwise keep every champion for ever). What it is guarded by, the recall of each class and
the calibration, fails when harm is shown: the loss is above the limit, and its interval above 0.

A condition is a function that returns a `Check` and is called in `judge`. Reports, console, MLflow
and page show that object; no other code knows the conditions one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import some
from pipeline.evaluation.judging.findings import Check, RecallChange
from pipeline.evaluation.judging.words import interval_text, number
from pipeline.evaluation.metrics import intervals
from pipeline.evaluation.metrics.scores import Floats, answers
from pipeline.params import Register

Block = Mapping[str, Any]


@dataclass(frozen=True)
class AgainstChampion:
    """What candidate and champion show on the same images.

    Attributes:
        comparison: metrics of the candidate minus those of the champion, see `compare`.
        recalls: of each class that has images.
        latency_ratio: time per image, candidate by champion.
    """

    comparison: Block
    recalls: Mapping[str, RecallChange]
    latency_ratio: float


def judge(
    candidate: Mapping[str, float],
    baseline: Mapping[str, float],
    met: AgainstChampion | None,
    rules: Register,
) -> tuple[Check, ...]:
    """Check each condition of the gate.

    Args:
        candidate: test metrics by name.
        baseline: those of the hand-crafted classifier.
        met: the comparison with the champion; None where there is no champion.
        rules: the limits.
    """
    checks = [
        check_baseline(candidate["macro_f1"], baseline["macro_f1"], rules.min_gain_over_baseline)
    ]
    if met:
        checks += [
            check_macro_f1(met.comparison["macro_f1"], rules.max_macro_f1_loss),
            check_recalls(met.recalls, rules.max_class_recall_loss),
            check_calibration(met.comparison["ece"], rules.max_ece_gain),
            check_latency(met.latency_ratio, rules.max_latency_ratio),
        ]
    return tuple(checks)


def check_baseline(candidate: float, baseline: float, min_gain: float) -> Check:
    """Ask for a macro-F1 above the baseline's, by `min_gain` at least."""
    gain = candidate - baseline
    passed = gain > 0 and gain >= min_gain
    return Check(
        name="baseline",
        title="Macro-F1 above the baseline's",
        value=gain,
        finding=number(gain, sign=True),
        detail="",
        limit=f"above 0, at least {min_gain:g}" if min_gain else "above 0",
        passed=passed,
        reason=(
            f"macro-F1 {candidate:.4f} against the baseline's {baseline:.4f}: a gain of"
            f" {gain:+.4f}, {'as asked' if passed else 'too little'} (more than 0, and at least"
            f" register.min_gain_over_baseline, {min_gain:g})"
        ),
    )


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
    return Check(
        name="macro_f1",
        title="Macro-F1 against the champion's",
        value=value,
        finding=number(value, sign=True),
        detail=interval_text((low, high), sign=True),
        limit=f"interval above \N{MINUS SIGN}{max_loss:g}, or no loss",
        passed=low >= -max_loss or value >= 0,
        reason=(
            f"macro-F1 {value:+.4f} against the champion's, 95 % interval {low:+.4f} to"
            f" {high:+.4f}; register.max_macro_f1_loss is {max_loss:g}: {verdict}"
        ),
    )


def compare_recalls(
    labels: npt.NDArray[np.integer], candidate: Floats, champion: Floats, classes: Sequence[str]
) -> dict[str, RecallChange]:
    """Compare the recall of each class that has images, champion minus candidate.

    The intervals are Bonett and Price's, and hold for all classes together in 95 % of test sets
    (Bonferroni): of a hundred classes some always look bad. They know how few images a class has:
    one error in three shows nothing, and nor do three in three.

    Args:
        labels: n class numbers.
        candidate: n x k posteriors.
        champion: n x k posteriors.
        classes: k names.
    """
    new, old = answers(labels, candidate), answers(labels, champion)
    only_old = np.bincount(new.labels[old.right & ~new.right], minlength=len(classes))
    only_new = np.bincount(new.labels[new.right & ~old.right], minlength=len(classes))
    present = np.flatnonzero(new.support)
    confidence = 1 - 0.05 / len(present)
    found = {}
    for row in map(int, present):
        support = int(new.support[row])
        low, high = intervals.paired_proportions(
            only_old[row], only_new[row], np.asarray(support), confidence
        ).tolist()
        found[classes[row]] = RecallChange(
            support=support,
            candidate=int(new.hits[row]) / support,
            champion=int(old.hits[row]) / support,
            loss=(int(old.hits[row]) - int(new.hits[row])) / support,
            interval=(low, high),
        )
    return found


def check_recalls(recalls: Mapping[str, RecallChange], max_loss: float) -> Check:
    """Refuse where a class is shown to lose recall, and more than `max_loss` of it."""
    lost = {
        name: one for name, one in recalls.items() if one.loss > max_loss and one.interval[0] > 0
    }
    worst = max(lost or recalls, key=lambda name: recalls[name].loss)
    loss = recalls[worst].loss
    if lost:
        listed = some(
            f"class {name} {one.champion:.3f} to {one.candidate:.3f} ({one.support} images)"
            for name, one in lost.items()
        )
        reason = f"recall falls by more than register.max_class_recall_loss, {max_loss:g}: {listed}"
    elif loss > max_loss:
        reason = (
            f"recall falls most in class {worst}, by {loss:.4f}: above"
            f" register.max_class_recall_loss, {max_loss:g}, but perhaps by chance among its"
            f" {recalls[worst].support} images"
        )
    elif loss > 0:
        reason = (
            f"recall falls most in class {worst}, by {loss:.4f}: within"
            f" register.max_class_recall_loss, {max_loss:g}"
        )
    else:
        reason = "recall falls in no class"
    return Check(
        name="class_recall",
        title="Recall of each class",
        value=loss,
        finding=number(-loss) if loss > 0 else "falls in none",
        detail=f"in class {worst}" if loss > 0 else "",
        limit=f"no loss above {max_loss:g} beyond chance",
        passed=not lost,
        reason=reason,
    )


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
    return Check(
        name="calibration",
        title="Calibration error",
        value=value,
        finding=number(value, sign=True),
        detail=interval_text((low, high), sign=True),
        limit=f"no rise above {max_gain:g} beyond chance",
        passed=not failed,
        reason=(
            f"calibration error {value:+.4f} against the champion's, 95 % interval {low:+.4f} to"
            f" {high:+.4f}: {verdict} register.max_ece_gain, {max_gain:g}"
        ),
    )


def check_latency(ratio: float, max_ratio: float) -> Check:
    """Permit at most `max_ratio` times the champion's time per image."""
    passed = ratio <= max_ratio
    return Check(
        name="latency",
        title="Time per image",
        value=ratio,
        finding=f"{ratio:.2f} times the champion's",
        detail="",
        limit=f"at most {max_ratio:g} times",
        passed=passed,
        reason=(
            f"{ratio:.2f} times the champion's time per image:"
            f" {'within' if passed else 'more than'} register.max_latency_ratio, {max_ratio:g}"
        ),
    )
