"""The registry: every final model becomes a version, and champion if it passes the gate.

DVC runs this stage every time, since what it changes, and the model that must be beaten, lie
outside the repository. Where it remembers that this very model was judged, it reads only the
aliases from the registry, without the seconds that MLflow takes to import: an up-to-date pipeline
stays quick.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.evaluation.judging.looks import describe_looks
from pipeline.evaluation.registration.outcome import Outcome, RegisterReport
from pipeline.evaluation.reports.files import read_report, write_report
from pipeline.evaluation.reports.schema import EvaluateReport, Figure, Model
from pipeline.evaluation.retraining.record import CALLS_FILE
from pipeline.files import fresh_folder, read_json, write_json
from pipeline.params import Params
from pipeline.runtime.registry.lookup import StoreGoneError, has_version, lookup_aliases
from pipeline.runtime.tracking.store import tracking_uri
from pipeline.runtime.tracking.trained import Result
from pipeline.stages._paths import CALLS, FINAL, PACKED, REPORTS, RETRAINING, STATE
from pipeline.stages._results import Judged, judged_models
from pipeline.vision.bundle.digest import bundle_digest, values_digest


def run(params: Params) -> None:
    """Write reports/register.json: the decision, what it rests on, and the version."""
    evaluate = read_report(REPORTS / "evaluate.json", EvaluateReport)
    judged = judged_models(params, evaluate)
    gain = _over_baseline(evaluate, params)
    asked = {
        "model": params.register_.name,
        "alias": params.register_.alias,
        "bundle": bundle_digest(FINAL),
        "candidate": _values(evaluate.final),
        "baseline": _values(evaluate.baseline) if evaluate.baseline else None,
        "over_baseline": gain.model_dump(mode="json") if gain else None,
    }
    # The figures to their last digit stand for the test images that they were measured on.
    sections = {"register": params.register_, "evaluate": params.evaluate}
    rules = {name: section.model_dump(mode="json") for name, section in sections.items()}
    key = values_digest([asked, rules, tracking_uri(params.tracking), params.tracking.experiment])
    memory = STATE / "registered.json"
    remembered = _recall(memory, key)
    outcome, notes = _as_it_is_now(remembered, params, asked) if remembered else (None, ())
    if outcome is None:
        outcome = _register(params, evaluate, judged.results[judged.shipped])
        outcome = outcome.model_copy(update={"notes": (*notes, *outcome.notes)})
        write_json(memory, {key: outcome.model_dump(mode="json")})
    report = RegisterReport.model_validate({**asked, **dict(outcome)})
    write_report(REPORTS / "register.json", report)
    _record(params, outcome, judged)
    _copy_calls()
    print(f"register: {_describe(report)}")


def _values(model: Model) -> dict[str, float]:
    """Return the test metrics of a model, but for those that are not defined."""
    figures = model.test.figures
    return {name: one.value for name, one in figures.items() if one.value is not None}


def _over_baseline(evaluate: EvaluateReport, params: Params) -> Figure | None:
    if evaluate.baseline is None:
        return None
    return evaluate.comparisons["final_minus_baseline"].figures[params.evaluate.metric]


def _copy_calls() -> None:
    """Bring what calls of `convoy retrain` left for the page to where DVC sees it."""
    with fresh_folder(RETRAINING) as folder:
        if CALLS.is_dir():
            shutil.copytree(CALLS, folder, dirs_exist_ok=True)
        else:
            write_json(folder / CALLS_FILE, [])


def _describe(report: RegisterReport) -> str:
    """Say what became of the model, and why: a line per condition and note."""
    aliases = ", ".join(report.aliases) or "without an alias now"
    title = f"{report.model} version {report.version} ({aliases}), {report.decision}"
    checks = [
        f"  {'passed' if check.passed else 'failed'}: {check.reason}" for check in report.checks
    ]
    notes = [*report.notes, describe_looks(report.looks)]
    return "\n".join([title, *checks, *(f"  {note}" for note in notes)])


def _register(params: Params, evaluate: EvaluateReport, result: Result) -> Outcome:
    from pipeline.data.sources.open import open_source
    from pipeline.evaluation.judging.gate import AgainstBaseline
    from pipeline.runtime.registry.promotion import Candidate, Registry, register_and_judge

    metric = params.evaluate.metric
    met = None
    if evaluate.baseline and (gain := _over_baseline(evaluate, params)):
        candidate_value, value = (
            _values(model)[metric] for model in (evaluate.final, evaluate.baseline)
        )
        met = AgainstBaseline(candidate_value, value, gain.model_dump())
    candidate = Candidate(
        bundle=FINAL,
        over_baseline=met,
        test=evaluate.final.test,
        images=PACKED / "test",
        source=open_source(params.data.root),
        result=result,
    )
    registry = Registry(params.tracking, params.register_, STATE / "champions")
    return register_and_judge(candidate, registry, params.evaluate)


def _record(params: Params, outcome: Outcome, judged: Judged) -> None:
    """Put figures, pictures and the decision onto the models' runs, unless they are there."""
    tags = {
        "convoy.version": f"{params.register_.name} {outcome.version}",
        "convoy.decision": outcome.decision,
    }
    memory = STATE / "recorded.json"
    digests = [judged.shipped, *(result.digest for result in judged.results.values())]
    # In a new store the run is another one.
    state = values_digest([digests, tags, outcome.run_id, tracking_uri(params.tracking)])
    if memory.exists() and read_json(memory) == state:
        return
    from pipeline.runtime.tracking.results import record_result

    for stage, result in judged.results.items():
        record_result(result, tags if stage == judged.shipped else {})
    write_json(memory, state)


def _recall(memory: Path, key: str) -> Outcome | None:
    """Return what was remembered under `key`, unless another version of Convoy remembered it."""
    if not memory.exists() or key not in (remembered := read_json(memory)):
        return None
    try:
        return Outcome.model_validate(remembered[key])
    except ValidationError:
        return None


def _as_it_is_now(
    outcome: Outcome, params: Params, asked: Mapping[str, Any]
) -> tuple[Outcome | None, tuple[str, ...]]:
    """Bring an outcome up to date with the registry.

    A model that was promoted is not promoted once more: that its alias was moved or deleted since
    was a decision too. One that was refused is judged again when the champion is another. One
    whose version, or store, is gone is registered again.

    Returns:
        The outcome, None where the model must be registered or judged again; and notes for that.
    """
    uri, model, alias = tracking_uri(params.tracking), asked["model"], asked["alias"]
    try:
        held = lookup_aliases(uri, model)
        if not has_version(uri, model, outcome.version, asked["bundle"]):
            gone = f"version {outcome.version} was deleted from the registry"
            return None, (f"{gone} after the run before; the model is registered again",)
    except StoreGoneError:
        return None, ()
    except LookupError:
        return outcome, ()  # the store cannot be asked just now
    met = outcome.champion.version if outcome.champion else None
    if outcome.decision == "refused" and held.get(alias) != met:
        return None, ()
    aliases = tuple(sorted(name for name, version in held.items() if version == outcome.version))
    now = outcome.model_copy(update={"aliases": aliases})
    if not outcome.promoted or alias in aliases:
        return now, ()
    note = f"since then the alias {alias} was deleted, and stays so; set it in MLflow to undo that"
    if alias in held:
        note = f"since then the alias {alias} moved to version {held[alias]}"
    return now.model_copy(update={"promoted": False, "notes": (*outcome.notes, note)}), ()
