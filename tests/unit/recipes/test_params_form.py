import pytest
import yaml

from pipeline.params import load_params
from pipeline.recipes.params_form import in_words, params_form
from tests.contract.imports import ROOT


def test_the_text_is_what_params_yaml_states():
    params = load_params(ROOT / "params.yaml")
    sections = {name: params.section(name) for name in ("train", "finetune")}
    text = params_form(sections)
    assert yaml.safe_load(text) == {"recipe": params.section("recipe"), **sections}
    assert "  optimizer: {name: adamw, " in text
    assert text.index("recipe:") < text.index("train:") < text.index("finetune:")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(45.4, "45 s"), (119.0, "119 s"), (125.0, "2.1 min"), (630.0, "10 min"), (8000.0, "2.2 h")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words
