import pickle

import pytest

from pipeline.errors import PipelineError
from pipeline.params import load_params
from tests.contract.imports import ROOT

TEXT = (ROOT / "params.yaml").read_text()


def mistakes(tmp_path, *changes):
    """Load params.yaml with pieces replaced and return the message."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError) as caught:
        load_params(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_all_mistakes_come_together(tmp_path):
    message = mistakes(
        tmp_path,
        ("epochs: 60", "epochs: 0"),
        ("  val: 0.15", "  vall: 0.15"),
        ("target: max ", "target: maxi "),
        ("name: lenet5", "name: lenet"),
        ("channels: 1 ", "channels: 2 "),
    )
    assert "train.epochs: got 0, need at least 1" in message
    assert "split.vall: unknown key, did you mean val?" in message
    assert "split.val: missing, add it" in message
    assert (
        'balance.target: got "maxi", need max, median, ratio or effective, did you mean max?'
        in message
    )
    assert "model.name: unknown network lenet, did you mean lenet5?" in message
    assert "pack.channels: got 2, need 1 or 3" in message


def test_a_number_with_an_exponent_is_a_number(tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT.replace("lr: 0.002", "lr: 2e-3"))
    assert load_params(tmp_path / "p.yaml").train.optimizer.lr == 0.002


@pytest.mark.parametrize(
    "model",
    [
        "  name: resnet18\n  args: {zero_init_residual: true}\n",
        "  name: plain\n  args: {blocks: [{filters: 2, kernel: 3, pool: {kind: max, size: 2}}]}\n",
    ],
)
def test_params_travel_to_other_processes(tmp_path, model):
    text = TEXT.replace("  name: lenet5\n  args: {}\n", model)
    assert text != TEXT
    (tmp_path / "p.yaml").write_text(
        text.replace("- affine: {degrees: 10", "- crop: {}\n    - affine: {degrees: 10")
    )
    params = load_params(tmp_path / "p.yaml")
    assert pickle.loads(pickle.dumps(params)) == params


def test_a_key_given_twice(tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT + "\nmodel:\n  name: resnet20\n  args: {}\n")
    with pytest.raises(PipelineError, match=r"line \d+: the key 'model' is given twice; keep one"):
        load_params(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1", "expected sections such as 'data:', found list"),
        ("", "expected sections such as 'data:', found NoneType"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_files_that_are_no_params(tmp_path, content, expected):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(PipelineError, match=expected):
        load_params(tmp_path / "p.yaml")


def test_no_params_file(tmp_path):
    with pytest.raises(PipelineError, match="run convoy in the folder that holds it"):
        load_params(tmp_path / "none.yaml")
