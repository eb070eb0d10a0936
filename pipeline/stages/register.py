"""The registry: every final model becomes a version, and champion if the gate lets it pass.

DVC runs this stage every time, since what it changes, and whom the model must beat, lie outside
the repository. Where it remembers that this very model was judged, it only glances at the
registry, without the seconds that MLflow takes to import: an up-to-date pipeline stays quick.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_json, read_report, write_json
from pipeline.params import Params
from pipeline.runtime.registry.alias_lookup import StoreGoneError, lookup_aliases
from pipeline.runtime.tracking.store import tracking_uri
from pipeline.stages._paths import FINAL, PACKED, REPORTS, STATE
from pipeline.stages._results import judged_models
from pipeline.vision.bundle.digest import bundle_digest, values_digest

_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")


def run(params: Params) -> None:
    """Write reports/register.json: the decision, its reasons and figures, and the version."""
    report = read_report(REPORTS / "evaluate.json")
    figures = {
        name: {key: report[name]["test"][key]["value"] for key in _FIGURES}
        for name in ("baseline", "final")
    }
    result: dict[str, Any] = {
        "model": params.register_.name,
        "alias": params.register_.alias,
        "bundle": bundle_digest(FINAL),
        "candidate": figures["final"],
        "baseline": figures["baseline"],
    }
    # The figures to their last digit stand for the test images that they were measured on.
    sections = {"register": params.register_, "evaluate": params.evaluate}
    rules = {name: section.model_dump(mode="json") for name, section in sections.items()}
    key = values_digest([result, rules, tracking_uri(params.tracking), params.tracking.experiment])
    memory = STATE / "registered.json"
    settled = _recall(memory, key, params)
    if settled is None:
        settled = _settle(params, figures)
        write_json(memory, {key: settled})
    write_json(REPORTS / "register.json", result | settled)
    _record(params, settled)
    print(f"register: {describe(result | settled)}")


def describe(result: dict[str, Any]) -> str:
    """Say what became of the model, and why: a line per reason."""
    aliases = ", ".join(result["aliases"]) or "without an alias now"
    checks = {check["reason"]: check["passed"] for check in result["checks"]}
    marks = {True: "passed: ", False: "failed: ", None: ""}
    reasons = [f"  {marks[checks.get(reason)]}{reason}" for reason in result["reasons"]]
    title = f"{result['model']} version {result['version']} ({aliases}), {result['decision']}"
    return "\n".join([title, *reasons])


def _settle(params: Params, figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    from pipeline.data.sources.open import open_source
    from pipeline.runtime.registry.promotion import Candidate, Registry, settle

    candidate = Candidate(
        bundle=FINAL,
        figures=figures["final"],
        baseline=figures["baseline"],
        images=PACKED / "test",
        source=open_source(params.data.root),
        result=judged_models(params)["finetune"],
    )
    registry = Registry(params.tracking, params.register_, STATE / "champions")
    return settle(candidate, registry, params.evaluate)


def _record(params: Params, settled: Mapping[str, Any]) -> None:
    """Put figures, pictures and the decision onto the models' runs, unless they are there."""
    results = judged_models(params)
    tags = {
        "convoy.version": f"{params.register_.name} {settled['version']}",
        "convoy.decision": settled["decision"],
    }
    memory = STATE / "recorded.json"
    digests = [result.digest for result in results.values()]
    # In a store that was made anew the run is another.
    state = values_digest([digests, tags, settled["run_id"], tracking_uri(params.tracking)])
    if memory.exists() and read_json(memory) == state:
        return
    from pipeline.runtime.tracking.results import record_result

    for stage, result in results.items():
        record_result(result, tags if stage == "finetune" else {})
    write_json(memory, state)


def _recall(memory: Path, key: str, params: Params) -> dict[str, Any] | None:
    """Return what was settled under `key`, with the aliases that the version has now.

    A model that was promoted is not promoted once more: that its alias was moved or taken away
    since was a decision too. One that was refused is judged again when the champion is another.
    Nothing is returned where the store has gone.
    """
    if not memory.exists():
        return None
    settled: dict[str, Any] | None = read_json(memory).get(key)
    if settled is None:
        return None
    try:
        held = lookup_aliases(tracking_uri(params.tracking), params.register_.name)
    except StoreGoneError:
        return None
    except LookupError:
        return settled  # nobody can tell just now
    met = settled["champion"]["version"] if settled["champion"] else None
    if settled["decision"] == "refused" and held.get(params.register_.alias) != met:
        return None
    return _as_it_is_now(settled, held, params.register_.alias)


def _as_it_is_now(
    settled: dict[str, Any], held: Mapping[str, str], champion: str
) -> dict[str, Any]:
    """Bring what was settled up to date with the aliases of the model."""
    aliases = sorted(alias for alias, version in held.items() if version == settled["version"])
    now = settled | {"aliases": aliases}
    if settled["promoted"] and champion not in aliases:
        moved = f"moved to version {held[champion]}" if champion in held else "was taken away"
        now["promoted"] = False
        now["reasons"] = [*settled["reasons"], f"since then the alias {champion} {moved}"]
    return now
