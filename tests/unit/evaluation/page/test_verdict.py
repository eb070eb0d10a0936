import pytest

from pipeline.evaluation.page.verdict import check_rows, verdict
from tests import reports

CLASSES = ("ant", "bee", "crab")
MINUS = "\N{MINUS SIGN}"
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
    found = verdict(reports.first() | changes)
    assert f"{found.answer} {found.sentence}" == sentence


def test_every_condition_is_a_row():
    register = reports.met(CLASSES, 60, champion=3.0, candidate=-3.0)
    rows = check_rows(register)
    assert [row.title for row in rows] == [
        "Macro-F1 above the baseline's",
        "Macro-F1 against the champion's",
        "Recall of each class",
        "Calibration error",
        "Time per image",
    ]
    assert [row.passed for row in rows] == [check["passed"] for check in register["checks"]]
    assert rows[0].found == "+0.100"
    assert rows[0].limit == "above 0, at least 0.01"
    assert rows[1].found == f"{register['comparison']['macro_f1']['value']:+.3f}".replace(
        "-", MINUS
    )
    assert rows[1].detail.startswith("[" + MINUS)
    worst = max(CLASSES, key=lambda name: register["classes"][name]["loss"])
    assert rows[2].found == f"{MINUS}{register['classes'][worst]['loss']:.3f}"
    assert rows[2].detail == f"in class {worst}"
    assert rows[2].limit == "no loss above 0.05 beyond chance"
    assert (rows[4].found, rows[4].limit) == ("1.08 times the champion's", "at most 2 times")


def test_no_class_lost():
    register = reports.met(CLASSES, 60, champion=3.0, candidate=9.0)
    check = {"name": "class_recall", "passed": True, "value": -0.1, "limit": 0.05, "reason": "r"}
    assert check_rows(register | {"checks": [check]})[0].found == "falls in none"


def test_a_condition_that_the_page_does_not_know():
    check = {"name": "memory_use", "passed": False, "value": 1.5, "limit": 1.0, "reason": "r"}
    row = check_rows(reports.first() | {"checks": [check]})[0]
    assert (row.title, row.found, row.limit, row.passed) == ("Memory use", "+1.500", "1", False)
