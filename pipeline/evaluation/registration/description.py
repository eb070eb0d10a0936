"""A decision as Markdown, for people who look at the version in MLflow."""

from pipeline.evaluation.registration.outcome import Decision
from pipeline.evaluation.reports.words import number


def as_markdown(decision: Decision, alias: str) -> str:
    """Write the verdict, the conditions of the gate and the comparison with the champion.

    Args:
        decision: about the version.
        alias: that was asked for.
    """
    verdict = "Promoted" if decision.promoted else "Not promoted"
    lines = [
        f"- {'passed' if check.passed else 'failed'}: {check.reason}" for check in decision.checks
    ]
    parts = [f"**{verdict}** to `{alias}`.", "\n".join(lines)]
    return "\n\n".join([*parts, *_table(decision)])


def _table(decision: Decision) -> list[str]:
    champion, comparison = decision.champion, decision.comparison
    if champion is None or champion.test is None or comparison is None:
        return []
    lines = [
        f"| test metric | champion, version {champion.version} | candidate - champion | 95 % |",
        "|---|---|---|---|",
    ]
    for metric in decision.metrics:
        before = champion.test.figures[metric.name].value
        difference = comparison.figures[metric.name]
        if before is not None and difference.value is not None:
            change, low, high = (
                number(one, sign=True, digits=4) for one in (difference.value, *difference.ci95)
            )
            lines.append(f"| {metric.name} | {before:.4f} | {change} | {low} to {high} |")
    return ["\n".join(lines)]
