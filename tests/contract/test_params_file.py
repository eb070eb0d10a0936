"""params.yaml states every value that the typed params know, and no other."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from pipeline.params import Params, load_params
from pipeline.params._types import Choice, Need
from pipeline.params.choices.networks import NETWORKS, Model
from pipeline.params.choices.transforms import Transform
from pipeline.vision.networks import BUILDERS
from tests.contract.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text()
RAW = yaml.safe_load(TEXT)


def _sections_in(annotation, notes=()) -> list[type[BaseModel]]:
    """Return the sections that a type may be: one, those of a choice, or none."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return _sections_in(inner, own)
    if chosen := [section for note in notes for section in getattr(note, "members", None) or ()]:
        return chosen
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _sections_of(field) -> list[type[BaseModel]]:
    return _sections_in(field.annotation, field.metadata)


def _all_sections(section=Params) -> set[type[BaseModel]]:
    """Return a section and all below it, with every branch of every union."""
    below = [s for field in section.model_fields.values() for s in _sections_of(field)]
    return {section}.union(*map(_all_sections, below))


def _names(section) -> tuple[str, ...]:
    """Return the words that the key `name` of a section takes, where they are a fixed few."""
    field = section.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _typed_keys(section, stated, prefix="") -> set[str]:
    """Return the keys that a section needs, in a union those of the branch that is named."""
    keys = set()
    for name, field in section.model_fields.items():
        key = field.alias or name
        keys.add(f"{prefix}{key}")
        branches = _sections_of(field)
        if len(branches) > 1:  # but for lists of items, whose keys are the user's
            chosen = stated[key].get("name") if isinstance(stated[key], dict) else None
            branches = [b for b in branches if chosen in _names(b)]
        for branch in branches:
            keys |= _typed_keys(branch, stated[key], f"{prefix}{key}.")
    return keys


def _yaml_keys(values: dict, typed: set[str], prefix: str = "") -> set[str]:
    keys = set()
    for name, value in values.items():
        key = f"{prefix}{name}"
        keys.add(key)
        # Below a free mapping, such as model.args, keys are the user's.
        if isinstance(value, dict) and any(known.startswith(f"{key}.") for known in typed):
            keys |= _yaml_keys(value, typed, f"{key}.")
    return keys


def test_params_yaml_and_the_typed_params_have_the_same_keys():
    typed = _typed_keys(Params, RAW)
    assert {"train.schedule.warmup_epochs", "finetune.sampler.name"} <= typed
    assert _yaml_keys(RAW, typed) == typed


def test_params_yaml_loads_to_the_values_it_states():
    loaded = load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)
    assert loaded == RAW


def _is_option(section) -> bool:
    """Say whether a name in the file chooses a section, or the section lies within such a one."""
    return (
        bool(_names(section)) or hasattr(section, "key") or section.__module__.endswith("networks")
    )


@pytest.mark.parametrize("section", sorted(_all_sections(), key=lambda s: s.__name__))
def test_only_options_of_named_choices_have_a_default_outside_params_yaml(section):
    defaults = {name for name, field in section.model_fields.items() if not field.is_required()}
    assert not defaults or _is_option(section)
    assert "name" not in defaults


@pytest.mark.parametrize("section", sorted(_all_sections(), key=lambda s: s.__name__))
def test_every_section_is_strict_and_knows_its_keys(section):
    config = section.model_config
    assert config["frozen"]
    assert config["strict"]
    assert config["extra"] == "forbid"


def test_params_yaml_names_every_branch():
    sections = _all_sections()
    names = {n for s in sections if not issubclass(s, Model) for n in _names(s)}
    keys = {s.key for s in sections if hasattr(s, "key") and not issubclass(s, Transform)}
    assert {"one_cycle", "focal", "square_root", "sgd"} <= names
    assert {"erase", "rotate", "random"} <= keys
    assert {name for name in names | keys if name not in TEXT} == set()


def test_unions_without_names_say_what_they_need():
    """Their branches cannot be told apart, so one description stands for all of them."""
    for section in _all_sections():
        for key, field in section.model_fields.items():
            branches = [part for part in get_args(field.annotation) if part is not type(None)]
            if get_origin(field.annotation) in (Union, UnionType) and len(branches) > 1:
                choosing = [n for n in field.metadata if isinstance(n, Choice | Need)]
                assert choosing, f"{section.__name__}.{key}"


def test_every_network_that_params_accept_can_be_built():
    assert tuple(BUILDERS) == tuple(NETWORKS)


@pytest.mark.parametrize("section", sorted(RAW))
def test_every_section_is_frozen(section):
    params = load_params(Path(ROOT / "params.yaml"))
    value = getattr(params, f"{section}_" if section == "register" else section)
    with pytest.raises(ValueError, match="frozen"):
        setattr(value, next(iter(type(value).model_fields)), 1)


def test_epochs_are_chosen_by_what_models_are_shipped_by():
    params = load_params(ROOT / "params.yaml")
    for training in (params.train, params.finetune):
        assert training.early_stopping.metric == params.evaluate.metric
