"""Calls of `convoy retrain` in a project of a user, as a scheduler makes them: real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pipeline.data.sample import load_digits
from tests.contract.imports import ROOT
from tests.projects import change, convoy, run
from tests.waiting import wait_until


def add(project, numbers, folder=None, suffix=""):
    """Put some of the digits into the folder of images, perhaps all into one class."""
    pictures, labels = load_digits()
    # In their own order they come from one writer after the other, which is drift.
    order = np.random.default_rng(0).permutation(len(pictures))
    for number in order[list(numbers)].tolist():
        place = project / "images" / (folder or f"digit-{labels[number]}")
        place.mkdir(parents=True, exist_ok=True)
        pictures[number].save(place / f"{number:04d}{suffix}.png")


def history(project):
    file = project / ".convoy/runs/retraining/digits/history.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def stages_of(project):
    return yaml.safe_load((project / "dvc.lock").read_text())["stages"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A project, and what two calls said: one during a call that was then killed, one after it."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    (folder / "infra").mkdir()
    (folder / "infra/lock").symlink_to(ROOT / "infra/lock")
    shutil.copytree(ROOT / "models" / "compute", folder / "models" / "compute")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    change(folder, "data", root="images")
    change(folder, "pack", height=12, width=12)
    change(folder, "train", epochs=8)
    change(folder, "finetune", epochs=1)
    change(folder, "baseline", classifier="none")
    change(folder, "evaluate", bootstrap_resamples=100)
    change(folder, "tta", views=[{"identity": {}}])
    change(folder, "register", name="digits")
    change(folder, "resources", threads=1)
    add(folder, range(500))

    first = convoy(folder, "retrain", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((folder / ".convoy/runs/retraining/digits/open.json").exists)
    overlapping = run(folder, "retrain")
    wait_until(lambda: any((folder / ".convoy/runs").glob("train-*")))
    first.send_signal(signal.SIGKILL)
    first.wait()
    return folder, overlapping, run(folder, "retrain")


@pytest.fixture
def project(begun):
    return begun[0]


def test_an_overlapping_call_says_who_holds_the_lock_and_leaves(begun):
    code, said = begun[1]
    assert code == 3, said
    assert "retrain: another call is being made: process" in said
    assert "since 20" in said


def test_a_call_goes_on_with_the_work_of_a_killed_one(begun):
    project, _, (code, said) = begun
    assert code == 0, said
    assert "was killed while it" in said
    assert "retrain: promoted version 1" in said
    (call,) = history(project)
    assert (call["outcome"], call["trained"]) == ("promoted", True)
    assert call["resumed"]
    assert call["candidate"]["version"] == "1"
    assert call["changes"]["new"] == call["changes"]["images"]


def test_nothing_new_is_nothing_to_do_and_imports_no_torch(project):
    calls = len(history(project))
    code, said = run(project, "retrain", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert code == 3, said
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    assert "pyarrow" in imported
    assert not {"torch", "mlflow", "ray", "sklearn", "matplotlib"} & imported
    assert len(history(project)) == calls + 1
    assert run(project, "retrain", "--dry-run")[0] == 3
    assert len(history(project)) == calls + 1


def test_a_new_class_with_bad_labels_waits_for_a_person(project):
    add(project, range(500, 560), folder="digit-x")
    before = stages_of(project)
    try:
        dry, said = run(project, "retrain", "--dry-run")
        assert (dry, "held back for a person: the class digit-x is new" in said) == (5, True), said
        code, said = run(project, "retrain")
        assert code == 5, said
        call = history(project)[-1]
        assert (call["outcome"], call["reasons"][0]["key"]) == ("held", "new_class digit-x")
        # The page says so; nothing else ran.
        assert "held back" in (project / "reports/index.html").read_text()
        # What a person agrees to is what was there.
        add(project, range(700, 701), folder="digit-x", suffix="-late")
        code, said = run(project, "retrain", "--accept")
        assert code == 5, said
        assert "1 image has come, vanished or got another label since the call" in said
        now = stages_of(project)
        assert {name for name in before if before[name] != now[name]} <= {"register", "report"}
    finally:
        shutil.rmtree(project / "images" / "digit-x")
    assert run(project, "retrain")[0] == 3


def test_relabelled_images_and_wrong_labels_of_new_ones_are_found_before_a_training(project):
    add(project, range(560, 600), folder="digit-3", suffix="-new")
    try:
        code, said = run(project, "retrain")
        assert code == 5, said
        assert "labels of new images look wrong" in said
    finally:
        for file in (project / "images" / "digit-3").glob("*-new.png"):
            file.unlink()
    moved = sorted((project / "images" / "digit-1").iterdir())[:20]
    for file in moved:
        file.rename(project / "images" / "digit-2" / file.name)
    try:
        code, said = run(project, "retrain")
        assert code == 5, said
        assert "20 of 500 known images have another label" in said
    finally:
        for file in moved:
            (project / "images" / "digit-2" / file.name).rename(file)


def test_new_images_are_trained_on_and_judged_and_the_page_shows_the_calls(project):
    add(project, range(600, 700))
    code, said = run(project, "retrain")
    assert code in (0, 4), said
    call = history(project)[-1]
    assert call["changes"]["new"] == 100
    assert call["drift"]["new"] == 100
    assert call["checks"]
    page = (project / "reports/index.html").read_text()
    assert "Scheduled retraining" in page
    code, said = run(project, "history")
    assert code == 0, said
    assert "held back" in said
    assert (project / "reports/retraining.png").read_bytes().startswith(b"\x89PNG")
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout
    assert [line for line in status.splitlines() if line.endswith(":") and line[0] != "\t"] == [
        "register:"
    ], status
