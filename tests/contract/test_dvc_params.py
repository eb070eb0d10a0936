"""Changing a value in params.yaml makes exactly the stages that depend on it out of date.

DVC itself is asked, see `ask_dvc`.
"""

import json

import pytest
import yaml

from tests.contract.imports import ROOT

# What a change in a section re-runs at first; what depends on the outputs follows from there.
EXPECTED = {
    "data": {"sample", "index", "pack", "register"},
    "sample": {"sample"},
    "index": {"index"},
    "split": {"split"},
    "pack": {"pack"},
    "balance": {"balance"},
    "model": {"autotune", "start", "train", "finetune"},
    "recipe": {"balance", "autotune", "tta"},
    "start": {"start"},
    "train": {"autotune"},
    "finetune": {"autotune"},
    "baseline": {"baseline"},
    "evaluate": {"baseline", "evaluate", "tta", "register"},
    "tta": {"tta", "evaluate"},
    "localize": {"localize"},
    "embed": {"embed"},
    "inspect": {"inspect"},
    "register": {"register"},
    "report": {"report"},
    "retrain": set(),
    "resources": set(),
    "tracking": set(),
}
# What single values re-run beside.
ALSO = {
    ("train", "images"): {"start", "train"},
    ("register", "alias"): {"start"},
    ("register", "name"): {"start"},
    ("evaluate", "metric"): {"autotune"},
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def _changed(value):
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    return ["changed"] if value is None or isinstance(value, list) else {"changed": 1}


def _variants():
    """Yield section, key and the whole of params.yaml with that one value changed."""
    paths = {("data", "root"): "other", ("train", "images"): "data/balanced"}
    paths |= {("finetune", "images"): "data/packed/train", ("finetune", "weights"): "other"}
    for section, values in PARAMS.items():
        for key, value in values.items():
            changed = json.loads(json.dumps(PARAMS))
            changed[section][key] = paths.get((section, key), _changed(value))
            yield section, key, yaml.safe_dump(changed)


@pytest.fixture(scope="module")
def answers(ask_dvc):
    """What DVC says is out of date after each change."""
    variants = {f"{section}.{key}": {"params.yaml": text} for section, key, text in _variants()}
    return ask_dvc(variants | {"nothing": {}})


def test_nothing_changed_is_nothing_to_do(answers):
    assert answers["nothing"] == []


def test_every_section_is_expected():
    assert set(EXPECTED) == set(PARAMS)


@pytest.mark.parametrize(
    ("section", "key"), [(s, k) for s, values in PARAMS.items() for k in values]
)
def test_a_changed_value_reruns_the_stages_that_depend_on_it(answers, section, key):
    also = ALSO.get((section, key), set())
    assert set(answers[f"{section}.{key}"]) == EXPECTED[section] | also
