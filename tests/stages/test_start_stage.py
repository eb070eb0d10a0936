"""start on small packed sets: what it takes from the registry, what it keeps, what it tries."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.cli import run
from pipeline.files import read_json
from pipeline.params import Tracking
from pipeline.runtime.registry.aliases import promote
from pipeline.runtime.registry.versions import register_bundle
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import read_description
from pipeline.vision.bundle.digest import bundle_digest
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_tuned

NAME = "convoy-digits"
REPORT, START, BUNDLE = (
    Path(name) for name in ("reports/start.json", "models/start", "models/start/bundle")
)
# So small that the weights stay what they were.
STANDING = {"name": "sgd", "lr": 1e-12, "momentum": 0.0, "weight_decay": 0.0}


def write_params(**sections):
    """Write params.yaml: trainings of 4 epochs on one thread, but for what `sections` change."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["resources"] |= {"threads": 1, "cpus_per_worker": 1}
    raw["train"] |= {"epochs": 4, "global_batch_size": 15}
    for section, values in sections.items():
        raw[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def pack(count=90, classes=BARS, size=16):
    """Pack so many training images; of another `count`, the set is another one."""
    write_set(Path("data/packed/train"), *bars(count, size), classes)
    write_set(Path("data/packed/val"), *bars(30, size, seed=1), classes)


def register(bundle, tracking, run_id):
    """Register a bundle as the next version, and make it the champion."""
    version = register_bundle(bundle, tracking=tracking, name=NAME, run_id=run_id).version
    client = open_client(tracking)
    held = client.get_registered_model(NAME).aliases.get("champion")
    promote(tracking, NAME, version, "champion", held and str(held))
    return version


@pytest.fixture(scope="module")
def first(tmp_path_factory, empty_store):
    """A project after its first training, whose model is the champion, as version 1."""
    folder, before = tmp_path_factory.mktemp("first"), Path.cwd()
    os.chdir(folder)
    try:
        shutil.copy(empty_store, "mlflow.db")
        pack()
        write_tuned()
        write_params()
        assert run(["start"]) == 0
        assert run(["train"]) == 0
        uri = f"sqlite:///{folder}/mlflow.db"
        tracking = Tracking(uri=uri, experiment="convoy", system_metrics=False, checkpoints="off")
        client = open_client(tracking)
        (trained,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
        assert register(Path("models/base"), tracking, trained.info.run_id) == "1"
    finally:
        os.chdir(before)
    return folder, tracking, trained.info.run_id


@pytest.fixture
def project(first, monkeypatch):
    """The same in the test's own folder, with its own registry and with 6 more images."""
    monkeypatch.chdir(Path.cwd())
    folder, _, run_id = first
    shutil.copy(folder / "mlflow.db", "mlflow.db")
    pack(96)
    write_tuned()
    uri = f"sqlite:///{Path.cwd()}/mlflow.db"
    tracking = Tracking(uri=uri, experiment="convoy", system_metrics=False, checkpoints="off")
    return folder / "models/base", tracking, run_id


def kept():
    """What the stage wrote: bytes and times."""
    files = [REPORT, *sorted(path for path in START.rglob("*") if path.is_file())]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_a_cold_start_asks_nobody_and_depends_on_nothing(capsys):
    write_params(tracking={"uri": "http://127.0.0.1:9"})  # nobody listens, nothing is packed
    assert run(["start"]) == 0
    assert read_json(START / "champion.json") is None
    before = kept()
    write_params(start={"epochs": 3}, train={"seed": 3}, model={"name": "resnet20"})
    assert run(["start"]) == 0
    assert kept() == before
    said = capsys.readouterr().out.splitlines()
    assert said == ["start: cold: start.mode is cold", "start: cold, as chosen before"]


@pytest.mark.parametrize("mode", ["warm", "auto"])
def test_without_a_champion_the_start_is_cold_and_says_so(mode, capsys):
    pack()
    write_params(start={"mode": mode})
    assert run(["start"]) == 0
    assert capsys.readouterr().out == "start: cold: there is no champion yet\n"
    assert not Path("mlflow.db").exists()
    assert [path.name for path in START.iterdir()] == ["champion.json"]


def test_a_warm_training_begins_with_the_champions_weights_and_its_run_says_so(project, capsys):
    champion, tracking, _ = project
    write_params(start={"mode": "warm"}, train={"epochs": 1, "optimizer": STANDING})
    assert run(["start"]) == 0
    said = f"start: warm, from {NAME} version 1"
    assert capsys.readouterr().out == f"{said}: start.mode is warm\n"
    assert bundle_digest(BUNDLE) == bundle_digest(champion)
    assert run(["train"]) == 0
    assert "train: from models/start/bundle: 10 tensors loaded" in capsys.readouterr().err
    before, after = (load_file(f / "model.safetensors") for f in (champion, Path("models/base")))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    # It is as good on the same validation images as the champion was.
    described, of_champion = read_description(Path("models/base")), read_description(champion)
    assert described.validation == pytest.approx(of_champion.validation, abs=1e-4)
    assert described.origin["weights"] == bundle_digest(champion)
    assert (described.mean, described.std) == (of_champion.mean, of_champion.std)
    client = open_client(tracking)
    runs = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    (warm,) = (found for found in runs if "convoy.start" in found.data.tags)
    assert warm.data.tags["convoy.start"] == f"warm, {NAME} version 1"
    assert warm.data.params["recipe.weights"] == "models/start/bundle"
    assert len(runs) == 2


def test_the_champion_of_the_day_is_kept_until_the_question_is_another_one(project, capsys):
    champion, tracking, run_id = project
    write_params(start={"mode": "warm"})
    assert run(["start"]) == 0
    before = kept()
    # Another model is promoted.
    described = read_description(champion)
    torch.manual_seed(5)
    save_bundle(Path("second"), described, described.build().state_dict())
    assert register(Path("second"), tracking, run_id) == "2"
    capsys.readouterr()
    write_params(start={"mode": "warm", "epochs": 3}, train={"epochs": 9})
    assert run(["start"]) == 0
    assert kept() == before
    assert capsys.readouterr().out == f"start: warm, from {NAME} version 1, as chosen before\n"
    pack(99)
    assert run(["start"]) == 0
    assert bundle_digest(BUNDLE) == bundle_digest(Path("second"))
    assert read_json(START / "champion.json") == {
        "name": NAME,
        "version": "2",
        "bundle": bundle_digest(Path("second")),
    }


def test_auto_tries_both_as_they_would_train_and_validation_chooses(project, capsys):
    champion, _, _ = project
    sections = {"start": {"mode": "auto", "epochs": 2}, "tracking": {"checkpoints": "off"}}
    write_params(**sections)
    assert run(["start"]) == 0
    report = read_json(REPORT)
    cold, warm = (report["trials"][name] for name in ("cold", "warm"))
    assert [len(cold), len(warm)] == [2, 2]
    assert warm[-1]["val_macro_f1"] > cold[-1]["val_macro_f1"]  # it has learnt them before
    assert report["choice"] == "warm"
    assert bundle_digest(BUNDLE) == bundle_digest(champion)
    said = capsys.readouterr()
    assert said.out == (
        f"start: warm, from {NAME} version 1: macro_f1 on validation after 2 epochs:"
        f" cold {cold[-1]['val_macro_f1']:.4f} (loss {cold[-1]['val_loss']:.4f}),"
        f" warm {warm[-1]['val_macro_f1']:.4f} (loss {warm[-1]['val_loss']:.4f})\n"
    )
    assert "start: cold: epoch 2/2" in said.err
    assert "start: warm: epoch 2/2" in said.err
    assert [path.name for path in Path(".convoy/runs").iterdir()] == ["compute"]
    # The same as trainings of two epochs are: from the champion, then without it.
    for trial in (warm, cold):
        write_params(**sections, train={"epochs": 2})
        assert run(["train"]) == 0
        history = read_json(Path("reports/history/base.json"))
        assert [record["val_loss"] for record in history] == [one["val_loss"] for one in trial]
        shutil.rmtree(START, ignore_errors=True)
        sections["start"] = {"mode": "cold"}


def test_auto_leaves_a_champion_that_learns_nothing(project, capsys):
    """Zeros have no gradient: of a whole network of them the head's bias alone moves."""
    champion, tracking, run_id = project
    described = read_description(champion)
    zeros = {name: torch.zeros_like(t) for name, t in described.build().state_dict().items()}
    save_bundle(Path("zeros"), described, zeros)
    register(Path("zeros"), tracking, run_id)
    write_params(start={"mode": "auto", "epochs": 3})
    assert run(["start"]) == 0
    report = read_json(REPORT)
    assert report["trials"]["warm"][-1]["val_accuracy"] == pytest.approx(1 / 3)
    assert (report["choice"], report["champion"]) == ("cold", None)
    assert [path.name for path in START.iterdir()] == ["champion.json"]
    assert capsys.readouterr().out.startswith("start: cold: macro_f1 on validation after 3 epochs:")


@pytest.mark.parametrize(
    ("sections", "size", "what"),
    [
        ({"model": {"name": "resnet20"}}, 16, "model.name lenet5, and today it is resnet20"),
        (
            {"pack": {"height": 20, "width": 20}},
            20,
            "images of height, width and channels [16, 16, 1], and today it is [20, 20, 1]",
        ),
        # Images that are for validation today may have trained it.
        ({"split": {"seed": 8}}, 16, "split.seed 0, and today it is 8"),
        ({"split": {"group_from": "(.)/"}}, 16, "split.group_from null, and today it is (.)/"),
    ],
)
def test_a_champion_that_does_not_fit(project, sections, size, what, capsys):
    pack(96, size=size)
    why = f"{NAME} version 1 was trained with {what}"
    write_params(**sections, start={"mode": "warm"})
    assert run(["start"]) == 2
    assert last_line(capsys) == (
        f"convoy: start.mode is warm, but {why}; set start.mode to cold or auto, or take back what"
        " was changed"
    )
    assert not START.exists()
    write_params(**sections, start={"mode": "auto"})
    assert run(["start"]) == 0
    assert capsys.readouterr().out == f"start: cold: {why}\n"


def test_another_class_of_the_same_number_gets_a_new_head(project, capsys):
    """Row 1 of the champion's head means another class."""
    pack(96, classes=("upright", "tilted", "none"))
    write_params(start={"mode": "warm"}, train={"epochs": 1})
    assert run(["start"]) == 0
    assert run(["train"]) == 0
    assert "8 tensors loaded, 2 skipped (head.bias, head.weight), 2 new" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["warm", "auto"])
def test_a_store_that_does_not_answer_is_one_line_and_changes_nothing(
    mode, project, capsys, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write_params(start={"mode": mode}, tracking={"uri": "http://127.0.0.1:9"})
    assert run(["start"]) == 2
    said = last_line(capsys)
    assert said.startswith("convoy: ")
    assert "http://127.0.0.1:9" in said
    assert not START.exists()


@pytest.mark.parametrize(
    ("file", "content", "how"),
    [
        (REPORT, "{", "reports/start.json is damaged (Expecting"),
        (REPORT, "[]", "reports/start.json is damaged (need the key question"),
        (START / "champion.json", "3", "models/start is damaged (champion.json has neither null"),
        (BUNDLE / "bundle.json", "{}", f"bundle is not that of {NAME} version 1); delete it"),
    ],
)
def test_what_is_damaged_stops_the_stage(project, file, content, how, capsys):
    write_params(start={"mode": "warm"})
    assert run(["start"]) == 0
    file.write_text(content)
    assert run(["start"]) == 2
    assert how in last_line(capsys)
    assert file.read_text() == content


def test_a_champion_of_another_origin(project, capsys):
    champion, tracking, _ = project
    client = open_client(tracking)
    client.create_model_version(NAME, champion.as_uri())
    client.set_registered_model_alias(NAME, "champion", "2")
    write_params(start={"mode": "auto"})
    assert run(["start"]) == 2
    assert last_line(capsys) == (
        f"convoy: {NAME} version 2, the champion, was not registered by Convoy; point the alias at"
        " a version that was, or set start.mode to cold"
    )


def test_a_training_by_hand_whose_start_was_not_chosen(project, capsys):
    write_params(start={"mode": "warm"})
    assert run(["train"]) == 2
    assert last_line(capsys) == (
        "convoy: models/start/champion.json is missing; run dvc repro to make it"
    )


@pytest.mark.parametrize(
    ("sections", "mistake"),
    [
        ({"start": {"mode": "champion"}}, "start.mode: got "),
        ({"start": {"mode": "warn"}}, "did you mean warm?"),
        ({"start": {"epochs": 0}}, "start.epochs: got 0, need at least 1"),
        ({"start": {"mode": "auto", "epochs": 5}}, "got 5, need at most train.epochs, 4"),
        (
            {
                "start": {"mode": "auto", "epochs": 2},
                "train": {"schedule": {"name": "cosine", "warmup_epochs": 2.5}},
            },
            "start.epochs: got 2, need at least train.schedule.warmup_epochs, 2.5",
        ),
    ],
)
def test_mistakes_in_params(sections, mistake, capsys):
    write_params(**sections)
    assert run(["start"]) == 2
    assert mistake in last_line(capsys)
