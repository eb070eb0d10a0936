import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.data.shards.statistics import images_digest
from pipeline.params import load_params
from pipeline.runtime.tracking.run_metadata import (
    best_metrics,
    epoch_metrics,
    flat_params,
    gather_metadata,
    recipe_line,
)
from pipeline.runtime.tracking.trained import Trained
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set

TEXT = (ROOT / "params.yaml").read_text()


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def changed(tmp_path):
    """Return params with some values changed, by section."""

    def load(**sections):
        values = yaml.safe_load(TEXT)
        for name, given in sections.items():
            values[name] |= given
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_params(path)

    return load


@pytest.fixture
def trained(params, tmp_path):
    write_set(tmp_path / "train", *bars(7), BARS)
    write_set(tmp_path / "copies", *bars(3, seed=2), BARS)
    write_set(tmp_path / "val", *bars(4, seed=1), BARS)
    images = (tmp_path / "train", tmp_path / "copies")
    return Trained("finetune", params.finetune, images, tmp_path / "val")


def metadata_of(params, trained):
    return gather_metadata(params, trained, images_digest(trained.images))


def test_params_are_flat_and_as_the_file_has_them(params):
    flat = flat_params(params, params.finetune)
    given = yaml.safe_load(TEXT)
    for section in ("data", "sample", "index", "split", "pack"):
        for key, value in given[section].items():
            assert yaml.safe_load(flat[f"{section}.{key}"]) == value
    assert flat["recipe.optimizer.lr"] == "0.0005"
    assert flat["recipe.weights"] == "models/base"
    assert flat["recipe.augment"] == "[]"
    assert flat["model.args"] == "{}"
    assert yaml.safe_load(flat["balance.policy"]) == given["balance"]["policy"]
    assert flat["recipe.sync_batch_norm"] == "true"
    assert flat["resources.gpus_per_worker"] == "null"
    assert "resources.storage" not in flat
    assert not [name for name in flat if name.startswith(("train.", "finetune.", "tracking."))]


def test_base_and_tuned_runs_share_their_columns(params):
    """The shipped sections differ in no key, so that the runs' params have the same names."""
    base, tuned = flat_params(params, params.train), flat_params(params, params.finetune)
    assert set(base) == set(tuned)
    assert base["recipe.weights"] == "null"


def test_class_names_are_no_names_of_params(changed):
    policy = [{"HorizontalFlip": {"p": 0.5}}]
    params = changed(balance={"per_class": {"a + b?": policy}})
    flat = flat_params(params, params.train)
    assert yaml.safe_load(flat["balance.per_class"]) == {"a + b?": policy}


def test_a_network_described_at_length(changed):
    blocks = [{"filters": 8, "kernel": 3}]
    params = changed(model={"name": "plain", "args": {"blocks": blocks, "dense": []}})
    flat = flat_params(params, params.train)
    assert (flat["model.args.blocks"], flat["model.args.dense"]) == (
        "[{filters: 8, kernel: 3}]",
        "[]",
    )


def test_a_value_beyond_the_limit_is_cut(changed):
    policy = [{"Affine": {"rotate": [-12, 12], "p": 1.0}}] * 200
    value = flat_params(changed(balance={"policy": policy}), changed().train)["balance.policy"]
    assert len(value) == 6000
    assert value.endswith("\u2026")


def test_the_recipe_in_a_line(params, changed):
    told = "lenet5, 60 epochs, batch 64, adamw 0.002 cosine, augment affine"
    assert recipe_line(params, params.train) == told
    told = (
        "lenet5, from models/base, balanced images, 15 epochs, batch 64, adamw 0.0005 cosine,"
        " mixup 0.2"
    )
    assert recipe_line(params, params.finetune) == told
    other = changed(
        model={"name": "resnet20"},
        train={
            "weights": "DEFAULT",
            "trainable": "head",
            "optimizer": {
                "name": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 0.0,
                "layer_decay": 1.0,
            },
            "schedule": {"name": "one_cycle", "rise": 0.3},
            "loss": {"name": "logit_adjusted", "tau": 1.0, "start": 0.0},
            "sampler": {"name": "square_root", "start": 0.8},
            "augment": [{"hflip": {"p": 0.5}}, {"crop": {"padding": 4}}],
            "label_smoothing": 0.1,
            "cutmix_alpha": 1.0,
            "ema_decay": 0.999,
            "clip_norm": 5.0,
        },
    )
    told = (
        "resnet20, from DEFAULT, head only, 60 epochs, batch 64, sgd 0.1 one cycle, logit adjusted,"
        " square root sampler, label smoothing 0.1, augment hflip+crop, cutmix 1, ema 0.999, clip 5"
    )
    assert recipe_line(other, other.train) == told


