"""The gate: whether a candidate may take the champion's place.

All models answer the same test images, and every judgement is of pairs. What a model is shipped
by, `evaluate.metric`, must not be shown to fall at all; and a loss beyond the permitted one must be
ruled out by the interval of the difference. A small test set can rule out nothing, and would so
keep every champion for ever: where it cannot tell, the Brier score decides, which sees in few
images what a count of right answers does not. The permitted loss counts from the best champion so
far as well, so that small losses do not add up from one champion to the next. What a model is
guarded by, the recall of each class and the calibration, fails when harm is shown: the loss is
above the limit, and its interval above 0.

A condition is a function that returns a `Check` and is called in `judge`. Reports, console, MLflow
and page show that object; no other code knows the conditions one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import some
from pipeline.evaluation.judging.findings import Check, RecallChange, RecallGroup
from pipeline.evaluation.judging.recalls import POWER, Recalls
from pipeline.evaluation.metrics.table import Metric
from pipeline.evaluation.reports.words import interval_text, number
from pipeline.params import Register

Block = Mapping[str, Any]


@dataclass(frozen=True)
class AgainstBaseline:
    """What candidate and baseline reach by the metric that models are shipped by.

    Attributes:
        candidate: its value.
        baseline: its value.
        difference: {"value": candidate - baseline, "ci95": [low, high]}, paired.
    """

    candidate: float
    baseline: float
    difference: Block


@dataclass(frozen=True)
class AgainstChampion:
    """What candidate and champion show on the same images.

    Attributes:
        comparison: metrics of the candidate minus those of the champion, see `compare`.
        brier: see `brier_difference`, likewise.
        recalls: of the classes, and of small ones together.
        latency_ratio: time per image, candidate by champion.
    """

    comparison: Block
    brier: float
    recalls: Recalls
    latency_ratio: float


@dataclass(frozen=True)
class AgainstBest:
    """What candidate and the best champion so far reach on the same images.

    Attributes:
        version: of the best champion.
        difference: as in `AgainstBaseline`, candidate - best champion.
        brier: see `brier_difference`, likewise.
    """

    version: str
    difference: Block
    brier: float


def judge(
    baseline: AgainstBaseline | None,
    champion: AgainstChampion | None,
    best: AgainstBest | None,
    rules: Register,
    metric: Metric,
) -> tuple[Check, ...]:
    """Check each condition of the gate.

    Args:
        baseline: the comparison with the hand-crafted classifier; None where none was fitted.
        champion: that with the champion; None where there is none.
        best: that with the best champion so far; None where it is the champion itself.
        rules: the limits.
        metric: that models are shipped by.
    """
    if baseline:
        checks = [check_baseline(baseline, rules, metric)]
    else:
        checks = [skip_baseline(metric, first=champion is None)]
    if champion:
        lost = Loss(champion.comparison[metric.name], champion.brier)
        checks.append(check_loss(lost, rules.max_loss, metric, "the champion"))
    if best:
        against = f"version {best.version}, the best champion so far"
        checks.append(
            check_loss(
                Loss(best.difference, best.brier), rules.max_loss, metric, against, "loss_from_best"
            )
        )
    if champion:
        checks.append(check_recalls(champion.recalls.classes, rules.max_class_recall_loss))
        if champion.recalls.groups:
            checks.append(check_groups(champion.recalls.groups, rules.max_class_recall_loss))
        checks += [
            check_calibration(champion.comparison["ece"], rules.max_ece_gain),
            check_latency(champion.latency_ratio, rules.max_latency_ratio),
        ]
    return tuple(checks)


def check_baseline(met: AgainstBaseline, rules: Register, metric: Metric) -> Check:
    """Ask for a gain over the baseline, by `rules.min_gain_over_baseline` at least.

    With `rules.baseline: interval` the whole interval of the gain must lie above 0.
    """
    gain, (low, high) = met.difference["value"], met.difference["ci95"]
    least, shown = rules.min_gain_over_baseline, low > 0
    by_interval = rules.baseline == "interval"
    enough = gain > 0 and gain >= least
    passed = enough and (shown or not by_interval)
    interval = interval_text((low, high), sign=True)
    if not enough:
        verdict = "too little"
    elif shown:
        verdict = "as asked, and shown by the interval"
    else:
        verdict = "as asked" if passed else "too little"
        verdict += ", but that there is any gain is not shown"
    asked = "its interval above 0" if by_interval else "more than 0"
    return Check(
        name="baseline",
        title=f"{metric.title} above the baseline's",
        value=gain,
        finding=number(gain, sign=True),
        detail=interval,
        limit=("interval above 0" if by_interval else "above 0")
        + (f", at least {least:g}" if least else ""),
        passed=passed,
        reason=(
            f"{metric.noun} {met.candidate:.4f} against the baseline's"
            f" {met.baseline:.4f}: a gain of {_signed(gain)}, 95 % interval {_signed(low)} to"
            f" {_signed(high)}, {verdict} ({asked}, register.baseline: {rules.baseline}; at least"
            f" register.min_gain_over_baseline, {least:g})"
        ),
        shown=shown,
        caveat=""
        if shown
        else f"better than the baseline is not shown: {number(gain, sign=True)} {interval}",
    )


def skip_baseline(metric: Metric, *, first: bool) -> Check:
    """Pass a candidate without a baseline; of a first model nothing is shown then."""
    missing = "no baseline was fitted (baseline.classifier: none)"
    return Check(
        name="baseline",
        title=f"{metric.title} above the baseline's",
        value=0.0,
        finding="not asked",
        detail="",
        limit="none",
        passed=True,
        reason=f"skipped: {missing}",
        shown=not first,
        caveat=missing,
    )


@dataclass(frozen=True)
class Loss:
    """What a candidate may have lost against another model.

    Attributes:
        difference: by the metric, {"value": candidate - other, "ci95": [low, high]}.
        brier: see `brier_difference`, candidate - other.
    """

    difference: Block
    brier: float


def check_loss(
    lost: Loss, max_loss: float, metric: Metric, against: str, name: str = "loss"
) -> Check:
    """Refuse a loss that is shown, and one beyond `max_loss` that is not ruled out.

    A difference whose interval lies below 0 is refused whatever the margin. One whose interval lies
    above -`max_loss` is passed. Between the two the images cannot tell, and the Brier score must
    not be worse: it is a proper score of the probabilities themselves, whose paired difference
    varies less than that of answers which are right or wrong.

    Args:
        lost: what the candidate may have lost.
        max_loss: what may be lost, at least 0.
        metric: that models are shipped by.
        against: which model the other one is.
        name: of the condition.
    """
    value, (low, high) = lost.difference["value"], lost.difference["ci95"]
    interval = interval_text((low, high), sign=True)
    ruled_out = low >= -max_loss
    if high < 0:
        verdict = "it is shown to be lower, which no margin permits"
    elif ruled_out:
        verdict = "a larger loss can be ruled out"
    else:
        verdict = (
            "a larger loss cannot be ruled out by so few images, and the Brier score is"
            f" {'not worse' if lost.brier <= 0 else 'worse'} ({_signed(lost.brier)}, lower is"
            " better)"
        )
    return Check(
        name=name,
        title=f"{metric.title} against {against}",
        value=value,
        finding=number(value, sign=True),
        detail=interval,
        limit=f"interval above \N{MINUS SIGN}{max_loss:g} and not below 0, or no worse Brier score",
        passed=high >= 0 and (ruled_out or lost.brier <= 0),
        reason=(
            f"{metric.noun} {_signed(value)} against {against}, 95 % interval {_signed(low)} to"
            f" {_signed(high)}; register.max_loss is {max_loss:g}: {verdict}"
        ),
        shown=ruled_out,
        caveat=""
        if ruled_out
        else f"a loss above {max_loss:g} against {against} is not ruled out:"
        f" {number(value, sign=True)} {interval}",
    )


def check_recalls(recalls: Mapping[str, RecallChange], max_loss: float) -> Check:
    """Refuse where a class is shown to lose recall, and more than `max_loss` of it."""
    return _check_recalls(
        [(f"class {name}", one) for name, one in recalls.items()],
        max_loss,
        Words("class_recall", "Recall of each class", "class"),
    )


def check_groups(groups: Sequence[RecallGroup], max_loss: float) -> Check:
    """Refuse likewise where small classes together are shown to lose recall."""
    return _check_recalls(
        [(f"the {len(one.classes)} classes {some(one.classes, 3)}", one) for one in groups],
        max_loss,
        Words("pooled_recall", "Recall of small classes, pooled", "group"),
    )


@dataclass(frozen=True)
class Words:
    """What a condition about recalls is called, and what it is about."""

    name: str
    title: str
    noun: str


def _check_recalls(
    recalls: Sequence[tuple[str, RecallChange]], max_loss: float, words: Words
) -> Check:
    lost = [(name, one) for name, one in recalls if one.loss > max_loss and one.interval[0] > 0]
    place, worst = max(lost or recalls, key=lambda item: item[1].loss)
    loss = worst.loss
    if lost:
        listed = some(
            f"{name} {one.champion:.3f} to {one.candidate:.3f} ({one.support} images)"
            for name, one in lost
        )
        reason = f"recall falls by more than register.max_class_recall_loss, {max_loss:g}: {listed}"
    elif loss > max_loss:
        reason = (
            f"recall falls most in {place}, by {loss:.4f}: above"
            f" register.max_class_recall_loss, {max_loss:g}, but perhaps by chance among its"
            f" {worst.support} images"
        )
    elif loss > 0:
        reason = (
            f"recall falls most in {place}, by {loss:.4f}: within"
            f" register.max_class_recall_loss, {max_loss:g}"
        )
    else:
        reason = f"recall falls in no {words.noun}"
    caveat = _power(recalls, words.noun)
    return Check(
        name=words.name,
        title=words.title,
        value=loss,
        finding=number(-loss) if loss > 0 else "falls in none",
        detail=f"in {place}" if loss > 0 else "",
        limit=f"no loss above {max_loss:g} beyond chance",
        passed=not lost,
        reason=reason if lost else f"{reason}; {caveat}",
        caveat=caveat,
    )


def _power(recalls: Sequence[tuple[str, RecallChange]], noun: str) -> str:
    """Say from which loss on the test would have noticed."""
    seen = [one.seen_from for _, one in recalls if one.seen_from is not None]
    if not seen:
        return f"with so few images, no loss would have been noticed in any {noun}"
    ends = dict.fromkeys(f"{end:.3f}" for end in (min(seen), max(seen)))
    by = f", by {noun}," if len(ends) > 1 else ""
    blind = len(recalls) - len(seen)
    of_none = f"; in {blind} of {len(recalls)}, for lack of images, none" if blind else ""
    return (
        f"losses from {' to '.join(ends)}{by} would have been noticed"
        f" (power {100 * POWER:g} %){of_none}"
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
            f"calibration error {_signed(value)} against the champion's, 95 % interval"
            f" {_signed(low)} to {_signed(high)}: {verdict} register.max_ece_gain, {max_gain:g}"
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


def _signed(value: float) -> str:
    return number(value, sign=True, digits=4)
