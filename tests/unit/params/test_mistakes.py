"""What is said of each kind of mistake."""

import copy
import math
from functools import reduce
from pathlib import Path

import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.params import load_params
from tests.contract.imports import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())
SCHEDULES = "constant, cosine, step or one_cycle"
WORKERS = "a whole number from 1, or two as [fewest, most]"
MAPPING = "a mapping of keys to values"


def said_of(key, value):
    """Return what is said when one value of params.yaml is another."""
    changed = copy.deepcopy(RAW)
    *sections, last = key.split(".")
    section = reduce(lambda values, name: values[name], sections, changed)
    if value is ...:
        del section[last]
    else:
        section[last] = value
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(PipelineError) as caught:
        load_params(Path("p.yaml"))
    return str(caught.value).removeprefix("p.yaml: ")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.optimizer.lr", True, "got true, need a valid number"),
        ("train.optimizer.lr", 0, "got 0, need more than 0"),
        ("train.optimizer.momentum", 1.0, "got 1.0, need less than 1"),
        ("train.epochs", 3.5, "got 3.5, need a valid integer"),
        ("train.epochs", "30", 'got "30", need a valid integer'),
        ("train.weights", [1], "got [1], need a valid string"),
        ("train.weights", "", 'got "", need at least 1 character'),
        ("index.max_bad_fraction", 2, "got 2, need at most 1"),
        ("sample.seed", -1, "got -1, need at least 0"),
        ("sample.seed", ..., "missing, add it"),
        ("pack.bit_depth", 7, "got 7, need auto, 8 or 16"),
        ("pack.channels", None, "got null, need 1 or 3"),
        ("embed.recall_at", [], "got [], need at least 1 item"),
        ("embed.recall_at", {"1": 1}, 'got {"1": 1}, need a list'),
        ("model.name", "lenet", "unknown network lenet, did you mean lenet5? (valid: "),
        ("train.schedule.warmup_epochs", float("inf"), "got Infinity, need a finite number"),
        ("train.schedule.warmup_epochs", -1, "got -1, need at least 0"),
        ("train.optimizer.lr", 1e300, "got 1e+300, need at most 3e+38"),
        ("train.optimizer.weight_decay", 1e20, "got 1e+20, need at most 1000"),
        ("train.mixup_alpha", 1e20, "got 1e+20, need at most 1000"),
        ("pack.channels", True, "got true, need 1 or 3"),
        ("report.title", "a\0b", "holds 'a\\x00b', need text without control characters"),
        ("train.schedule.name", ..., f"missing, add {SCHEDULES}"),
        ("train.optimizer.lr", ..., "missing, add it"),
        ("train.optimizer", None, "got null, need a mapping with name: sgd, adamw or muon"),
        ("train.epochs", 99999999999999999999, "got 99999999999999999999, need at most 2147483647"),
        ("model.args", None, f"got null, need {MAPPING}"),
        ("train", "short", f'got "short", need {MAPPING}'),
        ("register.name", "a b", 'got "a b", need letters, digits and then also _ . -'),
        ("register.alias", "1", 'got "1", need a letter, then letters, digits, _ or -'),
        ("register.alias", "latest", "latest means a version to MLflow, take another"),
        ("register.alias", "v3", "v3 means a version to MLflow, take another"),
        (
            "register.alias",
            "previous",
            "previous is an alias that Convoy sets itself, take another",
        ),
        ("resources.addres", None, "unknown key, did you mean address?"),
        ("repot", {}, "unknown key, did you mean report?"),
    ],
)
def test_each_mistake_names_key_value_and_need(key, value, expected):
    said = said_of(key, value)
    assert said.startswith(f"{key}: {expected}")
    assert "; " not in said


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "Infinity"), (math.nan, "NaN")])
def test_arguments_are_finite(value, shown):
    said = said_of("train.augment", [{"hflip": {"p": value}}])
    assert said == f"train.augment[0].hflip.p: got {shown}, need a number from 0 to 1"
    said = said_of("balance.policy", [{"Rotate": {"limit": [-1, value]}}])
    assert said == (
        f"balance.policy[0].Rotate.limit: got [-1, {shown}], need a number, or [low, high] with"
        " low <= high"
    )


