import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.files import write_report
from pipeline.files import read_json, write_json
from pipeline.params import load_params
from pipeline.runtime.registry.aliases import roll_back
from pipeline.runtime.tracking.store import open_client
from pipeline.stages import register
from tests import reports
from tests.contract.imports import ROOT
from tests.fitted import fit_bundle
from tests.judged import HISTORY
from tests.packed import BARS, bars, write_set

BETTER = {"accuracy": 0.9, "balanced_accuracy": 0.85, "macro_f1": 0.84, "nll": 0.3, "ece": 0.05}
WORSE = {"accuracy": 0.8, "balanced_accuracy": 0.75, "macro_f1": 0.74, "nll": 0.6, "ece": 0.1}
RESULT = Path("reports/register.json")


def prepare(final=BETTER, baseline=WORSE, *, fitted=True, **model):
    """Lay out what the stage reads, in the current folder; `fitted`: whether a baseline was."""
    report = reports.evaluate_report(BARS, 9).model_dump(mode="json")
    for name, given in {"final": final, "baseline": baseline}.items():
        report[name]["test"] |= {key: {"value": v, "ci95": [v, v]} for key, v in given.items()}
    gain = final["macro_f1"] - baseline["macro_f1"]
    report["comparisons"]["final_minus_baseline"]["macro_f1"] = {
        "value": gain,
        "ci95": [gain - 0.04, gain + 0.04],
    }
    for name in ("base", "tuned"):
        report[name]["test"]["macro_f1"]["value"] = 0.5
    if not fitted:
        report["baseline"] = None
        for name in ("base", "tuned", "final"):
            del report["comparisons"][f"{name}_minus_baseline"]
    write_json(Path("reports/evaluate.json"), report)
    write_report(Path("reports/tta.json"), reports.tta_report(BARS, 9))
    write_json(Path("reports/network.json"), reports.network_report(len(BARS)))
    images = write_set(Path("data/packed/test"), *bars(60), BARS)
    for name in ("train", "val"):
        write_set(Path("data/packed") / name, *bars(9), BARS)
    write_set(Path("data/balanced"), *bars(3, seed=1), BARS)
    fit_bundle(Path("models/base"), images, seed=7)
    for name in ("tuned", "final"):
        fit_bundle(Path("models") / name, images, **model)
    for name in ("base", "tuned"):
        write_json(Path(f"reports/history/{name}.json"), HISTORY)
    picture = Path("reports/pictures/evaluate/learning_curves.png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"a picture")


@pytest.fixture
def params(empty_store, monkeypatch):
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setattr("pipeline.vision.application.paired_evaluation._TIMED_S", 0.0)
    return load_params(ROOT / "params.yaml")


def registered(params):
    register.run(params)
    return read_json(RESULT)


def test_a_better_model_becomes_the_champion_once(params, capsys, monkeypatch):
    prepare()
    first = registered(params)
    assert (first["decision"], first["promoted"]) == ("promoted", True)
    assert (first["version"], first["aliases"]) == ("1", ["champion"])
    assert [check["reason"] for check in first["checks"]] == [
        "macro-F1 0.8400 against the baseline's 0.7400: a gain of +0.1000, 95 % interval +0.0600"
        " to +0.1400, as asked, and shown by the interval (more than 0, register.baseline: point;"
        " at least register.min_gain_over_baseline, 0)"
    ]
    assert (
        "convoy-digits version 1 (champion), promoted\n  passed: macro-F1"
        in capsys.readouterr().out
    )
    # The second time nothing is asked of MLflow, and the report is the same to the byte.
    before = RESULT.read_bytes()
    RESULT.unlink()
    monkeypatch.setattr(register, "_register", None)
    monkeypatch.setattr("pipeline.runtime.tracking.results.record_result", None)
    register.run(params)
    assert RESULT.read_bytes() == before


@pytest.mark.parametrize("figures", [(BETTER, WORSE), (WORSE, BETTER)])
def test_what_is_remembered_takes_no_mlflow_and_no_torch(params, figures):
    prepare(*figures)
    register.run(params)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    code = (
        "import sys; from pipeline.cli import run; assert run(['register']) == 0;"
        "assert not {'mlflow', 'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("final", [WORSE, BETTER])
def test_a_model_that_does_not_beat_the_baseline_waits(params, capsys, final):
    prepare(final, BETTER)
    result = registered(params)
    assert (result["decision"], result["promoted"]) == ("refused", False)
    assert (result["version"], result["aliases"]) == ("1", ["challenger"])
    assert "too little" in result["checks"][0]["reason"]
    assert "version 1 (challenger), refused\n  failed: macro-F1" in capsys.readouterr().out


def test_a_worse_model_waits_and_is_judged_again_when_the_champion_changes(params, monkeypatch):
    prepare(wrong=2.0)
    assert registered(params)["version"] == "1"
    prepare()
    assert registered(params)["champion"]["version"] == "1"
    prepare(blind_to=2)
    result = registered(params)
    assert (result["decision"], result["champion"]["version"]) == ("refused", "2")
    client = open_client(params.tracking)
    with monkeypatch.context() as patch:
        patch.setattr(register, "_register", None)
        assert registered(params) == result
    client.set_registered_model_alias("convoy-digits", "champion", "1")
    again = registered(params)
    assert again["champion"]["version"] == "1"


def test_what_was_rolled_back_stays_so(params, capsys, monkeypatch):
    prepare(wrong=2.0)
    register.run(params)
    prepare()
    assert registered(params)["aliases"] == ["champion"]
    roll_back(params.tracking, "convoy-digits", "champion")
    with monkeypatch.context() as patch:
        patch.setattr(register, "_register", None)
        result = registered(params)
    assert (result["promoted"], result["aliases"]) == (False, ["previous"])
    assert result["notes"] == ["since then the alias champion moved to version 1"]
    # Elsewhere, where nothing is remembered, the registry remembers; and only once it must say so.
    Path(".convoy/registered.json").unlink()
    assert "was rolled back" in registered(params)["notes"][0]
    monkeypatch.setattr(register, "_register", None)
    assert registered(params)["aliases"] == ["previous"]
    assert "version 2 (previous), refused\n  version 2 was rolled back" in capsys.readouterr().out


def test_an_alias_that_a_person_deleted_stays_away(params, capsys):
    prepare()
    register.run(params)
    open_client(params.tracking).delete_registered_model_alias("convoy-digits", "champion")
    result = registered(params)
    assert (result["aliases"], result["promoted"]) == ([], False)
    said = capsys.readouterr().out
    assert "version 1 (without an alias now)" in said
    assert "  since then the alias champion was deleted, and stays so; set it in MLflow" in said


@pytest.mark.parametrize("figures", [(BETTER, WORSE), (WORSE, BETTER)])
def test_a_version_that_a_person_deleted_is_registered_again(params, capsys, monkeypatch, figures):
    prepare(*figures)
    alias = registered(params)["aliases"]
    client = open_client(params.tracking)
    client.delete_model_version("convoy-digits", "1")
    result = registered(params)
    assert (result["version"], result["aliases"]) == ("2", alias)
    note = "version 1 was deleted from the registry after the run before; the model is registered"
    assert f"  {note} again\n" in capsys.readouterr().out
    run = client.get_run(result["run_id"])
    assert run.data.tags["convoy.version"] == "convoy-digits 2"
    with monkeypatch.context() as patch:
        patch.setattr(register, "_register", None)
        assert registered(params) == result
    # The whole model, whose numbers then begin again: with a stranger.
    client.delete_registered_model("convoy-digits")
    client.create_registered_model("convoy-digits")
    client.create_model_version("convoy-digits", "file:///nowhere")
    client.create_model_version("convoy-digits", "file:///nowhere")
    result = registered(params)
    assert (result["version"], result["aliases"]) == ("3", alias)
    assert result["notes"][0].startswith("version 2 was deleted from the registry")


def test_a_coin_toss_is_promoted_by_its_point_and_refused_by_its_interval(params, capsys):
    """A gain of 0.01 whose interval holds 0, as some hundred images often show."""
    prepare(BETTER, BETTER | {"macro_f1": BETTER["macro_f1"] - 0.01})
    asked = params.register_.model_copy(update={"baseline": "interval"})
    result = registered(params.model_copy(update={"register_": asked}))
    assert (result["decision"], result["aliases"]) == ("refused", ["challenger"])
    result = registered(params)
    assert (result["decision"], result["aliases"]) == ("promoted", ["champion"])
    (check,) = result["checks"]
    assert (check["passed"], check["shown"]) == (True, False)
    assert "2 decisions have read these test images" in capsys.readouterr().out
    assert result["looks"] == 2


def test_without_a_baseline_the_gate_skips_it_and_says_so(params, capsys):
    prepare(fitted=False)
    result = registered(params)
    assert (result["decision"], result["baseline"], result["over_baseline"]) == (
        "promoted",
        None,
        None,
    )
    (check,) = result["checks"]
    assert (check["name"], check["passed"], check["shown"]) == ("baseline", True, False)
    said = "skipped: no baseline was fitted (baseline.classifier: none)"
    assert check["reason"] == said
    assert f"  passed: {said}\n" in capsys.readouterr().out


def test_other_limits_are_another_question(params):
    prepare()
    asked = params.register_.model_copy(update={"min_gain_over_baseline": 0.2})
    assert registered(params.model_copy(update={"register_": asked}))["decision"] == "refused"
    assert registered(params)["decision"] == "promoted"


def test_a_store_that_is_gone_is_noticed(params):
    prepare()
    assert registered(params)["version"] == "1"
    Path("mlflow.db").unlink()
    RESULT.unlink()
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    # As a process of its own: MLflow holds on to a database that it once opened.
    subprocess.run([sys.executable, "-m", "pipeline", "register"], check=True)
    assert read_json(RESULT)["version"] == "1"
    assert Path("mlflow.db").exists()


def test_a_store_that_keeps_records_twice_is_refused(params, monkeypatch):
    prepare()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")
    with pytest.raises(PipelineError, match="the MLflow address file:mlruns is a folder"):
        register.run(params)


def test_runs_carry_what_became_of_their_models(params):
    prepare()
    result = registered(params)
    client = open_client(params.tracking)
    experiment = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    runs = {run.data.tags["convoy.stage"]: run for run in client.search_runs([experiment])}
    assert set(runs) == {"train", "finetune"}
    base, tuned = runs["train"].data, runs["finetune"].data
    assert base.metrics["test/macro_f1"] == tuned.metrics["test/macro_f1"] == 0.5
    assert "test_final/macro_f1" not in base.metrics
    assert tuned.metrics["test_final/macro_f1"] == BETTER["macro_f1"]
    assert (base.metrics["val_loss"], base.params["recipe.images"]) == (0.6, "data/packed/train")
    assert result["run_id"] == runs["finetune"].info.run_id
    assert tuned.tags["convoy.version"] == "convoy-digits 1"
    assert tuned.tags["convoy.decision"] == "promoted"
    assert "convoy.version" not in base.tags
    places = [item.path for item in client.list_artifacts(result["run_id"])]
    assert places == ["bundle", "pictures", "reports"]
    assert [item.path for item in client.list_artifacts(runs["train"].info.run_id)] == [
        "pictures",
        "reports",
    ]


def test_a_first_training_that_ships_has_the_version(params):
    """Fine-tuning made the model worse: the final one is that of the stage train."""
    prepare()
    shutil.rmtree("models/final")
    shutil.copytree("models/base", "models/final")
    report = read_json(Path("reports/tta.json"))
    report["network"] |= {"name": "base", "base": 0.9, "tuned": 0.8}
    write_json(Path("reports/tta.json"), report)
    result = registered(params)
    client = open_client(params.tracking)
    experiment = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    runs = {run.data.tags["convoy.stage"]: run for run in client.search_runs([experiment])}
    base, tuned = runs["train"], runs["finetune"]
    assert result["run_id"] == base.info.run_id
    assert base.data.tags["convoy.version"] == "convoy-digits 1"
    assert "convoy.version" not in tuned.data.tags
    assert base.data.metrics["test_final/macro_f1"] == BETTER["macro_f1"]
    assert "test_final/macro_f1" not in tuned.data.metrics


def test_figures_that_change_reach_the_runs_though_the_decision_stays(params, monkeypatch):
    prepare()
    first = registered(params)
    report = read_json(Path("reports/evaluate.json"))
    report["tuned"]["test"]["macro_f1"]["value"] = 0.75
    write_json(Path("reports/evaluate.json"), report)
    monkeypatch.setattr(register, "_register", None)
    assert registered(params) == first
    run = open_client(params.tracking).get_run(first["run_id"])
    assert run.data.metrics["test/macro_f1"] == 0.75


def test_what_another_version_of_convoy_remembered_is_judged_again(params):
    prepare()
    first = registered(params)
    memory = Path(".convoy/registered.json")
    (remembered,) = read_json(memory).values()
    del remembered["checks"][0]["title"]
    write_json(memory, dict.fromkeys(read_json(memory), remembered))
    again = registered(params)
    assert (again["decision"], again["version"]) == ("unchanged", first["version"])
