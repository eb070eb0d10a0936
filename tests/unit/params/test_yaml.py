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


@pytest.mark.parametrize("number", ["1:30", "1:30.5", "010", "1_0:00"])
def test_what_dvc_does_not_read_as_this_number_is_none(number):
    """YAML 1.1 takes 1:30 for 90, and 010 for 8; DVC reads YAML 1.2."""
    Path("p.yaml").write_text(TEXT.replace("epochs: 60", f"epochs: {number}"))
    with pytest.raises(PipelineError) as caught:
        load_params(Path("p.yaml"))
    assert str(caught.value) == f'p.yaml: train.epochs: got "{number}", need a valid integer'


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000", 1000), ("0", 0), ("+2", 2), ("2.", 2), (".5", 0.5), ("1e3", 1000), ("0x10", 16)],
)
def test_what_is_a_number(text, value):
    long = TEXT.replace("epochs: 60", "epochs: 1000")
    Path("p.yaml").write_text(long.replace("warmup_epochs: 1}", f"warmup_epochs: {text}}}"))
    assert load_params(Path("p.yaml")).train.schedule.warmup_epochs == value


@pytest.mark.parametrize(
    "step",
    ["[*{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}]", "{{<<: [*{0}, *{0}], a: *{0}}}"],
)
def test_aliases_of_aliases_are_refused_at_once(step):
    lines = ["l0: &l0 {x: 1}"]
    lines += [f"l{n}: &l{n} {step.format(f'l{n - 1}')}" for n in range(1, 40)]
    Path("p.yaml").write_text("\n".join(lines))
    with pytest.raises(PipelineError, match=r"by its aliases .*write lists and sections out$"):
        load_params(Path("p.yaml"))


def test_a_policy_may_be_shared_by_an_alias():
    text = TEXT.replace("  policy: ", "  policy: &gentle").replace(
        "{}            #", "{a: *gentle} #"
    )
    assert text.count("gentle") == 2
    Path("p.yaml").write_text(text)
    balance = load_params(Path("p.yaml")).balance
    assert balance.per_class["a"] == balance.policy
