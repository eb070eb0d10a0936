from datetime import UTC, datetime, timedelta

import pytest

from pipeline.evaluation.retraining.decide import Findings, decide
from pipeline.evaluation.retraining.record import Call, Changes, DriftReport, NoiseReport, Suspect
from pipeline.params import Hold, Retrain, When

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
WHEN = When(new_images=None, new_share=None, age_days=None, drift=False, params=False, date=None)
HOLD = Hold(
    new_classes=0,
    vanished_classes=0,
    vanished=0.05,
    relabelled=0.01,
    conflicting=0.02,
    label_noise=0.05,
    drift=True,
)
FREE = Hold(
    new_classes=None,
    vanished_classes=None,
    vanished=None,
    relabelled=None,
    conflicting=None,
    label_noise=None,
    drift=False,
)
KINDS = ("new", "vanished", "moved", "relabelled", "conflicting", "unusable")


def changes(known=1000, **values):
    counts = dict.fromkeys(KINDS, 0) | {k: v for k, v in values.items() if k in KINDS}
    return Changes(
        images=known + counts["new"],
        known=known,
        new_classes=values.get("new_classes", ()),
        vanished_classes=values.get("vanished_classes", ()),
        classes={},
        examples={kind: ("a/1.png",) * min(count, 20) for kind, count in counts.items()},
        **counts,
    )


def drift(p):
    return DriftReport(
        new=300,
        reference=600,
        since=None,
        classifier_p=p,
        kernel_p=p,
        class_p=p,
        auc=0.9,
        level=0.01,
        drifted=p is not None and p < 0.01,
        shifted=(),
        strangest=(),
    )


def noise(worst):
    return NoiseReport(
        new=100,
        suspects=30,
        expected=5.0,
        excess=worst,
        ci95=(0.1, 0.4),
        findings=("30 of 100 images of all, where 5.0 are expected (p = 1e-09)",) if worst else (),
        worst=worst,
        listed=(Suspect(path="a/1.png", label="a", suggested="b"),),
    )


def call(days_ago=1.0, *, trained=True, **values):
    at = NOW - timedelta(days=days_ago)
    return Call(
        id="x",
        begun=at,
        ended=at,
        host="h",
        outcome="promoted",
        reasons=(),
        trained=trained,
        **values,
    )


def asked(*, when=WHEN, hold=FREE, history=(), accepted=(), champion=True, **found):
    values = {"changes": changes(), "drift": None, "noise": None, "sections": {}, **found}
    findings = Findings(now=NOW, champion=champion, **values)
    rules = Retrain(when=when, hold=hold, drift_level=0.01, commit=False, push=False)
    decision = decide(findings, history, rules, accepted)
    return decision.action, [reason.key for reason in decision.reasons]


def with_rule(rules, **values):
    return rules.model_copy(update=values)


def test_with_all_rules_off_and_nothing_new_there_is_nothing_to_do():
    assert asked() == ("nothing", ["nothing"])


def test_without_a_champion_it_trains():
    assert asked(champion=False) == ("train", ["no_champion"])


def test_the_first_call_trains_and_holds_nothing():
    first = changes(known=0, new=50, conflicting=50, new_classes=("a", "b"))
    assert asked(changes=first, hold=HOLD) == ("train", ["first_call"])


@pytest.mark.parametrize(("new", "action"), [(19, "nothing"), (20, "train")])
def test_so_many_new_images(new, action):
    when = with_rule(WHEN, new_images=20)
    assert asked(when=when, changes=changes(new=new))[0] == action


def test_relabelled_and_vanished_images_count_as_new_ones():
    when = with_rule(WHEN, new_images=20)
    found = changes(new=10, relabelled=5, vanished=5)
    assert asked(when=when, changes=found) == ("train", ["new_images"])


def test_no_rule_fires_without_any_change():
    assert asked(when=with_rule(WHEN, new_images=1, new_share=0.001)) == ("nothing", ["nothing"])


@pytest.mark.parametrize(("new", "action"), [(19, "nothing"), (20, "train")])
def test_such_a_share(new, action):
    when = with_rule(WHEN, new_share=0.02)
    assert asked(when=when, changes=changes(new=new))[0] == action


