import pytest

from pipeline.evaluation.reports.words import interval_text, number

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.1234, "0.123", "+0.123"),
        (-0.1236, MINUS + "0.124", MINUS + "0.124"),
        (0.0, "0.000", "0.000"),
        (-0.0, "0.000", "0.000"),
        (-0.0004, "0.000", "0.000"),
        (0.0004, "0.000", "0.000"),
        (-0.0006, MINUS + "0.001", MINUS + "0.001"),
        (-12.0, MINUS + "12.000", MINUS + "12.000"),
    ],
)
def test_a_number_is_rounded_before_it_gets_its_sign(value, plain, signed):
    assert (number(value), number(value, sign=True)) == (plain, signed)


def test_digits_and_intervals():
    assert number(-0.0004, sign=True, digits=4) == MINUS + "0.0004"
    assert number(-0.3, digits=0) == "0"
    assert interval_text((-0.0001, 0.025), sign=True) == "[0.000, +0.025]"
