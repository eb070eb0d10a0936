"""Calls of `convoy retrain`, as their history holds them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.evaluation.reports.schema import Figure
from pipeline.evaluation.retraining.record import (
    Call,
    Changes,
    DriftReport,
    GateCheck,
    ModelRecord,
    NoiseReport,
    Reason,
    Suspect,
)

BEGIN = datetime(2027, 1, 3, 3, 0, tzinfo=UTC)


def make_changes(images: int = 600, new: int = 0, classes: dict[str, int] | None = None) -> Changes:
    kinds = ("new", "vanished", "moved", "relabelled", "conflicting", "unusable")
    return Changes(
        images=images,
        known=images - new,
        new_classes=(),
        vanished_classes=(),
        classes=classes or {"ant": images // 3, "bee": images - images // 3},
        examples=dict.fromkeys(kinds, ()),
        **{**dict.fromkeys(kinds, 0), "new": new},
    )


def make_call(week: float, outcome: str = "nothing", **values: Any) -> Call:
    """Make the call of a week; `value` is the candidate's metric, `version` its version."""
    at = BEGIN + timedelta(weeks=week)
    reasons = {
        "nothing": Reason(key="nothing", text="the images are those of the last training"),
        "held": Reason(key="new_class <b>wasp</b>", text="the class <b>wasp</b> is new"),
        "failed": Reason(key="failed", text="dvc repro failed: train.lr"),
    }.get(outcome, Reason(key="new_images", text="12 new images"))
    value, version = values.pop("value", None), values.pop("version", "1")
    candidate = None
    if value is not None:
        figure = Figure(value=value, ci95=(value - 0.03, value + 0.02))
        candidate = ModelRecord(version=version, value=figure)
    champion = candidate if outcome == "promoted" else ModelRecord(version="1", value=None)
    checks = (GateCheck(name="loss", passed=False, text="macro-F1 fell by 0.02"),)
    return Call.model_validate(
        {
            "id": f"call-{week}",
            "begun": at,
            "ended": at + timedelta(minutes=5),
            "host": "h",
            "outcome": outcome,
            "reasons": (reasons,),
            "checks": checks if outcome == "refused" else (),
            "trained": value is not None,
            "metric": "macro_f1" if value is not None else "",
            "changes": make_changes(600 + round(12 * week), 0 if outcome == "nothing" else 12),
            "candidate": candidate,
            "champion": champion,
            **values,
        }
    )


def make_drift(p: float | None) -> DriftReport:
    return DriftReport(
        new=12,
        reference=240,
        since=None,
        classifier_p=p,
        kernel_p=p,
        class_p=p,
        auc=None if p is None else 0.6,
        level=0.01,
        drifted=p is not None and p < 0.01,
        shifted=(),
        strangest=(),
    )


def make_noise(*paths: str) -> NoiseReport:
    return NoiseReport(
        new=12,
        suspects=len(paths),
        expected=0.5,
        excess=len(paths) / 12,
        ci95=(0.0, 0.5),
        findings=(),
        worst=0.0,
        listed=tuple(Suspect(path=path, label="ant", suggested="<i>bee</i>") for path in paths),
    )


def year() -> list[Call]:
    """Return calls of each outcome."""
    return [
        make_call(0, "promoted", value=0.9, drift=None),
        make_call(1, "nothing"),
        make_call(1.5, "nothing"),
        make_call(2, "promoted", value=0.92, version="2", drift=make_drift(0.4)),
        make_call(3, "refused", value=0.88, version="3", drift=make_drift(0.2)),
        make_call(4, "held", drift=make_drift(0.001), noise=make_noise("ant/<1>.png")),
        make_call(5, "failed"),
        make_call(6, "promoted", value=0.95, version="4", drift=make_drift(None)),
    ]
