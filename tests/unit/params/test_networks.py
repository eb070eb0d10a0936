import pytest

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.params.choices.networks import Block, Dense, Pool
from tests.contract.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text()


def load(tmp_path, model):
    text = TEXT.replace("  name: lenet5\n  args: {}\n", model)
    assert text != TEXT
    (tmp_path / "params.yaml").write_text(text)
    return load_params(tmp_path / "params.yaml")


def test_a_plain_network_is_a_pleasure_to_write(tmp_path):
    model = """\
  name: plain
  args:
    blocks:
      - {filters: 32, kernel: 3, batch_norm: true, pool: {kind: max, size: 3, stride: 2}}
      - {filters: 64, kernel: 3, padding: valid, activation: tanh, pool: none}
    dense:
      - {units: 128, dropout: 0.5}
"""
    args = load(tmp_path, model).model.args
    assert args.dense == (Dense(units=128, dropout=0.5),)
    assert args.blocks[0].pool == Pool(kind="max", size=3, stride=2)
    assert args.blocks[1] == Block(filters=64, kernel=3, padding="valid", activation="tanh")


def test_mistakes_in_the_arguments_are_told_before_anything_runs(tmp_path):
    model = """\
  name: plain
  args: {blocks: [{filters: 32, kernal: 3}], dense: [{units: 0}]}
"""
    with pytest.raises(PipelineError) as caught:
        load(tmp_path, model)
    told = str(caught.value).partition(": ")[2].split("; ")
    assert told == [
        "model.args.blocks[0].kernel: missing, add it",
        "model.args.blocks[0].kernal: unknown key, did you mean kernel?",
        "model.args.dense[0].units: got 0, need a whole number of at least 1",
    ]


def test_arguments_that_the_network_does_not_have(tmp_path):
    with pytest.raises(PipelineError, match=r"model\.args\.dropout: unknown key, valid: none"):
        load(tmp_path, "  name: resnet20\n  args: {dropout: 0.5}\n")
