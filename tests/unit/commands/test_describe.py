"""`convoy describe` on a bundle and on params.yaml, and what it refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.cli import run
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.vision.bundle.description import Description
from tests.bundles import save_bundle
from tests.contract.imports import ROOT


@pytest.fixture(autouse=True)
def bundle():
    preprocessing = Preprocessing(28, 28, 1, "pad", 0, 8)
    description = Description("lenet5", {}, ("cat", "dog"), preprocessing, (0.4,), (0.3,))
    save_bundle(Path("model"), description, description.build().state_dict())
    return Path("model")


def test_a_bundle_is_described_without_params(capsys):
    assert run(["describe", "model", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["classes"], found["input"]) == (2, [1, 28, 28])
    assert found["totals"]["parameters"] == 61_706 - 8 * 85
    assert run(["describe", "model", "--height", "40", "--width", "36"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lenet5: 1 x 40 x 36 (channels x height x width) to 2 classes\n")
    assert "16x8x7" in out


def test_the_network_of_params_is_described_before_any_training(capsys):
    text = (ROOT / "params.yaml").read_text()
    for old, new in (("weights: null", "weights: a.safetensors"), ("able: all", "able: head")):
        text = text.replace(old, new, 1)  # the first is that of the section train
    Path("params.yaml").write_text(text)
    assert run(["describe", "--classes", "4"]) == 0
    captured = capsys.readouterr()
    assert "340 of 61,196 parameters are trainable; the others are frozen." in captured.out
    assert "assumed" not in captured.err
    assert run(["describe", "--stage", "finetune"]) == 0
    captured = capsys.readouterr()
    assert "All parameters are trainable." in captured.out
    assert "10 classes are assumed, since there is no data/packed/train" in captured.err


def test_the_matrix_of_a_layer_is_drawn(capsys):
    assert run(["describe", "model", "--matrix", "conv2", "--output", "new/m.png"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("extractor.conv2: 1,600 x 1,176 entries, of which 240,000 (12.76%)")
    with Image.open("new/m.png") as picture:
        assert min(picture.size) > 1176


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere is not a model bundle"),
        (["model", "--height", "3"], "does not take images of 3 x 28 px"),
        (["model", "--height", "9" * 9, "--width", "9" * 9], "takes more memory than there is"),
        (["model", "--height", "0"], "0 is not in the range"),
        (["model", "--classes", "3"], "a bundle has its own"),
        (["model", "--output", "a.png"], "--output is for the picture of --matrix"),
        (["model", "--matrix", "conv1"], "--matrix needs the name of a .png file"),
        (
            ["model", "--matrix", "conv1", "--output", "a.jpg"],
            "expected a name that ends in .png, got '.jpg'",
        ),
        (["model", "--matrix", "conv9", "--output", "a.png"], "no convolution 'conv9'"),
        (
            ["model", "--matrix", "conv1", "--output", "model/bundle.json/a.png"],
            "model/bundle.json",
        ),
        (
            ["model", "--width", "40", "--matrix", "conv1", "--output", "a.png"],
            "the limit of a picture is 5,000",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, capsys):
    assert run(["describe", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert expected in err
    assert not Path("a.png").exists()
