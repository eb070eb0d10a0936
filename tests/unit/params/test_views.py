"""Test-time augmentation in params.yaml: what is taken, and what is said of mistakes."""

import copy
from pathlib import Path

import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.params import MistakesError, load_params, parse
from pipeline.params.choices.views import Draw, Rotate, Shift, View
from tests.contract.imports import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())
POLICY = [{"Affine": {"rotate": [-5, 5]}}]


def loaded(**changes):
    """Load params.yaml with other values in its section tta."""
    changed = copy.deepcopy(RAW)
    changed["tta"] |= changes
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    return load_params(Path("p.yaml")).tta


def said_of(**changes):
    with pytest.raises(PipelineError) as caught:
        loaded(**changes)
    return str(caught.value).removeprefix("p.yaml: ")


ONE_OF_EACH = [
    {"identity": {}},
    {"hflip": {}},
    {"vflip": {}},
    {"shift": {"x": 0.5, "y": -0.5}},
    {"rotate": {"degrees": 180}},
    {"scale": {"factor": 0.25}},
    {"crop": {"share": 0.25, "x": -1, "y": 1.0}},
    {"random": {"draws": 3, "policy": POLICY}},
]


def test_each_view_is_taken():
    tta = loaded(views=ONE_OF_EACH)
    assert tta.views[3:5] == (Shift(x=0.5, y=-0.5), Rotate(degrees=180.0))
    assert tta.model_dump(mode="json")["views"] == ONE_OF_EACH


def test_a_number_of_views_counts_each_draw():
    assert loaded(views=ONE_OF_EACH, choose=10).choose == 10
    said = said_of(views=ONE_OF_EACH, choose=11)
    assert said == "tta.choose: got 11, but there are 10 views; list more of them"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("natural", "natural"), ("balanced", "balanced"), ("off", "off"), ("false", "off")],
)
def test_what_the_temperature_is_fitted_for(written, meant):
    """YAML reads off as false, so that false goes on meaning what it meant."""
    assert loaded(calibrate=yaml.safe_load(written)).calibrate == meant


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "all", None, []])
def test_what_is_no_choice(value):
    said = said_of(choose=value)
    assert said.startswith("tta.choose: got ")
    assert "need auto or a whole number from 1" in said


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("mean", "harmonic", 'tta.mean: got "harmonic", need arithmetic or geometric'),
        ("seed", -1, "tta.seed: got -1, need at least 0"),
        ("calibrate", "yes", 'tta.calibrate: got "yes", need natural, balanced or off'),
        ("calibrate", True, "tta.calibrate: got true, need natural, balanced or off; true meant"),
        ("views", [], "tta.views: got [], need at least 1 item"),
    ],
)
def test_wrong_settings(key, value, expected):
    assert said_of(**{key: value}).startswith(expected)


SHARE = "need a number from 0.25 to 1"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"shift": {"x": 0.1}}, ".shift.y: missing, add it"),
        ({"shift": {"x": 0.1, "y": 0.6}}, ".shift.y: got 0.6, need a number from -0.5 to 0.5"),
        ({"rotate": {"degrees": 200}}, ".rotate.degrees: got 200, need a number from -180 to 180"),
        ({"rotate": {"degrees": "7"}}, '.rotate.degrees: got "7", need a number'),
        ({"scale": {"factor": 0}}, ".scale.factor: got 0, need a number from 0.25 to 4"),
        ({"scale": {"factor": True}}, ".scale.factor: got true, need a number"),
        ({"crop": {"share": 1.1, "x": 0, "y": 0}}, f".crop.share: got 1.1, {SHARE}"),
        ({"crop": {"share": 0.9, "x": 2, "y": 0}}, ".crop.x: got 2, need a number from -1 to 1"),
        (
            {"crop": {"share": 0.9, "x": 0, "y": 0, "z": 1}},
            ".crop.z: unknown key, valid: share, x, y",
        ),
        ({"crop": {}}, ".crop.share: missing, add it"),
        ({"identity": {"x": 1}}, ".identity.x: unknown key, valid: none"),
        ({"crup": {}}, ": unknown view crup, did you mean crop? (valid: identity, hflip, "),
        ({}, ": need one view per item, found none"),
        ({"hflip": {}, "vflip": {}}, ": need one view per item, found "),
        ({"random": {"draws": 4}}, ".random.policy: missing, add it"),
        (
            {"random": {"draws": 0, "policy": POLICY}},
            ".random.draws: got 0, need a whole number from 1 to 100",
        ),
        ({"random": {"draws": 2.0, "policy": POLICY}}, ".random.draws: got 2.0, need a whole"),
        ({"random": {"draws": True, "policy": POLICY}}, ".random.draws: got true, need a whole"),
        (
            {"random": {"draw": 0, "draws": 1, "policy": POLICY}},
            ".random.draw: unknown key, did you mean draws?",
        ),
        (
            {"random": {"draws": 1, "policy": []}},
            ".random.policy: got [], need at least 1 item",
        ),
        ({"random": {"draws": 1, "policy": "Affine"}}, '.random.policy: got "Affine", need a list'),
        (
            {"random": {"draws": 1, "policy": [*POLICY, "Rotate"]}},
            '.random.policy[1]: got "Rotate", need a mapping of keys to values, such as',
        ),
        (
            {"random": {"draws": 1, "policy": [{"Affine": None}]}},
            ".random.policy[0].Affine: got null, need a mapping of keys to values",
        ),
        (
            {"random": {"draws": 1, "policy": [{"Affin": {}}]}},
            ".random.policy[0]: unknown transform Affin, did you mean Affine?",
        ),
        (
            {"random": {"draws": 1, "policy": [{"Affine": {"rotat": 1}}]}},
            ".random.policy[0].Affine.rotat: unknown key, did you mean rotate?",
        ),
        (
            {"random": {"draws": 1, "policy": [*POLICY, {"Superimpose": {}}]}},
            ".random.policy[1].Superimpose: blends in training images of the class",
        ),
    ],
)
def test_wrong_views_are_told_with_their_place(item, message):
    assert said_of(views=[{"identity": {}}, item]).startswith(f"tta.views[1]{message}")


def test_all_mistakes_come_together():
    wrong = [{"shift": {"x": 2, "y": 2}}, {"random": {"draws": 0, "policy": 7}}]
    said = said_of(views=wrong, mean="no").split("; ")
    assert [each.partition(": ")[0] for each in said] == [
        "tta.mean",
        "tta.views[0].shift.x",
        "tta.views[0].shift.y",
        "tta.views[1].random.policy",
        "tta.views[1].random.draws",
    ]


def carried(items):
    return parse(tuple[View, ...], items)


def test_the_views_of_a_bundle_are_draws_one_by_one():
    (draw,) = carried([{"random": {"draw": 0, "policy": POLICY}}])
    assert draw == Draw(draw=0, policy=draw.policy)
    with pytest.raises(MistakesError) as caught:
        carried(ONE_OF_EACH)
    assert caught.value.args == (
        "[7].random.draw: missing, add it",
        "[7].random.draws: unknown key, did you mean draw?",
    )


@pytest.mark.parametrize("item", [None, [], "identity", 3, {"rotate": None}, {"rotate": [7]}])
def test_what_is_no_view_of_a_bundle(item):
    with pytest.raises(MistakesError) as caught:
        carried([{"hflip": {}}, item])
    (mistake,) = caught.value.args
    assert mistake.startswith("[1]")
