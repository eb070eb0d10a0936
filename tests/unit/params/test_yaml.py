"""YAML that is well formed and still no params."""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.params import load_params
from tests.contract.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("? [a, b]\n: 1", r"^params\.yaml line 1: a list or section as a key, expected a word"),
        ("a: {? {b: c} : 1}", r"^params\.yaml line 1: a list or section as a key, expected a word"),
        ("2020-01-01: 1", r"2020-01-01: unknown key, valid: data, "),
        ("a: 2020-13-45", r"^p\.yaml is not valid YAML: month must be in 1\.\.12"),
        ("a: &x [*x]", r"^p\.yaml is not valid YAML: Circular reference"),
        ("a: &x {b: *x}", r"^p\.yaml is not valid YAML: Circular reference"),
        ("a: " + "[" * 2000 + "]" * 2000, r"^p\.yaml: lists or sections are nested too deeply"),
        ("a: " + "[" * 300 + "]" * 300, r"^p\.yaml: "),
    ],
)
def test_strange_yaml_is_refused_in_one_line(content, expected):
    Path("p.yaml").write_text(content)
    with pytest.raises(PipelineError, match=expected):
        load_params(Path("p.yaml"))


@pytest.mark.parametrize("name", ["007", "2020-01-01", "yes", "null", "1e3"])
def test_a_class_may_be_called_like_a_number_or_a_date(name):
    text = TEXT.replace("per_class: {}", f"per_class: {{{name}: []}}")
    assert text != TEXT
    Path("p.yaml").write_text(text)
    assert list(load_params(Path("p.yaml")).balance.per_class) == [name]


def test_sections_may_be_merged():
    text = TEXT.replace("per_class: {}", "per_class: {<<: {a: []}, b: []}")
    Path("p.yaml").write_text(text)
    assert set(load_params(Path("p.yaml")).balance.per_class) == {"a", "b"}
