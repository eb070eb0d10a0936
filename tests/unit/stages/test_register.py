import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.prepare import Preparing
from pipeline.files import read_json, write_json
from pipeline.params import load_params
from pipeline.runtime.tracking import open_client
from pipeline.stages import register
from pipeline.vision.bundle import Description, save_bundle
from tests.contract.imports import ROOT

BETTER = {"accuracy": 0.9, "balanced_accuracy": 0.85, "macro_f1": 0.84, "nll": 0.3, "ece": 0.05}
WORSE = {"accuracy": 0.8, "balanced_accuracy": 0.75, "macro_f1": 0.74, "nll": 0.6, "ece": 0.1}


def prepare(tuned, baseline):
    """Lay out what the stage reads, in the current folder."""
    figures = {"tuned": tuned, "baseline": baseline}
    blocks = {
        name: {"test": {key: {"value": v, "ci95": [v, v]} for key, v in given.items()}}
        for name, given in figures.items()
    }
    write_json(Path("reports/evaluate.json"), blocks)
    preparing = Preparing(28, 28, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, ("cat", "dog"), preparing, (0.3,), (0.3,))
    save_bundle(Path("models/tuned"), description, description.build().state_dict())


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


def test_a_better_model_becomes_the_champion_once(params, capsys, monkeypatch):
    prepare(BETTER, WORSE)
    register.run(params)
    first = read_json(Path("reports/register.json"))
    assert first["promoted"]
    assert (first["version"], first["aliases"]) == ("1", ["champion"])
    assert first["reasons"] == [
        "macro-F1 0.8400 against the baseline's 0.7400: a gain of +0.1000, as asked"
        " (more than 0, and at least register.min_gain_over_baseline, 0)"
    ]
    assert "convoy-digits version 1 (champion)" in capsys.readouterr().out
    # The second time nothing is asked of MLflow, and the report is the same to the byte.
    before = Path("reports/register.json").read_bytes()
    Path("reports/register.json").unlink()
    monkeypatch.setattr(register, "_register", None)
    register.run(params)
    assert Path("reports/register.json").read_bytes() == before


def test_what_is_remembered_takes_no_mlflow_and_no_torch(params):
    prepare(BETTER, WORSE)
    register.run(params)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    code = (
        "import sys; from pipeline.cli import run; assert run(['register']) == 0;"
        "assert not {'mlflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_model_that_loses_to_the_baseline_is_refused(params, capsys):
    prepare(WORSE, BETTER)
    register.run(params)
    result = read_json(Path("reports/register.json"))
    assert not result["promoted"]
    assert "version" not in result
    assert "a gain of -0.1000, too little" in result["reasons"][0]
    assert "convoy-digits not registered" in capsys.readouterr().out
    assert not Path("mlflow.db").exists()


def test_a_model_as_good_as_the_baseline_is_refused(params):
    prepare(BETTER, BETTER)
    register.run(params)
    assert not read_json(Path("reports/register.json"))["promoted"]


def test_an_alias_that_somebody_took_away_stays_away(params, capsys):
    prepare(BETTER, WORSE)
    register.run(params)
    open_client(params.tracking).delete_registered_model_alias("convoy-digits", "champion")
    register.run(params)
    assert read_json(Path("reports/register.json"))["aliases"] == []
    assert "version 1 (without an alias now)" in capsys.readouterr().out


def test_the_gain_that_is_asked_for_counts(params):
    asked = params.register_.model_copy(update={"min_gain_over_baseline": 0.2})
    prepare(BETTER, WORSE)
    register.run(params.model_copy(update={"register_": asked}))
    assert not read_json(Path("reports/register.json"))["promoted"]


def test_a_store_that_is_gone_is_noticed():
    prepare(BETTER, WORSE)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    for _ in range(2):
        # As a process of its own: MLflow holds on to a database that it once opened.
        subprocess.run([sys.executable, "-m", "pipeline", "register"], check=True)
        assert read_json(Path("reports/register.json"))["version"] == "1"
        Path("mlflow.db").unlink()


def test_another_model_is_another_version(params):
    for version in ("1", "2"):
        prepare(BETTER, WORSE)  # with new random weights
        register.run(params)
        result = read_json(Path("reports/register.json"))
        assert (result["version"], result["aliases"]) == (version, ["champion"])
