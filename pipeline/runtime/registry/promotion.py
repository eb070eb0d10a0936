"""From a trained bundle to a version in the registry, and to the alias if the gate lets it pass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import images_digest
from pipeline.data.sources.source import ImageSource
from pipeline.errors import PipelineError
from pipeline.evaluation.judging.disagreements import find_disagreements
from pipeline.evaluation.judging.findings import Disagreements
from pipeline.evaluation.judging.gate import (
    AgainstBaseline,
    AgainstBest,
    AgainstChampion,
    judge,
)
from pipeline.evaluation.judging.recalls import Recalls, compare_recalls
from pipeline.evaluation.metrics.measure import brier_difference, compare, measure
from pipeline.evaluation.metrics.table import Scored, metric_named, metrics_of
from pipeline.evaluation.registration.description import (
    Card,
    describe_model,
    describe_version,
)
from pipeline.evaluation.registration.outcome import Decision, Outcome
from pipeline.evaluation.reports.schema import Measured
from pipeline.params import Evaluate, Register, Tracking
from pipeline.runtime.registry.aliases import (
    ROLLED_BACK_TAG,
    Champion,
    ChampionChangedError,
    aliases_of,
    challenge,
    find_best,
    find_champion,
    promote,
)
from pipeline.runtime.registry.looks import count_look, looks
from pipeline.runtime.registry.versions import (
    Registered,
    cached_bundle,
    describe,
    find_version,
    register_bundle,
)
from pipeline.runtime.tracking.results import record_result
from pipeline.runtime.tracking.run_metadata import data_name
from pipeline.runtime.tracking.trained import Result
from pipeline.vision.application.paired_evaluation import PairedEvaluation, evaluate_pair
from pipeline.vision.bundle.description import read_description
from pipeline.vision.bundle.digest import bundle_digest, values_digest
from pipeline.vision.inference.bundle import load_bundle

_TRIES = 5
_DISAGREEMENTS_LISTED = 12  # of each kind

Block = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A model that asks for the alias, and what it is judged by.

    Attributes:
        bundle: its folder.
        over_baseline: what it and the hand-crafted classifier reach on the test images; None
            where that was not fitted.
        test: all that it reaches there.
        images: packed folder of the test images.
        source: of the image files.
        result: what goes onto the run that trained it.
    """

    bundle: Path
    over_baseline: AgainstBaseline | None
    test: Measured
    images: Path
    source: ImageSource
    result: Result


@dataclass(frozen=True)
class Registry:
    """Where models are registered, and by what rules.

    Attributes:
        tracking: the store.
        rules: name, alias and limits.
        cache: folder for the bundles of champions.
    """

    tracking: Tracking
    rules: Register
    cache: Path


def register_and_judge(candidate: Candidate, registry: Registry, how: Evaluate) -> Outcome:
    """Register the candidate, judge it, and promote it or leave it as the challenger.

    Args:
        candidate: the model.
        registry: where and by what rules.
        how: the settings of the metrics.

    Raises:
        PipelineError: no store answers, or the champion cannot be had.
    """
    tracking, rules = registry.tracking, registry.rules
    test_images = values_digest(ImageSet.open(candidate.images).ids)
    for _ in range(_TRIES):
        champion = find_champion(tracking, rules.name, rules.alias)
        known = find_version(tracking, rules.name, bundle_digest(candidate.bundle))
        decision, best = _decide(candidate, known, champion, registry, how)
        if decision.checks:  # judged just now; else its version describes an earlier decision
            known = register_bundle(
                candidate.bundle,
                tracking=tracking,
                name=rules.name,
                run_id=record_result(candidate.result, {}),
            )
            card = _card(candidate)
            describe(
                tracking,
                known,
                describe_version(card, decision, known.name, known.version, rules.alias),
                describe_model(card, known.name, rules.alias),
            )
            count_look(tracking, known, test_images)
        assert known
        try:
            aliases = _apply(decision, known, champion, best, registry)
        except ChampionChangedError:
            continue  # another model was promoted meanwhile: judge against that one
        named = {"version": known.version, "aliases": aliases, "run_id": known.run_id}
        count = looks(tracking, rules.name, test_images)
        return Outcome.model_validate({**dict(decision), **named, "looks": count})
    raise PipelineError(
        f"the {rules.alias} of {rules.name} changed {_TRIES} times while a candidate was judged;"
        " run convoy register again when the others are done"
    )


def _card(candidate: Candidate) -> Card:
    description, result = read_description(candidate.bundle), candidate.result
    channels, height, width = description.shape
    return Card(
        images=data_name(result.params),
        classes=description.classes,
        shape=(height, width, channels),
        network=description.network,
        views=len(description.views.items) if description.views else 1,
        data=images_digest(result.trained.images),
        test=candidate.test,
    )


def _apply(
    decision: Decision,
    version: Registered,
    champion: Champion | None,
    best: Champion | None,
    registry: Registry,
) -> list[str]:
    """Set the aliases that the decision asks for, and return those of the version."""
    tracking, rules = registry.tracking, registry.rules
    if decision.decision == "promoted":
        before = champion.version if champion else None
        return promote(
            tracking,
            rules.name,
            version.version,
            rules.alias,
            before,
            best=best.version if best else None,
        )
    if decision.decision == "refused" and ROLLED_BACK_TAG not in version.tags:
        return challenge(tracking, rules.name, version.version)
    return aliases_of(tracking, rules.name, version.version)


