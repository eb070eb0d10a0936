import pytest

from pipeline.evaluation.judging.gate import AgainstBaseline, judge
from pipeline.evaluation.page.verdict import verdict
from tests import reports

CHAMPION = {"version": "3", "bundle": None}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Ship it. ants version 1 is champion now."),
        ({"champion": CHAMPION}, "Ship it. ants version 1 is champion now, in place of version 3."),
        (
            {"aliases": ["previous"]},
            "Ship it. ants version 1 was promoted; the alias champion has been moved since.",
        ),
        (
            {"decision": "refused", "aliases": ["challenger"]},
            "Not yet. ants version 1 stays challenger; there is no champion.",
        ),
        (
            {"decision": "refused", "aliases": ["challenger", "best"], "champion": CHAMPION},
            "Not yet. ants version 1 stays challenger and best; version 3 is champion.",
        ),
        (
            {"decision": "refused", "aliases": [], "champion": CHAMPION, "alias": "live"},
            "Not yet. ants version 1 stays without an alias; version 3 is live.",
        ),
        (
            {"decision": "unchanged", "champion": CHAMPION},
            "Nothing to ship. This model is the champion already: ants version 1.",
        ),
    ],
)
def test_the_verdict_in_words(changes, sentence):
    found = verdict(reports.changed(reports.first(), **changes))
    assert f"{found.answer} {found.sentence}" == sentence


def test_a_promotion_by_a_point_estimate_is_called_so():
    """The coin toss: +0.007, and its interval from -0.053 to +0.069."""
    met = AgainstBaseline(0.907, 0.9, {"value": 0.007, "ci95": [-0.053, 0.069]})
    rules = reports.RULES.model_copy(update={"min_gain_over_baseline": 0.0})
    checks = judge(met, None, None, rules, reports.METRIC)
    found = verdict(reports.changed(reports.first(), checks=checks))
    assert found.answer == "Promoted, but not proven."
    assert found.sentence == (
        "ants version 1 is champion now. Better than the baseline is not shown: +0.007"
        " [\N{MINUS SIGN}0.053, +0.069]."
    )
