from dataclasses import replace

from pipeline.evaluation.registration.description import (
    Card,
    as_markdown,
    describe_model,
    describe_version,
)
from pipeline.evaluation.reports.words import number
from tests import reports

CLASSES = ("ant", "bee")


def test_a_version_carries_the_checks_and_the_comparison():
    register = reports.met(CLASSES, 40, champion=3.0, candidate=-3.0)
    text = as_markdown(register, "champion")
    assert text.startswith("**Not promoted** to `champion`.")
    for check in register.checks:
        assert f"- {'passed' if check.passed else 'failed'}: {check.reason}\n" in text
    assert "| test metric | champion, version 3 | candidate - champion | 95 % |" in text
    difference, before = register.comparison.macro_f1, register.champion.test.macro_f1
    assert (
        f"| macro_f1 | {before.value:.4f} | {number(difference.value, sign=True, digits=4)} | "
        in text
    )


def test_a_first_version_was_compared_with_the_baseline_alone():
    text = as_markdown(reports.first(), "champion")
    assert text.startswith("**Promoted** to `champion`.\n\n- passed: macro-F1 0.9000")
    assert "|" not in text


def test_a_version_says_what_it_is_and_how_to_use_it():
    test = reports.evaluate_report(CLASSES, 40).final.test
    card = Card("insects", CLASSES, (28, 32, 1), "lenet5", 4, "a8a8", test)
    decision = reports.first()
    lines = describe_version(card, decision, "m", "7", "champion").split("\n")
    low, high = test.macro_f1.ci95
    assert lines[:6] == [
        "Classifies images of **insects**.",
        "",
        "- 2 classes, in the order of the outputs: `ant`, `bee`",
        "- input: 28 x 32 pixels, grey; other image files are fitted",
        "- network: lenet5, mean of 4 views of an image",
        "- training images: digest `a8a8`",
    ]
    assert "On 40 test images, with 95 % intervals:" in lines
    assert f"- macro_f1 {test.macro_f1.value:.4f} ({low:.4f} to {high:.4f})" in lines
    assert "convoy predict pictures/ --model models:/m/7 --output answers.csv" in lines
    assert "mlflow models serve --env-manager local -m models:/m/7" in lines
    assert "\n".join(lines).endswith(as_markdown(decision, "champion"))
    many = replace(card, classes=tuple(f"class {number} {'x' * 50}" for number in range(3000)))
    text = describe_version(many, decision, "m", "7", "champion")
    assert len(text) < 5000
    assert "- 3000 classes, in the order of the outputs: `class 0 " in text
    assert text.endswith(as_markdown(decision, "champion"))
    said = describe_model(card, "m", "champion")
    assert "convoy predict pictures/ --model models:/m@champion --output" in said