def _decide(
    candidate: Candidate,
    known: Registered | None,
    champion: Champion | None,
    registry: Registry,
    how: Evaluate,
) -> tuple[Decision, Champion | None]:
    """Decide about a candidate.

    Returns:
        The decision, and the best champion from then on: None where that is the candidate.
    """
    rules = registry.rules
    if champion and champion.bundle == bundle_digest(candidate.bundle):
        note = f"it is the {rules.alias} already, as version {champion.version}"
        return _decision("unchanged", champion, notes=[note]), None
    if known and ROLLED_BACK_TAG in known.tags:
        note = (
            f"version {known.version} was rolled back and is not promoted again by itself; move the"
            " alias in the registry, or swap it with the version before by convoy rollback"
        )
        return _decision("refused", champion, notes=[note]), None
    met = against_best = None
    found: Block = {}
    metric = metric_named(how.metric)
    differences: dict[Champion, float] = {}
    if champion:
        pair = _evaluate_pair(candidate, champion, registry)
        found, recalls = _compare(pair, champion, candidate, rules, how)
        brier = brier_difference(*_scored(pair, how))
        met = AgainstChampion(found["comparison"], brier, recalls, found["latency"]["ratio"])
        differences[champion] = found["comparison"][metric.name]["value"]
        if best := find_best(registry.tracking, rules.name, champion):
            try:
                pair = _evaluate_pair(candidate, best, registry)
            except PipelineError as error:
                raise PipelineError(
                    f"{error}; version {best.version} of {rules.name} is the best champion so far,"
                    " from which losses count; delete the version if its files are lost"
                ) from error
            scored = _scored(pair, how)
            compared = compare(*scored)[metric.name]
            against_best = AgainstBest(best.version, compared, brier_difference(*scored))
            differences[best] = compared["value"]
    checks = judge(candidate.over_baseline, met, against_best, rules, metric)
    decision = "promoted" if all(check.passed for check in checks) else "refused"
    return _decision(decision, champion, checks=checks, **found), _best_of(differences)


def _best_of(differences: Mapping[Champion, float]) -> Champion | None:
    """Return the best champion; None where none is better than the candidate.

    Args:
        differences: candidate minus champion, on the same images.
    """
    ahead = [champion for champion, difference in differences.items() if difference < 0]
    return min(ahead, key=differences.__getitem__, default=None)


def _decision(decision: str, before: Champion | None, **found: Any) -> Decision:
    """Make a decision; what was not compared is None."""
    return Decision.model_validate(
        {
            "decision": decision,
            "promoted": decision != "refused",
            "notes": (),
            "checks": (),
            "champion": asdict(before) if before else None,
            "metrics": (),
            **dict.fromkeys(("comparison", "classes", "groups", "disagreements", "latency")),
            **found,
        }
    )


def _evaluate_pair(
    candidate: Candidate, champion: Champion, registry: Registry
) -> PairedEvaluation:
    rules = registry.rules
    if champion.bundle is None:
        raise PipelineError(
            f"version {champion.version} of {rules.name} is {rules.alias} and was not registered"
            " by Convoy, so that a candidate cannot be compared with it; point the alias at"
            " another version, delete it, or change register.name or register.alias"
        )
    folder = cached_bundle(
        registry.tracking, rules.name, champion.version, champion.bundle, registry.cache
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return evaluate_pair(
        load_bundle(candidate.bundle, device),
        load_bundle(folder, device),
        ImageSet.open(candidate.images),
        candidate.source,
    )


def _scored(pair: PairedEvaluation, how: Evaluate) -> tuple[Scored, Scored]:
    return Scored.of(pair.labels, pair.first, how), Scored.of(pair.labels, pair.second, how)


def _compare(
    pair: PairedEvaluation,
    champion: Champion,
    candidate: Candidate,
    rules: Register,
    how: Evaluate,
) -> tuple[Block, Recalls]:
    """Measure what the conditions of the gate are about, and what people look at."""
    labels, new, old = pair.labels, pair.first, pair.second
    seconds_new, seconds_old = pair.seconds
    paths = ImageSet.open(candidate.images).paths
    disagreements = find_disagreements(labels, old, new, pair.classes, paths)
    candidate_scored, champion_scored = _scored(pair, how)
    recalls = compare_recalls(labels, new, old, pair.classes, rules.max_class_recall_loss)
    found = {
        "champion": {**asdict(champion), "test": measure(champion_scored, pair.classes)},
        "metrics": [vars(metric) for metric in metrics_of(len(pair.classes), how)],
        "comparison": compare(candidate_scored, champion_scored),
        "classes": recalls.classes,
        "groups": recalls.groups,
        "disagreements": Disagreements.of(disagreements, _DISAGREEMENTS_LISTED),
        "latency": {
            "candidate_ms": 1000 * seconds_new,
            "champion_ms": 1000 * seconds_old,
            "ratio": seconds_new / seconds_old,
        },
    }
    return found, recalls
