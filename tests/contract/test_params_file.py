"""params.yaml holds every key that the typed params know, and no other."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.params import Params, load_params
from pipeline.params._networks import NETWORKS
from pipeline.vision.networks import BUILDERS
from tests.contract.imports import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())


def _typed_keys(section: type[BaseModel], prefix: str = "") -> set[str]:
    keys = set()
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        keys.add(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= _typed_keys(field.annotation, f"{key}.")
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
    typed = _typed_keys(Params)
    assert _yaml_keys(RAW, typed) == typed


def test_params_yaml_loads_to_the_values_it_states():
    loaded = load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)
    assert loaded == RAW


def test_no_param_has_a_default_outside_params_yaml():
    def fields(section):
        for field in section.model_fields.values():
            yield field
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from fields(field.annotation)

    assert all(field.is_required() for field in fields(Params))


def test_every_network_that_params_accept_can_be_built():
    assert tuple(BUILDERS) == NETWORKS


@pytest.mark.parametrize("section", sorted(RAW))
def test_every_section_is_frozen(section):
    params = load_params(Path(ROOT / "params.yaml"))
    value = getattr(params, f"{section}_" if section == "register" else section)
    with pytest.raises(ValueError, match="frozen"):
        setattr(value, next(iter(type(value).model_fields)), 1)
