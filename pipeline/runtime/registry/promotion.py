"""From a trained bundle to a version in the registry, and to the alias if the gate lets it pass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.data.shards.shards import ImageSet
from pipeline.data.sources.source import ImageSource
from pipeline.errors import PipelineError
from pipeline.evaluation.judging import gate
from pipeline.evaluation.judging.disagreements import disagreement_block, find_disagreements
from pipeline.evaluation.judging.gate import Check
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.params import Evaluate, Register, Tracking
from pipeline.runtime.registry.aliases import (
    ROLLED_BACK_TAG,
    Champion,
    ChampionChangedError,
    aliases_of,
    challenge,
    find_champion,
    promote,
)
from pipeline.runtime.registry.versions import (
    Registered,
    cached_bundle,
    find_version,
    register_bundle,
)
from pipeline.runtime.tracking.results import record_result
from pipeline.runtime.tracking.trained import Result
from pipeline.vision.application.paired_evaluation import PairedEvaluation, hold
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.inference.bundle import load_bundle

_TRIES = 5
_FLIPS_LISTED = 12  # of each kind

Block = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A model that asks for the alias, and what it is judged by.

    Attributes:
        bundle: its folder.
        figures: its test metrics by name.
        baseline: those of the hand-crafted classifier.
        images: packed folder of the test images.
        source: of the image files.
        result: what goes onto the run that trained it.
    """

    bundle: Path
    figures: Mapping[str, float]
    baseline: Mapping[str, float]
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


def settle(candidate: Candidate, registry: Registry, how: Evaluate) -> Block:
    """Register the candidate, judge it, and promote it or leave it as the challenger.

    Args:
        candidate: the model.
        registry: where and by what rules.
        how: the settings of the metrics.

    Returns:
        {"decision": "promoted", "refused" or "unchanged" (it is the champion already), "promoted":
        whether it passed, "reasons": sentences, "checks": the conditions, "champion": whom it met
        (with "test" metrics where the two were compared) or None, "comparison": candidate minus
        champion or None, "classes": recalls or None, "flips": images that changed sides or None,
        "latency": milliseconds per image or None, "version", "aliases", "run_id"}.

    Raises:
        PipelineError: no store answers, or the champion cannot be had.
    """
    tracking, rules = registry.tracking, registry.rules
    for _ in range(_TRIES):
        champion = find_champion(tracking, rules.name, rules.alias)
        known = find_version(tracking, rules.name, bundle_digest(candidate.bundle))
        decision = _decide(candidate, known, champion, registry, how)
        if decision["checks"]:  # judged just now; else its version tells of when it was
            known = register_bundle(
                candidate.bundle,
                tracking=tracking,
                name=rules.name,
                run_id=record_result(candidate.result, {}),
                description=gate.as_markdown(decision, rules.alias),
            )
        assert known
        try:
            aliases = _apply(decision, known, champion, registry)
        except ChampionChangedError:
            continue  # somebody else was promoted meanwhile: meet that one
        named = {"version": known.version, "aliases": aliases, "run_id": known.run_id}
        return {**decision, **named}
    raise PipelineError(
        f"the {rules.alias} of {rules.name} changed {_TRIES} times while a candidate was judged;"
        " run convoy register again when the others are done"
    )


def _apply(
    decision: Block, version: Registered, champion: Champion | None, registry: Registry
) -> list[str]:
    """Set the aliases that the decision asks for, and return those of the version."""
    tracking, rules = registry.tracking, registry.rules
    if decision["decision"] == "promoted":
        before = champion.version if champion else None
        return promote(tracking, rules.name, version.version, rules.alias, before)
    if decision["decision"] == "refused" and ROLLED_BACK_TAG not in version.tags:
        return challenge(tracking, rules.name, version.version)
    return aliases_of(tracking, rules.name, version.version)


def _decide(
    candidate: Candidate,
    known: Registered | None,
    champion: Champion | None,
    registry: Registry,
    how: Evaluate,
) -> Block:
    rules = registry.rules
    blocks: Block = {
        "champion": asdict(champion) if champion else None,
        "comparison": None,
        "classes": None,
        "flips": None,
        "latency": None,
    }
    if champion and champion.bundle == bundle_digest(candidate.bundle):
        reason = f"it is the {rules.alias} already, as version {champion.version}"
        return {**_verdict("unchanged", [reason], []), **blocks}
    if known and ROLLED_BACK_TAG in known.tags:
        reason = (
            f"version {known.version} was rolled back and is not promoted again by itself; move the"
            " alias in the registry, or swap it with the version before by convoy rollback"
        )
        return {**_verdict("refused", [reason], []), **blocks}
    checks = [
        gate.check_baseline(
            candidate.figures["macro_f1"],
            candidate.baseline["macro_f1"],
            rules.min_gain_over_baseline,
        )
    ]
    if champion:
        contest = _contest(candidate, champion, registry)
        blocks = _compare(contest, champion, candidate, how)
        checks += _checks(blocks, rules)
    decision = "promoted" if all(check.passed for check in checks) else "refused"
    return {**_verdict(decision, [check.reason for check in checks], checks), **blocks}


def _verdict(decision: str, reasons: list[str], checks: list[Check]) -> Block:
    return {
        "decision": decision,
        "promoted": decision != "refused",
        "reasons": reasons,
        "checks": [asdict(check) for check in checks],
    }


def _contest(candidate: Candidate, champion: Champion, registry: Registry) -> PairedEvaluation:
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
    return hold(
        load_bundle(candidate.bundle, device),
        load_bundle(folder, device),
        ImageSet.open(candidate.images),
        candidate.source,
    )


def _compare(
    contest: PairedEvaluation, champion: Champion, candidate: Candidate, how: Evaluate
) -> Block:
    """Measure what the checks are made of."""
    labels, new, old = contest.labels, contest.first, contest.second
    seconds_new, seconds_old = contest.seconds
    return {
        "champion": {
            **asdict(champion),
            "test": measure(labels, old, contest.classes, how),
        },
        "comparison": compare(labels, new, old, how),
        "classes": gate.compare_recalls(labels, new, old, contest.classes),
        "flips": disagreement_block(
            find_disagreements(
                labels, old, new, contest.classes, ImageSet.open(candidate.images).paths
            ),
            _FLIPS_LISTED,
        ),
        "latency": {
            "candidate_ms": 1000 * seconds_new,
            "champion_ms": 1000 * seconds_old,
            "ratio": seconds_new / seconds_old,
        },
    }


def _checks(blocks: Block, rules: Register) -> list[Check]:
    comparison = blocks["comparison"]
    return [
        gate.check_macro_f1(comparison["macro_f1"], rules.max_macro_f1_loss),
        gate.check_recalls(blocks["classes"], rules.max_class_recall_loss),
        gate.check_calibration(comparison["ece"], rules.max_ece_gain),
        gate.check_latency(blocks["latency"]["ratio"], rules.max_latency_ratio),
    ]
