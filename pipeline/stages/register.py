"""The registry: a tuned model that beats the baseline becomes a version under the alias.

DVC runs this stage every time, since what it changes lies outside the repository. Where it
remembers that this very model was dealt with, it only glances at the registry, without the
seconds that MLflow takes to import: an up-to-date pipeline stays quick.
"""

from pathlib import Path
from typing import Any

from pipeline.files import read_json, read_report, write_json
from pipeline.params import Params, Register
from pipeline.runtime.glance import StoreGoneError, version_of_alias
from pipeline.runtime.tracking import tracking_uri
from pipeline.stages._paths import PICTURES, REPORTS, STATE, TUNED
from pipeline.vision.digest import bundle_digest, values_digest

_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")


def run(params: Params) -> None:
    """Write reports/register.json: the decision, its reasons, and the version if there is one."""
    report = read_report(REPORTS / "evaluate.json")
    figures = {
        name: {key: report[name]["test"][key]["value"] for key in _FIGURES}
        for name in ("baseline", "tuned")
    }
    min_gain = params.register_.min_gain_over_baseline
    decision = decide(figures["tuned"], figures["baseline"], min_gain)
    result = {
        "model": params.register_.name,
        "bundle": bundle_digest(TUNED),
        **decision,
        "candidate": figures["tuned"],
        "baseline": figures["baseline"],
    }
    uri = tracking_uri(params.tracking)
    memory = STATE / "registered.json"
    key = values_digest([result, params.section("register"), params.section("tracking"), uri])
    remembered = _recall(memory, key, uri, params.register_)
    if remembered:
        result |= remembered
    elif result["promoted"]:
        result |= _register(params, figures["tuned"], result["reasons"])
        write_json(memory, {key: {name: result[name] for name in ("version", "aliases", "run_id")}})
    write_json(REPORTS / "register.json", result)
    print(f"register: {describe(result)}")


def decide(
    candidate: dict[str, float], baseline: dict[str, float], min_gain: float
) -> dict[str, Any]:
    """Say whether the candidate may be promoted, and why.

    Args:
        candidate: test metrics of the model that asks.
        baseline: test metrics of the hand-crafted classifier.
        min_gain: what the candidate's macro-F1 must be above the baseline's, at least; it must
            be above in any case.
    """
    gain = candidate["macro_f1"] - baseline["macro_f1"]
    promoted = gain > 0 and gain >= min_gain
    reason = (
        f"macro-F1 {candidate['macro_f1']:.4f} against the baseline's {baseline['macro_f1']:.4f}:"
        f" a gain of {gain:+.4f}, {'as asked' if promoted else 'too little'}"
        f" (more than 0, and at least register.min_gain_over_baseline, {min_gain:g})"
    )
    return {"promoted": promoted, "reasons": [reason]}


def describe(result: dict[str, Any]) -> str:
    """Say in one line what became of the model."""
    reasons = "; ".join(result["reasons"])
    if not result["promoted"]:
        return f"{result['model']} not registered: {reasons}"
    aliases = ", ".join(result["aliases"]) or "without an alias now"
    return f"{result['model']} version {result['version']} ({aliases}): {reasons}"


def _register(params: Params, metrics: dict[str, float], reasons: list[str]) -> dict[str, Any]:
    from pipeline.runtime.registry import promote, register_bundle

    registered = register_bundle(
        TUNED,
        tracking=params.tracking,
        name=params.register_.name,
        metrics={f"test.{name}": value for name, value in metrics.items()},
        pictures=sorted(PICTURES.rglob("*.png")),
        description="; ".join(reasons),
    )
    lock = STATE / "registry.lock"
    aliases = promote(params.tracking, registered, params.register_.alias, lock)
    return {"version": registered.version, "aliases": aliases, "run_id": registered.run_id}


def _recall(memory: Path, key: str, uri: str, register: Register) -> dict[str, Any] | None:
    """Return what was registered under `key`, with the aliases that it has now.

    An alias that somebody moved or took away stays so: that was a decision too. Nothing is
    returned where the store has gone.
    """
    if not memory.exists():
        return None
    remembered: dict[str, Any] | None = read_json(memory).get(key)
    if remembered is None:
        return None
    try:
        version = version_of_alias(uri, register.name, register.alias)
    except StoreGoneError:
        return None
    except LookupError:
        return remembered  # nobody can tell just now
    others = [alias for alias in remembered["aliases"] if alias != register.alias]
    holds = version == remembered["version"]
    return remembered | {"aliases": sorted([*others, register.alias] if holds else others)}