def test_values_that_do_not_go_together_are_told_by_section():
    assert said_of("split.val", 0.8) == "split: val + test is 1.05, need less than 1"
    assert said_of("split.group_from", "(a") == (
        "split.group_from: '(a' is no regular expression (missing ), unterminated subpattern at"
        " position 0), repair it"
    )
    assert said_of("train.trainable", "head").startswith("train: trainable: head on weights: null")
    contrast = {"name": "prototypes"}
    assert said_of("finetune.contrast", contrast) == (
        "finetune: contrast: prototypes with mixup_alpha or cutmix_alpha: a mixture of two classes"
        " has no prototype; set both to 0, or contrast.name: none"
    )
    assert said_of("train.schedule.warmup_epochs", 61) == (
        "train: schedule.warmup_epochs: 61 is more than epochs: 60, the peak rate would never be"
        " reached"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"name": "cosin", "warmup_epochs": 1},
            [f'.name: got "cosin", need {SCHEDULES}, did you mean cosine?'],
        ),
        ({"warmup_epochs": 1}, [f".name: missing, add {SCHEDULES}"]),
        ({"name": None}, [f".name: got null, need {SCHEDULES}"]),
        ({"name": ["step"]}, [f'.name: got ["step"], need {SCHEDULES}']),
        ("cosine", [f': got "cosine", need a mapping with name: {SCHEDULES}']),
        (None, [f": got null, need a mapping with name: {SCHEDULES}"]),
        (
            {"name": "cosine", "warmup": 1},
            [".warmup: unknown key, did you mean warmup_epochs?"],
        ),
        ({"name": "one_cycle", "rise": 1.0}, [".rise: got 1.0, need less than 1"]),
        (
            {"name": "one_cycle", "rise": 0.3, "steps": []},
            [".steps: unknown key, valid: name, rise"],
        ),
        (
            {"name": "step", "warmup_epochs": "x", "milestones": [0.5, 1.2], "factor": 2},
            [
                '.warmup_epochs: got "x", need a valid number',
                ".milestones[1]: got 1.2, need less than 1",
                ".factor: got 2, need at most 1",
            ],
        ),
    ],
)
@pytest.mark.parametrize("stage", ["train", "finetune"])
def test_mistakes_in_a_section_whose_name_says_its_keys(stage, value, expected):
    said = said_of(f"{stage}.schedule", value)
    assert said.split("; ") == [f"{stage}.schedule{mistake}" for mistake in expected]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("loss", {"name": "focal", "gamma": 1.0, "start": 1.0}, "start: got 1.0, need less than 1"),
        ("loss", {"name": "focal", "gamma": -1, "start": 0.5}, "gamma: got -1, need at least 0"),
        ("loss", {"name": "cross_entropy", "begin": 0.5}, "begin: unknown key, valid: name"),
        ("sampler", {"name": "natural", "tau": 0.5}, "tau: unknown key, valid: name"),
        ("sampler", {"name": "balanced", "start": 1}, "start: got 1, need less than 1"),
    ],
)
def test_mistakes_in_losses_and_samplers(key, value, expected):
    assert said_of(f"train.{key}", value) == f"train.{key}.{expected}"


@pytest.mark.parametrize("value", ["zero", 0, 1.5, True, None, [1], [0, 2], [1, 2, 3], {"a": 1}])
def test_wrong_workers_are_told_once_with_both_forms(value):
    said = said_of("resources.workers", value)
    assert said.startswith("resources.workers: got ")
    assert said.endswith(f", need {WORKERS}")
    assert said.count("resources.workers") == 1


def test_workers_from_most_to_fewest():
    assert (
        said_of("resources.workers", [4, 1])
        == "resources.workers: got [4, 1], need [fewest, most], in this order"
    )


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), ("aut", '"aut"'), (1.5, "1.5")])
def test_wrong_threads_are_told_once_with_both_forms(value, shown):
    assert (
        said_of("resources.threads", value)
        == f"resources.threads: got {shown}, need auto or a whole number from 1"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "balance.policy",
            [{"Perspectiv": {}}, {"Affine": {"rotat": 1}}],
            [
                "balance.policy[0]: unknown transform Perspectiv, did you mean Perspective?",
                "balance.policy[1].Affine.rotat: unknown key, did you mean rotate?",
            ],
        ),
        (
            "balance.per_class",
            {"a": [{"Affine": {}}, {"Blur": {}}], "str": [{"Affine": {"q": 1}}]},
            [
                "balance.per_class.a[1]: unknown transform Blur",
                "balance.per_class.str[0].Affine.q: unknown key, valid: scale, translate_percent,",
            ],
        ),
        ("tta.views", [{"identiti": {}}], ["tta.views[0]: unknown view identiti, did you mean"]),
        (
            "tta.views",
            [{"rotate": {"degree": 7}}],
            [
                "tta.views[0].rotate.degrees: missing, add it",
                "tta.views[0].rotate.degree: unknown key, did you mean degrees?",
            ],
        ),
        ("tta.views", [{"identity": {}, "hflip": {}}], ["tta.views[0]: need one view per item"]),
        ("train.augment", ["hflip"], [f'train.augment[0]: got "hflip", need {MAPPING}']),
        ("train.augment", [{"hflip": None}], [f"train.augment[0].hflip: got null, need {MAPPING}"]),
        ("train.augment", [{"hflop": {}}], ["train.augment[0]: unknown augmentation hflop, did"]),
        ("embed.recall_at", [1, 10**10], ["embed.recall_at[1]: got 10000000000, need at most 21"]),
        ("embed.recall_at", [1, 0], ["embed.recall_at[1]: got 0, need at least 1"]),
    ],
)
def test_mistakes_in_lists_name_the_item(key, value, expected):
    said = said_of(key, value).split("; ")
    assert len(said) == len(expected)
    for mistake, start in zip(said, expected, strict=True):
        assert mistake.startswith(start)