@pytest.mark.parametrize(("days", "action"), [(29.9, "nothing"), (30.1, "train")])
def test_age_counts_from_the_last_training(days, action):
    when = with_rule(WHEN, age_days=30.0)
    history = [call(99), call(days), call(1, trained=False)]
    assert asked(when=when, history=history)[0] == action


@pytest.mark.parametrize(
    ("day", "trained_days_ago", "action"),
    [
        ("2027-02-01", 40, "nothing"),  # is to come
        ("2027-01-31", 40, "train"),  # is today
        ("2027-01-20", 40, "train"),  # was missed
        ("2027-01-20", 3, "nothing"),  # is done
    ],
)
def test_a_day(day, trained_days_ago, action):
    when = with_rule(WHEN, date=day)
    assert asked(when=when, history=[call(trained_days_ago)])[0] == action


def test_changed_params():
    when = with_rule(WHEN, params=True)
    history = [call(2, sections={"train": "1", "pack": "1"})]
    assert asked(when=when, history=history, sections={"train": "1", "pack": "1"})[0] == "nothing"
    assert asked(when=when, history=history, sections={"train": "2", "pack": "1"}) == (
        "train",
        ["params"],
    )


def test_drift_trains_where_it_is_a_rule_and_holds_where_it_is_one():
    when = with_rule(WHEN, drift=True)
    assert asked(when=when, drift=drift(0.001)) == ("train", ["drift"])
    assert asked(when=when, drift=drift(0.02))[0] == "nothing"
    assert asked(when=when, drift=drift(None))[0] == "nothing"
    assert asked(when=when, hold=HOLD, drift=drift(0.001)) == ("hold", ["drift"])


@pytest.mark.parametrize(
    ("least", "most"),
    [
        ({"relabelled": 11}, {"relabelled": 10}),
        ({"vanished": 51}, {"vanished": 50}),
        ({"new": 100, "conflicting": 3}, {"new": 100, "conflicting": 2}),
    ],
)
def test_shares_hold_above_their_limit(least, most):
    assert asked(hold=HOLD, changes=changes(**least)) == ("hold", [list(least)[-1]])
    assert asked(hold=HOLD, changes=changes(**most))[0] == "nothing"
    assert asked(hold=FREE, changes=changes(**least))[0] == "nothing"


def test_a_second_label_of_a_known_image_holds_without_new_images():
    assert asked(hold=HOLD, changes=changes(conflicting=1)) == ("hold", ["conflicting"])


def test_each_new_or_vanished_class_holds_by_its_name():
    found = changes(new_classes=("x", "y"), vanished_classes=("z",))
    keys = ["new_class x", "new_class y", "vanished_class z"]
    assert asked(hold=HOLD, changes=found) == ("hold", keys)
    assert asked(hold=with_rule(HOLD, new_classes=2), changes=found) == ("hold", keys[2:])


@pytest.mark.parametrize(("worst", "action"), [(0.0, "nothing"), (0.05, "nothing"), (0.3, "hold")])
def test_label_noise(worst, action):
    assert asked(hold=HOLD, noise=noise(worst))[0] == action


def test_what_a_person_agreed_to_is_trained_on_and_all_else_is_not():
    found = changes(new_classes=("x",), relabelled=500)
    accepted = {"new_class x", "relabelled"}
    assert asked(hold=HOLD, changes=found, accepted=accepted) == ("train", ["accepted"])
    assert asked(hold=HOLD, changes=found, accepted={"new_class x"}) == ("hold", ["relabelled"])


def test_a_reason_names_the_rule_the_finding_and_files():
    findings = Findings(changes(relabelled=11), None, None, NOW, True, {})
    rules = Retrain(when=WHEN, hold=HOLD, drift_level=0.01, commit=False, push=False)
    (reason,) = decide(findings, (), rules).reasons
    assert reason.text == (
        "11 of 1000 known images have another label (retrain.hold.relabelled is 0.01):"
        " a/1.png, a/1.png, a/1.png and 8 more"
    )