def test_data_sets_are_named_counted_and_told_apart(params, trained, tmp_path):
    datasets = metadata_of(params, trained).datasets
    training, validation = datasets["training"], datasets["validation"]
    assert training["name"] == "digits training"
    assert validation["name"] == "digits validation"
    counts = np.bincount(np.concatenate([bars(7)[1], bars(3, seed=2)[1]]), minlength=3)
    profile = json.loads(training["profile"])
    assert profile["images"] == 10
    assert profile["classes"] == dict(zip(BARS, counts.tolist(), strict=True))
    assert (profile["height"], profile["width"], profile["channels"]) == (16, 16, 1)
    assert json.loads(training["source"]) == {"uri": f"{tmp_path}/train + {tmp_path}/copies"}
    # The digest, by hand: of name and content of each shard.
    whole = hashlib.sha256()
    for folder in ("train", "copies"):
        (shard,) = (tmp_path / folder).glob("*.arrow")
        whole.update(f"{shard.name} ".encode() + hashlib.sha256(shard.read_bytes()).digest())
    assert training["digest"] == whole.hexdigest()[:36]
    assert validation["digest"] != training["digest"]


def test_tags_and_name(params, trained):
    metadata = metadata_of(params, trained)
    assert metadata.tags["convoy.stage"] == "finetune"
    assert metadata.tags["convoy.recipe"] == recipe_line(params, params.finetune)
    assert metadata.tags["convoy.data"].startswith(metadata.datasets["training"]["digest"])
    assert metadata.name.startswith("finetune lenet5 ")
    other = Trained("finetune", params.train, trained.images, trained.validation)
    assert metadata_of(params, other).name != metadata.name
    assert metadata_of(params, trained).name == metadata.name
    # Another network to start from, under the same name.
    first = Path("models/base/model.safetensors")
    first.parent.mkdir(parents=True)
    first.write_bytes(b"weights")
    assert metadata_of(params, trained).name != metadata.name


@pytest.mark.parametrize(
    ("root", "name"),
    [("data/sample", "digits"), ("in/photos", "photos"), ("in/list.csv", "list.csv")],
)
def test_images_are_called_after_their_folder(changed, trained, root, name):
    datasets = metadata_of(changed(data={"root": root}), trained).datasets
    assert datasets["training"]["name"] == f"{name} training"


def test_what_models_are_judged_by_comes_before_speed_and_memory():
    record = {"epoch": 3, "lr": 0.1, "train_loss": 0.2, "val_loss": 0.3, "images_per_s": 9.0}
    assert list(epoch_metrics(record).items()) == [
        ("val_loss", 0.3),
        ("train/lr", 0.1),
        ("train_loss", 0.2),
        ("train/images_per_s", 9.0),
    ]
    names = ["best_val_loss", "test/ece", "test_final/ece", *epoch_metrics(record)]
    assert [name.partition("/")[0] for name in sorted(names)][-4:] == [
        "train",
        "train",
        "train_loss",
        "val_loss",
    ]


def test_the_best_epoch_has_figures_of_its_own():
    record = {"epoch": 3, "lr": 0.1, "train_loss": 0.2, "val_loss": 0.3, "val_accuracy": 0.9}
    assert best_metrics(record) == {
        "best_epoch": 3,
        "best_val_loss": 0.3,
        "best_val_accuracy": 0.9,
    }
