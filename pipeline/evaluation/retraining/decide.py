"""What a call does: nothing, a training, or a question to a person."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pipeline.errors import some
from pipeline.evaluation.retraining.record import Call, Changes, DriftReport, NoiseReport, Reason
from pipeline.params import Retrain

Action = Literal["train", "hold", "nothing"]


@dataclass(frozen=True)
class Findings:
    """What a call has found.

    Attributes:
        changes: of the images.
        drift, noise: None where they were not looked for.
        now: UTC.
        champion: whether there is one.
        sections: digests of the sections of params.yaml on which results depend.
    """

    changes: Changes
    drift: DriftReport | None
    noise: NoiseReport | None
    now: datetime
    champion: bool
    sections: Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        action: 'hold' asks a person.
        reasons: for it.
        accepted: keys of what would be held, had nobody agreed to it.
    """

    action: Action
    reasons: tuple[Reason, ...]
    accepted: tuple[str, ...] = ()


def decide(
    found: Findings, history: Sequence[Call], rules: Retrain, accepted: Collection[str] = ()
) -> Decision:
    """Decide what a call does.

    Args:
        found: by it.
        history: the calls before it, the oldest first.
        rules: of params.yaml.
        accepted: keys of reasons that a person has agreed to.
    """
    held = hold_reasons(found, rules)
    waiting = tuple(reason for reason in held if reason.key not in accepted)
    if waiting:
        return Decision("hold", waiting)
    agreed = tuple(reason.key for reason in held)
    reasons = train_reasons(found, history, rules)
    if agreed:
        reasons = (*reasons, Reason(key="accepted", text=f"a person agreed to: {some(agreed)}"))
    if reasons:
        return Decision("train", reasons, agreed)
    return Decision("nothing", (_nothing(found, rules),))


def hold_reasons(found: Findings, rules: Retrain) -> tuple[Reason, ...]:
    """Return what a person should look at before anything is trained."""
    reasons, hold, changes = [], rules.hold, found.changes
    if changes.known:
        for kind, names, most in (
            ("new", changes.new_classes, hold.new_classes),
            ("vanished", changes.vanished_classes, hold.vanished_classes),
        ):
            if most is not None and len(names) > most:
                reasons += [
                    _reason(f"{kind}_class {name}", f"the class {name} {_IS[kind]}")
                    for name in names
                ]
        for key, of, what in (
            ("vanished", changes.known, "{} of {} known images have vanished"),
            ("relabelled", changes.known, "{} of {} known images have another label"),
            ("conflicting", changes.new, "{0} new {2} what others show under another label"),
        ):
            count, most_share = getattr(changes, key), getattr(hold, key)
            if most_share is not None and count > most_share * of:
                examples = some(changes.examples[key], 3)
                rule = f"retrain.hold.{key} is {most_share:g}"
                files = "file shows" if count == 1 else "files show"
                reasons.append(
                    _reason(key, f"{what.format(count, of, files)} ({rule}): {examples}")
                )
    noise = found.noise
    if noise and noise.findings and hold.label_noise is not None and noise.worst > hold.label_noise:
        examples = some((f"{one.path} ({one.suggested}?)" for one in noise.listed), 3)
        reasons.append(
            _reason(
                "label_noise",
                f"labels of new images look wrong: {'; '.join(noise.findings)}"
                f" (retrain.hold.label_noise is {hold.label_noise:g}): {examples}",
            )
        )
    if found.drift and found.drift.drifted and hold.drift:
        reasons.append(_reason("drift", _drift_text(found.drift)))
    return tuple(reasons)


def train_reasons(found: Findings, history: Sequence[Call], rules: Retrain) -> tuple[Reason, ...]:
    """Return the rules by which a training is due."""
    when, changes = rules.when, found.changes
    trained = [call for call in history if call.trained]
    reasons = []
    if not found.champion:
        reasons.append(_reason("no_champion", "there is no champion yet"))
    if not changes.known:
        reasons.append(_reason("first_call", "no call has trained on these images before"))
    elif changes.altered:
        altered = _altered(changes)
        if when.new_images is not None and changes.altered >= when.new_images:
            rule = f"retrain.when.new_images is {when.new_images}"
            reasons.append(_reason("new_images", f"{altered} ({rule})"))
        if when.new_share is not None and changes.altered >= when.new_share * changes.known:
            rule = f"{when.new_share:g} of {changes.known}, by retrain.when.new_share"
            reasons.append(_reason("new_share", f"{altered} ({rule})"))
    if when.drift and found.drift and found.drift.drifted:
        reasons.append(_reason("drift", _drift_text(found.drift)))
    last = trained[-1] if trained else None
    if last and when.age_days is not None:
        age = found.now - last.ended
        if age >= timedelta(days=when.age_days):
            reasons.append(
                _reason(
                    "age",
                    f"the last training ended {age / timedelta(days=1):.1f} days ago"
                    f" (retrain.when.age_days is {when.age_days:g})",
                )
            )
    if when.date is not None and found.now.date().isoformat() >= when.date:
        done = last is not None and last.begun.date().isoformat() >= when.date
        if not done:
            reasons.append(_reason("date", f"it is {when.date} or later (retrain.when.date)"))
    if last and when.params and last.sections:
        changed = [
            name for name, digest in found.sections.items() if last.sections.get(name) != digest
        ]
        if changed:
            reasons.append(
                _reason(
                    "params", f"changed in params.yaml since the last training: {some(changed)}"
                )
            )
    return tuple(reasons)


_IS = {
    "new": "is new (retrain.hold.new_classes)",
    "vanished": "has vanished (retrain.hold.vanished_classes)",
}


def _altered(changes: Changes) -> str:
    parts = [
        f"{count} {kind}"
        for kind in ("new", "relabelled", "vanished")
        if (count := getattr(changes, kind))
    ]
    return f"{' and '.join(parts)} image{'s' if changes.altered > 1 else ''}"


def _drift_text(drift: DriftReport) -> str:
    shifted = f"; {'; '.join(drift.shifted[:3])}" if drift.shifted else ""
    return (
        f"{drift.new} new images are unlike {drift.reference} of validation and test: a classifier"
        f" tells them apart (AUC {drift.auc:.2f}, p = {drift.classifier_p:.2g},"
        f" retrain.drift_level is {drift.level:g}){shifted}"
    )


def _nothing(found: Findings, rules: Retrain) -> Reason:
    changes, when = found.changes, rules.when
    if not changes.altered:
        return _reason("nothing", "the images are those of the last training")
    least = f"{when.new_images} new images" if when.new_images else "a rule of retrain.when"
    return _reason("nothing", f"{_altered(changes)}; a training waits for {least}")


def _reason(key: str, text: str) -> Reason:
    return Reason(key=key, text=text)