PAIR = "[low, high] with"
SIDES = "a number, [low, high], or four of the one or the other: top, right, bottom, left"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"Affine": {"rotate": "far"}},
            f'.rotate: got "far", need a number, or {PAIR} low <= high',
        ),
        (
            {"Affine": {"translate_percent": 0.1, "translate_px": 1}},
            ": translate_percent and translate_px do not go together, keep one",
        ),
        (
            {"Affine": {"scale": {"x": [0.9, 0]}}},
            '.scale: got {"x": [0.9, 0]}, need a number above 0, or [low, high] with 0 < low'
            " <= high, or these for each axis as {x: ..., y: ...}",
        ),
        ({"GaussNoise": {"std_range": [2, 3]}}, f".std_range: got [2, 3], need {PAIR} 0 <= low"),
        ({"HorizontalFlip": {"p": 1.5}}, ".p: got 1.5, need a number from 0 to 1"),
        ({"CropAndPad": {}}, ": needs px or percent, add one"),
        ({"CropAndPad": {"px": [3, 3]}}, f".px: got [3, 3], need {SIDES}"),
        ({"MedianBlur": {"blur_limit": 4}}, ".blur_limit: got 4, need an odd whole number of at"),
        ({"Rotate": {"crop_border": 1}}, ".crop_border: got 1, need true or false"),
        ({"Rotate": {"rotate_method": "box"}}, '.rotate_method: got "box", need largest_box or'),
        ({"Rotate": {"fill": 256}}, ".fill: got 256, need a number from 0 to 255, or one for each"),
        ({"Superimpose": {"weight": 0.2}}, f".weight: got 0.2, need {PAIR} 0 <= low <= high <= 1"),
        ({"Superimpose": {"weight": [0.2, 3]}}, f".weight: got [0.2, 3], need {PAIR} 0 <= low"),
        ({"Superimpose": {"p": 7}}, ".p: got 7, need a number from 0 to 1"),
        ({"ISONoise": {}}, ": needs colour, but pack.channels is 1; leave it out or set pack.chan"),
    ],
)
@pytest.mark.parametrize(
    "key", ["balance.policy", "balance.per_class.3", "tta.views[0].random.policy"]
)
def test_mistakes_in_policies(key, item, expected):
    policy = [{"HorizontalFlip": {}}, item]
    if key == "balance.policy":
        said = said_of(key, policy)
    elif key == "balance.per_class.3":
        said = said_of("balance.per_class", {"3": policy})
    else:
        said = said_of("tta.views", [{"random": {"draws": 1, "policy": policy}}])
    place = f"{key}[1].{next(iter(item))}"
    assert said.startswith(f"{place}{expected}")
    assert f"; {key.partition('.')[0]}" not in said


@pytest.mark.parametrize("stage", ["train", "finetune"])
def test_what_does_not_suit_the_packed_images_is_found_on_loading(stage):
    color = {"brightness": 0.1, "saturation": 0.4, "hue": 0.2}
    said = said_of(f"{stage}.augment", [{"hflip": {}}, {"crop": {"padding": 15}}, {"color": color}])
    assert said.split("; ") == [
        f"{stage}.augment[1].crop.padding: got 15, need a whole number from 0 to 14",
        f"{stage}.augment[2].color.saturation: got 0.4, need 0, for the images have one channel",
        f"{stage}.augment[2].color.hue: got 0.2, need 0, for the images have one channel",
    ]


def test_the_mistake_that_used_to_stop_a_worker():
    said = said_of("train.augment", [{"hflip": {}}, {"crop": {"padding": 0.1}}])
    assert said == "train.augment[1].crop.padding: got 0.1, need a whole number of at least 0"


def test_long_values_are_cut():
    said = said_of("train.images", "x" * 1000)
    assert said.startswith('train.images: got "xxx')
    assert len(said) < 150
