import hashlib
import json
import math

import pytest

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.description import (
    Description,
    Views,
    check_weights,
    read_description,
    rewrite_bundle,
    write_bundle,
)
from pipeline.vision.bundle.digest import bundle_digest

BF16 = Arithmetic("bf16", "channels_last")
POLICY = [{"Affine": {"rotate": [-5, 5], "p": 1.0}}]
VIEWS = Views(
    ({"identity": {}}, {"rotate": {"degrees": 7}}, {"random": {"draw": 0, "policy": POLICY}}),
    "geometric",
    3,
)


def described(**changes):
    preprocessing = Preprocessing(28, 28, 1, "pad", 7, 8)
    return Description(
        "lenet5", {}, ("cat", "dog"), preprocessing, (0.3,), (0.2,), {"data": "d"}, {}, **changes
    )


@pytest.fixture
def weights(tmp_path):
    """Stand in for weights: whoever describes does not read them."""
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path / "weights"


@pytest.fixture
def bundle(tmp_path, weights):
    write_bundle(tmp_path / "m", described(views=VIEWS, temperature=1.5, compute=BF16), weights)
    return tmp_path / "m"


def changed(bundle, change):
    """Write other values into bundle.json; those that are `...` are taken out."""
    path = bundle / "bundle.json"
    values = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


@pytest.mark.parametrize("views", [None, VIEWS])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("compute", [None, Arithmetic(), BF16])
def test_a_description_comes_back_as_it_was(tmp_path, weights, views, temperature, compute):
    description = described(views=views, temperature=temperature, compute=compute)
    write_bundle(tmp_path / "m", description, weights)
    assert read_description(tmp_path / "m") == description


def test_what_bundle_json_says(bundle):
    said = json.loads((bundle / "bundle.json").read_text())
    assert said["format"] == 4
    assert said["preprocessing"]["resize"] == "pad"
    assert said["compute"] == {"precision": "bf16", "memory_format": "channels_last"}
    assert said["temperature"] == 1.5
    assert said["views"] == {
        "items": [
            {"identity": {}},
            {"rotate": {"degrees": 7}},
            {"random": {"draw": 0, "policy": POLICY}},
        ],
        "mean": "geometric",
        "seed": 3,
    }


def test_views_that_are_drawn_are_known():
    assert VIEWS.are_random
    assert not Views(VIEWS.items[:2], "arithmetic", 0).are_random


def as_before(bundle, format_, **changes):
    """Write bundle.json as an earlier format had it."""
    values = json.loads((bundle / "bundle.json").read_text())
    preparing = {"preparing": values["preprocessing"], "preprocessing": ..., "compute": ...}
    before = {"weights_sha256": ..., **(preparing if format_ < 3 else {})}
    changed(bundle, {"format": format_, **before, **changes})


def test_a_bundle_of_format_1_sees_the_image_as_it_is(bundle):
    as_before(bundle, 1, views=..., temperature=...)
    assert read_description(bundle) == described()


def test_a_bundle_of_format_2_says_nothing_of_its_arithmetic(bundle, tmp_path):
    as_before(bundle, 2)
    expected = described(views=VIEWS, temperature=1.5)
    assert read_description(bundle) == expected
    # Rewritten, it has today's format.
    rewrite_bundle(bundle, tmp_path / "final", VIEWS, 1.5)
    assert json.loads((tmp_path / "final/bundle.json").read_text())["format"] == 4
    assert read_description(tmp_path / "final") == expected


def test_a_bundle_of_format_3_says_nothing_of_its_weights(bundle):
    as_before(bundle, 3)
    assert read_description(bundle) == described(views=VIEWS, temperature=1.5, compute=BF16)
    (bundle / "model.safetensors").write_bytes(b"others")
    check_weights(bundle)


