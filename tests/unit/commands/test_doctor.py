import shutil
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.commands import doctor
from pipeline.params import load_params
from tests.contract.imports import ROOT
from tests.hub import write_hub_file


@pytest.fixture
def checked(monkeypatch):
    """Leave out the check that starts a cluster; tests/distributed has it."""
    monkeypatch.setattr(doctor, "_cluster", lambda _: "left out")


def test_every_check_says_a_line(checked, capsys):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    run(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        *("python", "packages", "torch", "dvc", "disk", "params", "data", "tracking", "cluster")
    ]
    found = {line.split()[1]: line for line in lines}
    assert found["torch"].startswith("ok")
    assert found["tracking"] == "ok   tracking  sqlite:///mlflow.db answers, 0 runs of convoy"
    # This folder is no DVC repository, and a finding makes the exit code 1.
    assert found["dvc"].startswith("FAIL dvc")
    assert run(["doctor"]) == 1


def test_wrong_params_are_told_and_end_the_examination(checked, capsys):
    Path("params.yaml").write_text("data: {}")
    assert run(["doctor"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("FAIL params    params.yaml: data.root: missing, add it;")


def test_no_data_and_no_server_are_told(checked, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    text = (ROOT / "params.yaml").read_text().replace("root: data/sample", "root: nowhere")
    Path("params.yaml").write_text(text)
    assert run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAIL data      data.root" in out
    assert "FAIL tracking  the MLflow address nonsense://x begins with nonsense" in out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    assert run(["doctor"]) == 1
    assert "FAIL tracking  the MLflow address mlruns is a folder" in capsys.readouterr().out


def test_images_of_every_source_are_counted():
    params = load_params(ROOT / "params.yaml")
    assert doctor._data(params) == "data/sample is made by the first dvc repro"
    for number in range(3):
        Path(f"in/{number % 2}").mkdir(parents=True, exist_ok=True)
        Path(f"in/{number % 2}/{number}.png").touch()
    Path("in/list.csv").write_text("path,label\n0/0.png,a\n0/2.png,b\n")
    write_hub_file(Path("hub/data/train-00000-of-00001.parquet"), [b"x"] * 5, [0] * 5, ("a",))
    for root, count in (("in", 3), ("in/list.csv", 2), ("hub", 5)):
        data = params.data.model_copy(update={"root": root})
        found = doctor._data(params.model_copy(update={"data": data}))
        assert found == f"{count} images in {root}"
