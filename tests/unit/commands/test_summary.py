import shutil
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.files import write_json
from tests.contract.imports import ROOT

FIGURE = {"value": 0.5, "ci95": [0.25, 0.75]}
BLOCK = {"test": dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), FIGURE)}


@pytest.fixture
def reports():
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    write_json(Path("reports/evaluate.json"), dict.fromkeys(("baseline", "base", "tuned"), BLOCK))
    write_json(Path("reports/tta.json"), BLOCK)
    result = {
        "model": "m",
        "promoted": True,
        "version": "3",
        "aliases": ["champion"],
        "reasons": [],
        "checks": [],
    }
    write_json(Path("reports/register.json"), result)
    return result


def test_the_table_and_where_things_are(reports, capsys):
    assert run(["summary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("  ")[0] for line in lines[1:5]]
    assert names == ["baseline", "base", "tuned", "tuned with TTA"]
    assert all(line.count("0.500 [0.250, 0.750]") == 3 for line in lines[1:5])
    assert lines[-3:] == [
        "report      reports/index.html",
        "model       m version 3 (champion)",
        "MLflow UI   .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db",
    ]


def test_a_refused_model_and_a_server(reports, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    checks = [{"passed": True, "reason": "quick"}, {"passed": False, "reason": "too weak"}]
    refused = reports | {"promoted": False, "aliases": ["challenger"], "checks": checks}
    write_json(Path("reports/register.json"), refused)
    assert run(["summary"]) == 0
    out = capsys.readouterr().out
    assert "model       m version 3 (challenger)\n            not promoted: too weak\n" in out
    assert "MLflow UI   http://tracker:5000" in out


@pytest.mark.parametrize("name", ["evaluate", "tta", "register"])
def test_a_report_that_lacks_something_is_named(reports, capsys, name):
    write_json(Path(f"reports/{name}.json"), {})
    assert run(["summary"]) == 2
    err = capsys.readouterr().err
    key = {"evaluate": "baseline", "tta": "test", "register": "aliases"}[name]
    assert err == f"convoy: reports/{name}.json lacks {key}; delete it and run dvc repro\n"
