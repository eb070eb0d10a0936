"""recipe.name other than custom: what autotune makes of it, what it keeps, and who reads it."""

from pathlib import Path

import pytest
import yaml

from pipeline.cli import run
from pipeline.files import read_json, write_json
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_sets

TRAIN, FINETUNE = (Path(f"models/compute/{stage}.json") for stage in ("train", "finetune"))


def write_params(**sections):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["resources"] |= {"threads": 1, "cpus_per_worker": 1}
    raw["tracking"]["uri"] = "sqlite:///mlflow.db"
    raw["recipe"] |= {"name": "auto"}
    for section, values in sections.items():
        raw[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def pack(images=60):
    write_sets(Path("data/packed"), images, 20, 16)
    write_set(Path("data/balanced"), *bars(10, 16, seed=2), BARS)


@pytest.fixture(autouse=True)
def packed():
    pack()
    write_params()


def content():
    return {file: file.read_bytes() for file in (TRAIN, FINETUNE)}


def test_both_trainings_get_a_recipe_that_says_why(capsys):
    write_params(recipe={"budget": "2 min"})
    assert run(["autotune"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    train, finetune = read_json(TRAIN), read_json(FINETUNE)
    assert train["plan"] == finetune["plan"]
    assert train["plan"]["name"] == "long_tail"
    assert "mirrored images are" in train["plan"]["reason"]
    assert train["plan"]["reason"] in said
    assert train["plan"]["asked"]["facts"]["counts"] == [20, 20, 20]
    assert train["recipe"]["loss"] == {"name": "balanced_softmax", "start": 0.0}
    assert train["recipe"]["images"] == finetune["recipe"]["images"] == "data/packed/train"
    assert finetune["recipe"]["trainable"] == "head"
    pace = train["trial"]["pace"]
    assert pace["step_s"] > 0 < pace["forward_s"]
    # Either the time decides, or it is more than is of any use.
    seconds, epochs = train["plan"]["seconds"], train["recipe"]["epochs"]
    assert epochs == 400 or seconds == pytest.approx(120, abs=(seconds - 12) / epochs)
    assert seconds <= 120


def test_the_recipe_is_kept_until_the_question_is_another_one(capsys):
    assert run(["autotune"]) == 0
    first = content()
    # What is replaced is no part of the question.
    write_params(train={"epochs": 3}, finetune={"weights": None}, resources={"threads": "auto"})
    capsys.readouterr()
    assert run(["autotune"]) == 0
    assert content() == first
    assert "recipe long_tail, as chosen before" in capsys.readouterr().out
    before = first
    for sections, images in (
        ({"recipe": {"mirror": False}}, 60),
        ({"recipe": {"mirror": False}, "train": {"seed": 5}}, 60),
        ({"recipe": {"mirror": False}, "train": {"seed": 5}}, 63),
        ({"recipe": {"mirror": False, "name": "long_tail"}}, 63),
    ):
        pack(images)
        write_params(**sections)
        capsys.readouterr()
        assert run(["autotune"]) == 0
        assert content() != before
        assert "recipe long_tail, as chosen before" not in capsys.readouterr().out
        before = content()


def test_custom_takes_the_sections_as_they_are():
    write_params(recipe={"name": "custom"})
    assert run(["autotune"]) == 0
    raw = yaml.safe_load(Path("params.yaml").read_text())
    for stage, file in (("train", TRAIN), ("finetune", FINETUNE)):
        written = read_json(file)
        assert written["plan"] is None
        assert {key: written["recipe"][key] for key in ("epochs", "images", "weights", "seed")} == {
            key: raw[stage][key] for key in ("epochs", "images", "weights", "seed")
        }


def test_a_training_goes_by_the_recipe_that_was_made(capsys):
    assert run(["autotune"]) == 0
    for file in (TRAIN, FINETUNE):
        written = read_json(file)
        written["recipe"] |= {"epochs": 2, "schedule": {"name": "constant"}}
        write_json(file, written)
    for stage in ("start", "train", "finetune"):
        capsys.readouterr()
        assert run([stage]) == 0
        if stage != "start":
            assert f"{stage}: 2 epochs, best 2" in capsys.readouterr().out
    assert read_json(Path("models/tuned/bundle.json"))["origin"]["weights"]


@pytest.mark.parametrize("command", [["train"], ["finetune"], ["lr-find"], ["describe"]])
def test_a_recipe_that_is_not_made_yet_is_one_line(command, capsys):
    assert run(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("convoy: recipe.name: auto: models/compute/")
    assert err.endswith("run dvc repro, whose stage autotune makes it\n")
    assert err.count("\n") == 1
    assert run(["autotune"]) == 0
    write_params(recipe={"mirror": False})  # another question
    capsys.readouterr()
    assert run(command) == 2
    assert "holds no recipe for the present params" in capsys.readouterr().err


def test_a_recipe_that_was_edited_by_hand_and_does_not_fit_is_one_line(capsys):
    assert run(["autotune"]) == 0
    written = read_json(TRAIN)
    written["recipe"]["epochs"] = "many"
    write_json(TRAIN, written)
    capsys.readouterr()
    assert run(["train"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f'convoy: {TRAIN}: the recipe does not fit (epochs: got "many"')
    assert "delete the file and run dvc repro" in err


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"name": "best"}, 'recipe.name: got "best", need custom, long_tail, transfer or auto'),
        ({"budget": "10"}, "recipe.budget: got 10, need a time above 0, such as 90 s, 10 min"),
        ({"budget": "0 min"}, "recipe.budget: got 0 min, need a time above 0"),
        ({"budget": 600}, "recipe.budget: got 600"),
        ({"name": "custom", "budget": "1 h"}, "set name to auto, long_tail or transfer"),
        ({"mirror": "left"}, 'recipe.mirror: got "left", need auto, true or false'),
        ({"name": "transfer"}, "train.weights is null; set it"),
        ({"budget": "8 s"}, "recipe.budget: 8 s leaves"),
    ],
)
def test_what_cannot_be_is_one_line(recipe, message, capsys):
    write_params(recipe=recipe)
    assert run(["autotune"]) == 2
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith("convoy: ")]
    assert len(said) == 1
    assert message in said[0]
    assert not TRAIN.exists()
