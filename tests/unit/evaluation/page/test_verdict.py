import pytest

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
