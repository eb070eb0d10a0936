import hashlib
import json
from pathlib import Path

import pytest
import yaml

from pipeline.cli import run
from tests.contract.imports import ROOT
from tests.packed import write_sets, write_tuned

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "layer_decay": 1.0}


def write_params(**changes):
    """Write params.yaml for a quick training; `changes` go to the section train."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["resources"] |= {"threads": 1}
    raw["train"] |= {"global_batch_size": 24, "epochs": 2, "precision": "fp32", **changes}
    Path("params.yaml").write_text(yaml.safe_dump(raw))


@pytest.fixture
def packed():
    write_sets(Path("data/packed"), 48, 9)
    write_tuned()
    write_params()


def everything():
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path().rglob("*")
        if path.is_file()
    }


def test_it_prints_what_to_set_and_writes_curve_and_points(packed, capsys):
    before = everything()
    assert run(["lr-find", "--lowest", "1e-4", "--highest", "0.5", "--steps", "30"]) == 0
    out = capsys.readouterr().out
    written = json.loads(Path("reports/lr_find/train.json").read_text())
    suggestion = written["suggestion"]
    assert out.startswith(
        f"train.optimizer.lr: {suggestion:.1g}   (params.yaml has 0.002; the loss is lowest at"
        f" {10 * suggestion:.1g})\n"
    )
    assert "curve: reports/lr_find/train.png" in out
    # Thirty steps are fifteen epochs here, more than the recipe has.
    lowest = min(written["points"][3:], key=lambda point: point["smoothed"])
    assert suggestion == pytest.approx(lowest["rate"] / 10)
    assert written["points"][0]["rate"] == pytest.approx(1e-4)
    assert written["points"][0]["loss"] == pytest.approx(1.1, abs=0.1)  # ln 3
    after = everything()
    new = {"reports/lr_find/train.json", "reports/lr_find/train.png"}
    assert {name for name in after if after[name] != before.get(name)} == new


def test_equal_calls_write_equal_files(packed):
    found = []
    for _ in range(2):
        assert run(["lr-find", "--lowest", "1e-3", "--highest", "0.5", "--steps", "20"]) == 0
        found.append(everything())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage", "tune"], "'tune' is not one of 'train', 'finetune'"),
        (["--steps", "9"], "9 is not in the range x>=10"),
        (["--steps", "many"], "'many' is not a valid integer"),
        (["--lowest", "1", "--highest", "0.1"], "--lowest is 1 and --highest 0.1; need 0 < lowest"),
        (["--lowest", "0.1", "--highest", "0.1"], "need 0 < lowest < highest"),
        (["--lowest", "0"], "need 0 < lowest"),
        (["--lowest", "nan"], "need 0 < lowest"),
        (["--highest", "inf"], "need 0 < lowest < highest, finite"),
        ([], "data/packed/train"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, expected, capsys):
    write_params()
    assert run(["lr-find", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert expected in err


def test_weights_that_are_not_there(packed, capsys):
    write_params(weights="models/base")
    assert run(["lr-find"]) == 2
    assert "no weights at models/base" in capsys.readouterr().err


def test_a_loss_that_does_not_fall_leaves_the_curve_and_says_so(packed, capsys):
    assert run(["lr-find", "--lowest", "1e-9", "--highest", "1e-8", "--steps", "20"]) == 2
    err = capsys.readouterr().err
    assert "the loss does not fall clearly between the rates 1e-09 and 1e-08" in err
    assert json.loads(Path("reports/lr_find/train.json").read_text())["suggestion"] is None
    assert Path("reports/lr_find/train.png").is_file()


def test_a_rate_that_destroys_the_network_at_once(packed, capsys):
    write_params(optimizer=SGD)
    assert run(["lr-find", "--lowest", "1e20", "--highest", "1e30", "--steps", "20"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("convoy: lr-find: the loss does not fall")
    assert err.count("\n") == 1


def test_a_loss_that_still_falls_at_the_end(packed, capsys):
    assert run(["lr-find", "--lowest", "1e-4", "--highest", "2e-3", "--steps", "40"]) == 0
    assert "the loss still falls at 0.002: a higher --highest may show more" in (
        capsys.readouterr().out
    )
