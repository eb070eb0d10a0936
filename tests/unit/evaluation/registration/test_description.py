from pipeline.evaluation.registration.description import as_markdown
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
