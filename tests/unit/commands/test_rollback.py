import shutil
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.params import load_params
from pipeline.runtime.registry.aliases import promote
from pipeline.runtime.registry.lookup import lookup_aliases
from pipeline.runtime.tracking.store import open_client
from tests.contract.imports import ROOT


@pytest.fixture
def params():
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return load_params()


def test_there_and_back(params, capsys):
    client = open_client(params.tracking)
    client.create_registered_model("convoy-digits")
    for _ in range(2):
        client.create_model_version("convoy-digits", "file:///nowhere")
    assert run(["rollback"]) == 2
    assert "no version of convoy-digits is champion" in capsys.readouterr().err
    promote(params.tracking, "convoy-digits", "1", "champion", None)
    assert run(["rollback"]) == 2
    assert "there is nothing to roll back to" in capsys.readouterr().err
    promote(params.tracking, "convoy-digits", "2", "champion", "1")
    assert run(["rollback"]) == 0
    said = capsys.readouterr().out
    assert "convoy-digits: champion is version 1 again; version 2 is previous now" in said
    held = lookup_aliases(params.tracking.uri, "convoy-digits")
    assert held == {"champion": "1", "previous": "2"}
    # What a person deletes at the store is named.
    client.delete_registered_model_alias("convoy-digits", "champion")
    assert run(["rollback"]) == 2
    assert "is champion in the registry at sqlite:///mlflow.db (previous is version 2);" in (
        capsys.readouterr().err
    )
    client.delete_model_version("convoy-digits", "2")
    promote(params.tracking, "convoy-digits", "1", "champion", None)
    assert run(["rollback"]) == 2
    assert "no version of convoy-digits is previous in the registry" in capsys.readouterr().err
    client.delete_registered_model("convoy-digits")
    assert run(["rollback"]) == 2
    said = capsys.readouterr().err
    assert "no version of convoy-digits is champion" in said
    assert "(it has no aliases)" in said
    assert said.count("\n") == 1


def test_a_store_that_is_not_there_is_not_made(params, capsys):
    assert run(["rollback"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("convoy: there is no MLflow store at sqlite:///mlflow.db yet")
    assert err.count("\n") == 1
    assert not Path("mlflow.db").exists()
