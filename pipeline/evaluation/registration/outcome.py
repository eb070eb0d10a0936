"""reports/register.json: the decision about a candidate, and what it rests on."""

from typing import Literal, Self

from pydantic import model_validator

from pipeline.evaluation.judging.findings import Check, Disagreements, RecallChange, RecallGroup
from pipeline.evaluation.reports.schema import (
    Comparison,
    Figure,
    Measured,
    MetricInfo,
    Part,
    require_figures,
)


class ChampionReport(Part):
    """The version that held the alias, and its test metrics where the candidate met it."""

    version: str
    bundle: str | None
    test: Measured | None = None


class Latency(Part):
    """Time per image of both models on one machine."""

    candidate_ms: float
    champion_ms: float
    ratio: float


class Decision(Part):
    """What is decided about a candidate.

    Attributes:
        decision: 'unchanged' where the candidate is the champion already.
        promoted: whether it holds the alias by this decision.
        notes: sentences beside the conditions of the gate.
        checks: the conditions of the gate; none where it was not asked.
        champion: the version that held the alias; None without one.
        metrics: what candidate and champion are compared by, in order.
        comparison: candidate minus champion; None, as all below, where they did not meet.
        classes: recalls by class.
        groups: recalls of small classes together; see `compare_recalls`.
        disagreements: from the champion to the candidate.
        latency: of both.
    """

    decision: Literal["promoted", "refused", "unchanged"]
    promoted: bool
    notes: tuple[str, ...]
    checks: tuple[Check, ...]
    champion: ChampionReport | None
    metrics: tuple[MetricInfo, ...]
    comparison: Comparison | None
    classes: dict[str, RecallChange] | None
    groups: tuple[RecallGroup, ...] | None
    disagreements: Disagreements | None
    latency: Latency | None

    @model_validator(mode="after")
    def _has_each_metric(self) -> Self:
        if self.comparison:
            require_figures(self.comparison.figures, self.metrics, "comparison")
        if self.champion and self.champion.test:
            require_figures(self.champion.test.figures, self.metrics, "champion.test")
        return self


class Outcome(Decision):
    """A decision, and the version that it is about.

    Attributes:
        version: its number, as text.
        aliases: that it holds.
        run_id: the MLflow run that trained it.
        looks: decisions about versions of the model that have read these test images, this one
            included.
    """

    version: str
    aliases: tuple[str, ...]
    run_id: str | None
    looks: int


class _Asked(Part):
    model: str
    alias: str
    bundle: str
    candidate: dict[str, float]
    baseline: dict[str, float] | None
    over_baseline: Figure | None


class RegisterReport(Outcome, _Asked):
    """register.json: what was asked, and the outcome.

    Attributes:
        model: name of the registered model.
        alias: that was asked for.
        bundle: digest of the candidate.
        candidate: its test metrics.
        baseline: those of the hand-crafted classifier; None, as the next, without one.
        over_baseline: candidate minus baseline, by the metric that models are shipped by.
    """
