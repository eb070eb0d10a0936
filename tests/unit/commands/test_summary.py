import shutil
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.evaluation.reports.files import write_report
from pipeline.files import read_json, write_json
from tests import reports as invented
from tests.contract.imports import ROOT

EVALUATE, REGISTER = Path("reports/evaluate.json"), Path("reports/register.json")


@pytest.fixture
def reports():
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    evaluate = invented.evaluate_report(("ant", "bee"), 8).model_dump(mode="json")
    for place, name in enumerate(("baseline", "base", "tuned", "final")):
        for key in ("accuracy", "balanced_accuracy", "macro_f1"):
            evaluate[name]["test"][key] = {"value": 0.5 + place / 10, "ci95": [0.25, 0.85]}
    write_json(EVALUATE, evaluate)
    write_report(Path("reports/tta.json"), invented.tta_report(("ant", "bee"), 8))
    result = {"model": "m", "version": "3"}
    write_report(REGISTER, invented.changed(invented.first(), **result))


def test_the_table_and_where_things_are(reports, capsys):
    assert run(["summary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("  ")[0] for line in lines[1:5]]
    assert names == ["baseline", "base", "tuned", "final"]
    for place, line in enumerate(lines[1:5]):
        assert line.count(f"{0.5 + place / 10:.3f} [0.250, 0.850]") == 3
    assert lines[-4:] == [
        "report      reports/index.html",
        "ships       tuned: tuned is better by 0.1",
        "model       m version 3 (champion)",
        "MLflow UI   .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db",
    ]


def test_a_promotion_that_no_interval_shows(reports, capsys):
    (check,) = read_json(REGISTER)["checks"]
    caveat = "better than the baseline is not shown: +0.007"
    write_json(
        REGISTER,
        read_json(REGISTER) | {"checks": [check | {"shown": False, "caveat": caveat}]},
    )
    assert run(["summary"]) == 0
    assert f"m version 3 (champion)\n            {caveat}\n" in capsys.readouterr().out


def test_a_refused_model_and_a_server(reports, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    (check,) = read_json(REGISTER)["checks"]
    checks = [
        check | {"passed": True, "reason": "quick"},
        check | {"passed": False, "reason": "too weak"},
    ]
    refused = {"promoted": False, "aliases": ["challenger"], "checks": checks}
    write_json(REGISTER, read_json(REGISTER) | refused)
    assert run(["summary"]) == 0
    out = capsys.readouterr().out
    assert "model       m version 3 (challenger)\n            not promoted: too weak\n" in out
    assert "MLflow UI   http://tracker:5000" in out


def test_a_model_whose_alias_was_moved(reports, capsys):
    notes = ["since then the alias champion was taken away"]
    moved = {"promoted": False, "aliases": [], "notes": notes}
    write_json(REGISTER, read_json(REGISTER) | moved)
    assert run(["summary"]) == 0
    out = capsys.readouterr().out
    assert "version 3 (without an alias)\n            not promoted: since then the alias" in out


@pytest.mark.parametrize(("name", "key"), [("evaluate", "metrics"), ("register", "model")])
def test_a_report_that_lacks_something_is_named(reports, capsys, name, key):
    write_json(Path(f"reports/{name}.json"), {})
    assert run(["summary"]) == 2
    err = capsys.readouterr().err
    assert err == f"convoy: reports/{name}.json lacks {key}; delete it and run dvc repro\n"


@pytest.mark.parametrize(
    ("path", "edit", "message"),
    [
        (EVALUATE, {"final": 5}, "final: expected an object, found a whole number"),
        (EVALUATE, {"base": {"test": None}}, "base.test: expected an object, found null"),
        (REGISTER, {"aliases": "champion"}, "aliases: expected a list, found text"),
        (REGISTER, {"checks": [3]}, "checks.0: expected an object, found a whole number"),
    ],
)
def test_a_report_that_holds_something_else_is_one_line(reports, capsys, path, edit, message):
    write_json(path, read_json(path) | edit)
    assert run(["summary"]) == 2
    err = capsys.readouterr().err
    assert err == f"convoy: {path} is damaged ({message}); delete it and run dvc repro\n"
