import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import STAGES, run
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "there is no command 'trian', did you mean train?; see 'convoy --help'"),
        (["nothing-like-it"], "predict, similar, compare, rollback, sync, summary, doctor"),
        (["predict"], "Missing argument 'PATHS...'; see 'convoy predict --help'"),
        (["predict", "--modle", "x", "y"], "No such option '--modle'"),
        (["train", "now"], "Got unexpected extra argument (now); see 'convoy train --help'"),
        (["index"], "cannot read params.yaml"),
        (["summary"], "cannot read params.yaml"),
        (["predict", "nowhere.jpg"], "nowhere.jpg: No such file or directory; name image files"),
        (
            ["predict", ".", "--output", "a.txt"],
            "expected a name that ends in .csv, .json or .parquet",
        ),
        (["predict", "."], "no files in .; name image files or folders"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, expected, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("convoy: ")
    assert err.count("\n") == 1
    assert expected in err


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("index", "data.root"),
        ("split", "data/index.parquet"),
        ("pack", "data/split.parquet"),
        ("balance", "data/packed/train"),
        ("baseline", "data/packed/train"),
        ("train", "data/packed/train"),
        ("finetune", "data/packed/train"),
        ("evaluate", "data/packed/val"),
        ("tta", "data/packed/val"),
        ("embed", "data/packed/train"),
        ("inspect", "data/packed/test"),
        ("register", "reports/evaluate.json"),
        ("report", "data/split.parquet"),
    ],
)
def test_a_stage_without_its_input_says_which(stage, missing, capsys):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    assert run([stage]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert missing in err


@pytest.mark.parametrize("address", ["./mlruns", "file:///tmp/mlruns", "/tmp/mlruns"])
@pytest.mark.parametrize("by_params", [True, False])
def test_a_folder_as_a_tracking_store_is_refused_wherever_it_is_named(
    address, by_params, monkeypatch, capsys
):
    """Equal records are kept twice there. MLflow's own switch makes no difference."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    text = (ROOT / "params.yaml").read_text()
    if by_params:
        text = text.replace("uri: sqlite:///mlflow.db", f"uri: {address}")
        assert address in text
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    Path("params.yaml").write_text(text)
    write_set(Path("packed"), *bars(9), BARS)
    said = f"the MLflow address {address} is a folder, in which a record may be kept twice; need a"
    for command in (
        ["rollback"],
        ["sync"],
        ["compare", "models:/m/1", "models:/m/2", "--images", "packed"],
        ["predict", "packed", "--model", "models:/m@champion"],
    ):
        assert run(command) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"convoy: {said} database; change tracking.uri in params.yaml")
        assert err.count("\n") == 1
    params = load_params()
    with pytest.raises(PipelineError, match=re.escape(said)):
        RunLogger(params.tracking, RunMetadata("", {}, {}, {}), Path("journal"), Path("training"))
    assert not Path("mlruns").exists()


def test_help_names_every_stage_in_order(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {stage} ") for stage in STAGES]
    assert places == sorted(places)


def test_no_arguments_show_the_help(capsys):
    assert run([]) == 2
    assert "Usage: convoy" in capsys.readouterr().out


def test_an_interrupt_is_not_a_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.params.load_params", interrupted)
    assert run(["index"]) == 130
    assert capsys.readouterr().err.strip() == "convoy: stopped"


def test_what_the_disk_refuses_is_one_line(capsys, monkeypatch):
    def full():
        raise OSError(28, "No space left on device", "data/x")

    monkeypatch.setattr("pipeline.params.load_params", full)
    assert run(["index"]) == 2
    assert capsys.readouterr().err == (
        "convoy: data/x: No space left on device; free some space: df names the full file system\n"
    )


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m pipeline --help | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, cwd=ROOT, check=False
    )
    assert b"Traceback" not in done.stderr
