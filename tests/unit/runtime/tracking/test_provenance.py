import getpass
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.tracking.provenance import dvc_tags, git_tags, lock_tags, user_tags
from tests.contract.imports import ROOT

LOCK = """
schema: '2.0'
stages:
  pack:
    deps:
    - {path: /photos, hash: md5, md5: aaa.dir}
    - {path: data/split.parquet, md5: stale}
    outs:
    - {path: data/packed, hash: md5, md5: bbb.dir}
  split:
    deps:
    - {path: pipeline/files.py, md5: ccc}
    outs:
    - {path: data/split.parquet, md5: ddd}
"""
REPRO = r"repro \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, " + re.escape(socket.gethostname())


@pytest.fixture(autouse=True)
def _outside_dvc(monkeypatch):
    for name in ("DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)


def git(*arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_outside_git():
    assert git_tags() == {}


def test_a_commit_and_whether_files_differ_from_it():
    git("init", "-q", "-b", "trunk")
    assert git_tags() == {
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.git.dirty": "false",
    }
    for name in ("params.yaml", "dvc.lock"):
        Path(name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "all")
    clean = git_tags()
    assert clean == {
        "mlflow.source.git.commit": git("rev-parse", "HEAD"),
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.git.dirty": "false",
    }
    # What DVC writes while it runs, and files that git does not know, change no source.
    Path("dvc.lock").write_text("2")
    Path("notes").write_text("mine")
    assert git_tags() == clean
    Path("params.yaml").write_text("2")
    assert git_tags() == clean | {"mlflow.source.git.dirty": "true"}
    git("checkout", "-q", "--detach")
    assert "mlflow.source.git.branch" not in git_tags()


def test_who_runs_this():
    assert user_tags() == {"mlflow.user": getpass.getuser()}


def test_a_user_without_a_name(monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user_tags() == {}


def test_the_lock_tells_what_the_inputs_were():
    Path("dvc.lock").write_text(LOCK)
    inputs = ["data/packed/train", "data/packed/val", "data/split.parquet", "/photos/a", "models/x"]
    assert lock_tags(Path("dvc.lock"), [Path(path) for path in inputs]) == {
        "convoy.dvc.lock": hashlib.sha256(LOCK.encode()).hexdigest(),
        "convoy.dvc.md5.data/packed": "bbb.dir",
        "convoy.dvc.md5.data/split.parquet": "ddd",
        "convoy.dvc.md5./photos": "aaa.dir",
    }


@pytest.mark.parametrize("text", ["stages: [", "", "[1]", "stages: {}"])
def test_a_lock_that_tells_nothing(text):
    Path("dvc.lock").write_text(text)
    tags = lock_tags(Path("dvc.lock"), [Path("data/packed")])
    assert set(tags) <= {"convoy.dvc.lock"}


def test_no_lock():
    assert lock_tags(Path("dvc.lock"), [Path("data/packed")]) == {}


def test_outside_dvc_nothing_is_said_of_it():
    Path("dvc.lock").write_text(LOCK)
    assert dvc_tags([Path("data/packed")]) == {}


# As DVC runs a command: it sets the variables for a shell, which starts the command.
PARENT = """
import os, subprocess, sys
for stage in ("train", "finetune"):
    command = f"{sys.executable} -c '{sys.argv[1]}'; true"
    subprocess.run(["sh", "-c", command], env=dict(os.environ, DVC_STAGE=stage), check=True)
"""
CHILD = """
import json
from pipeline.runtime.tracking.provenance import dvc_tags
print(json.dumps(dvc_tags([])))
"""


def run_stages(**environment):
    """Return the tags of two commands that one process runs as DVC would."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, CHILD],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_commands_of_one_repro_have_one_value_in_common():
    train, finetune = run_stages()
    assert (train["convoy.dvc.stage"], finetune["convoy.dvc.stage"]) == ("train", "finetune")
    assert re.fullmatch(REPRO, train["convoy.repro"])
    assert train["convoy.repro"] == finetune["convoy.repro"]


def test_an_experiment_gives_its_name():
    train, _ = run_stages(DVC_EXP_NAME="bold-peak")
    assert train["convoy.dvc.exp"] == "bold-peak"
    assert re.fullmatch(REPRO.replace("repro", "bold-peak"), train["convoy.repro"])


def test_dvc_itself():
    """A pipeline of two commands, really run, twice."""
    code = CHILD.replace("print(", 'open("{0}.json", "w").write(').replace("[]", '["raw"]')
    code = f"from pathlib import Path; {code}".replace('["raw"]', '[Path("raw")]')
    stages = {
        name: {
            "cmd": [f"{sys.executable} {name}.py"],
            "deps": ["raw", f"{name}.py", *after],
            "outs": [f"{name}.json"],
        }
        for name, after in (("first", []), ("second", ["first.json"]))
    }
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
    Path("raw").write_text("images")
    for name in stages:
        Path(f"{name}.py").write_text(code.format(name))
    dvc = [sys.executable, "-m", "dvc"]
    run = {
        "env": os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "true"},
        "capture_output": True,
    }
    subprocess.run([*dvc, "init", "-q", "--no-scm"], check=True, **run)
    subprocess.run([*dvc, "repro", "-q"], check=True, **run)
    first, second = (json.loads(Path(f"{name}.json").read_text()) for name in stages)
    assert (first["convoy.dvc.stage"], second["convoy.dvc.stage"]) == ("first", "second")
    assert re.fullmatch(REPRO, first["convoy.repro"])
    assert first["convoy.repro"] == second["convoy.repro"]
    # Only once the first stage has run is there a lock, and `raw` in it.
    assert "convoy.dvc.lock" not in first
    assert second["convoy.dvc.md5.raw"] == hashlib.md5(b"images").hexdigest()
