import pytest

from pipeline.evaluation.reports.words import cosine_text, interval_text, number

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


def test_a_cosine_that_is_nearly_1_does_not_look_like_it():
    values = (0.8519, -0.5, 0.9996, 0.999987, 0.9999996, 1.0000001)
    written = ["0.852", MINUS + "0.500", "0.9996", "0.99999", "1.000", "1.000"]
    assert [cosine_text(value) for value in values] == written


def test_digits_and_intervals():
    assert number(-0.0004, sign=True, digits=4) == MINUS + "0.0004"
    assert number(-0.3, digits=0) == "0"
    assert interval_text((-0.0001, 0.025), sign=True) == "[0.000, +0.025]"