def test_weights_are_those_that_were_written(bundle):
    check_weights(bundle)
    said = json.loads((bundle / "bundle.json").read_text())["weights_sha256"]
    assert said == hashlib.sha256(b"weights").hexdigest()
    (bundle / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(
        PipelineError, match=rf"is damaged or another's: .* bundle\.json has {said}"
    ):
        check_weights(bundle)
    (bundle / "model.safetensors").unlink()
    with pytest.raises(PipelineError, match=r"model\.safetensors is missing"):
        check_weights(bundle)


def test_a_rewritten_bundle_holds_the_same_weights(bundle, tmp_path):
    before = bundle_digest(bundle)
    rewrite_bundle(bundle, tmp_path / "final", None, 2.0)
    assert read_description(tmp_path / "final") == described(temperature=2.0, compute=BF16)
    assert (tmp_path / "final/model.safetensors").read_bytes() == b"weights"
    assert bundle_digest(bundle) == before != bundle_digest(tmp_path / "final")
    rewrite_bundle(tmp_path / "final", tmp_path / "back", VIEWS, 1.5)
    assert bundle_digest(tmp_path / "back") == before


def test_nothing_is_rewritten_where_no_bundle_is(tmp_path):
    with pytest.raises(PipelineError, match="is not a model bundle"):
        rewrite_bundle(tmp_path / "none", tmp_path / "final", None, 1.0)
    assert not (tmp_path / "final").exists()


@pytest.mark.parametrize("found", [99, 0, "2", None])
def test_a_bundle_of_another_format(bundle, found):
    changed(bundle, {"format": found})
    with pytest.raises(PipelineError, match=f"has format {found}, this Convoy reads 1 to 4"):
        read_description(bundle)


def views(**changes):
    return {
        "views": {"items": [{"hflip": {}}, {"vflip": {}}], "mean": "arithmetic", "seed": 0}
        | changes
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": ["a"]}, 'mean[0]: got "a", need a valid number'),
        ({"preprocessing": {}}, "preprocessing.height: missing"),
        ({"mean": [1e20]}, "mean[0]: got 1e+20, need at most 1"),
        ({"std": [2.0]}, "std[0]: got 2.0, need at most 1"),
        ({"weights_sha256": ...}, "weights_sha256: missing, add it"),
        ({"temperature": 0}, "temperature: got 0, need at least 0.01"),
        ({"temperature": 1e20}, "temperature: got 1e+20, need at most 100"),
        ({"temperature": -1.0}, "temperature: got -1.0, need"),
        ({"temperature": math.nan}, "temperature: got NaN, need"),
        ({"temperature": math.inf}, "temperature: got Infinity, need"),
        (
            {"temperature": "warm"},
            'temperature: got "warm", need a valid number',
        ),
        ({"temperature": None}, "temperature: got null"),
        ({"preprocessing": ...}, "preprocessing: missing, add it"),
        ({"compute": "bf16"}, "compute: got bf16, need the keys precision and memory_format"),
        ({"compute": {"precision": "bf16"}}, "compute: got {'precision': 'bf16'}, need the keys"),
        (
            {"compute": {"precision": "fp8", "memory_format": "channels_last"}},
            "compute: precision: got fp8, need fp32 or bf16",
        ),
        (
            {"compute": {"precision": ["fp32"], "memory_format": "channels_last"}},
            "compute: precision: got ['fp32'], need fp32 or bf16",
        ),
        ({"temperature": ...}, "temperature: missing, add it"),
        ({"views": ...}, "views: missing, add it"),
        ({"views": []}, "views: got []"),
        ({"views": {"items": [{"hflip": {}}]}}, "views.mean: missing, add it"),
        (views(items=[]), "views.items: got [], need at least 1 item"),
        (views(items="hflip"), 'views.items: got "hflip", need a list'),
        (views(items=[{"hflip": {}}, {"hflop": {}}]), "views.items[1]: unknown view hflop, did"),
        (
            views(items=[{"rotate": {"degrees": 720}}]),
            "views.items[0].rotate.degrees: got 720, need a number from -180 to 180",
        ),
        (
            views(items=[{"random": {"draws": 2, "policy": POLICY}}]),
            "views.items[0].random.draw: missing, add it",
        ),
        (
            views(items=[{"random": {"draw": 0, "policy": [{"Superimpose": {}}]}}]),
            "views.items[0].random.policy[0].Superimpose: blends in",
        ),
        (views(mean="harmonic"), 'views.mean: got "harmonic", need arithmetic or geometric'),
        (views(mean=[]), "views.mean: got [], need arithmetic or geometric"),
        (views(seed=-1), "views.seed: got -1, need at least 0"),
        (views(seed=True), "views.seed: got true, need"),
        (views(seed=1.0), "views.seed: got 1.0, need"),
    ],
)
def test_a_bundle_with_wrong_values(bundle, change, message):
    changed(bundle, change)
    with pytest.raises(PipelineError) as caught:
        read_description(bundle)
    said = str(caught.value)
    assert message in said
    assert str(bundle / "bundle.json") in said
    assert "\n" not in said


def test_damaged_description(bundle):
    (bundle / "bundle.json").write_text('{"format": 1, "netw')
    with pytest.raises(PipelineError, match=r"bundle\.json is damaged"):
        read_description(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [0.1, 0.2]}, "mean: got 2 values, need one for each of 1 channels"),
        ({"std": [0.0]}, "std[0]: got 0.0, need more than 0"),
        ({"classes": ["cat", "cat"]}, "classes: got 'cat' twice, need different names"),
        ({"classes": [0, 1]}, "classes[0]: got 0, need a valid string"),
        ({"colour": 1}, "colour: unknown key"),
        ({"args": [1]}, "args: got [1], need a mapping of keys to values"),
        ({"validation": {"loss": math.nan}}, "validation.loss: got NaN, need a finite number"),
        ({"origin": []}, "origin: got [], need a mapping"),
    ],
)
def test_values_that_would_be_found_out_late_are_refused(bundle, change, message):
    changed(bundle, change)
    with pytest.raises(PipelineError) as error:
        read_description(bundle)
    assert message in str(error.value)


def test_deep_nesting_is_damage(bundle):
    path = bundle / "bundle.json"
    path.write_text('{"format": 3, "args": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(PipelineError, match=r"bundle\.json is damaged"):
        read_description(bundle)
