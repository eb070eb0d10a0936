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
        ("epochs: 30", "epochs: 0"),
        ("  val: 0.15", "  vall: 0.15"),
        ("target: max ", "target: maxi "),
        ("name: lenet5", "name: lenet"),
        ("channels: 1 ", "channels: 2 "),
    )
    assert "train.epochs: got 0, need at least 1" in message
    assert "split.vall: unknown key, did you mean val?" in message
    assert "split.val: missing, add it" in message
    assert (
        "balance.target: got \"maxi\", need 'max', 'median', 'ratio' or 'effective', did you mean"
        " max?" in message
    )
    assert "model.name: unknown network lenet, did you mean lenet5?" in message
    assert "pack.channels: got 2, need 1 or 3" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lr: 0.002", "lr: yes", "train.optimizer.lr: got true, need a valid number"),
        ("lr: 0.002", "lr: 0", "train.optimizer.lr: got 0, need more than 0"),
        ("epochs: 30", "epochs: 3.5", "train.epochs: got 3.5, need a valid integer"),
        ("epochs: 30", "epochs: '30'", 'train.epochs: got "30", need a valid integer'),
        ("momentum: 0.9", "momentum: 1.0", "train.optimizer.momentum: got 1.0, need less than 1"),
        ("max_bad_fraction: 0.1", "max_bad_fraction: 2", "got 2, need at most 1"),
        ("val: 0.15", "val: 0.8", "split: val + test is 1.05, need less than 1"),
        ("seed: 0\n  source", "seed: -1\n  source", "sample.seed: got -1, need at least 0"),
        ("weights: null", "weights: [1]", "train.weights: got [1], need a valid string"),
        ("Perspective:", "Perspectiv:", "unknown transform Perspectiv, did you mean Perspective?"),
        ("rotate: [-12", "rotat: [-12", "].Affine: unknown argument rotat, did you mean rotate?"),
        ("- identity: {}", "- identiti: {}", "tta.views[0]: unknown view identiti, did you mean"),
        ("- rotate: {degrees: 7}", "- rotate: {degree: 7}", "unknown argument degree, did you"),
        ("per_class: {}", "per_class: {a: [{Blur: {}}]}", "balance.per_class: a[0]: unknown"),
        ("address: null", "addres: null", "resources.addres: unknown key, did you mean address?"),
        ("warmup_epochs: 1", "warmup_epochs: .inf", "train.schedule.warmup_epochs: got"),
        ("alias: champion", "alias: latest", "register.alias: latest means a version to MLflow"),
        ("alias: champion", "alias: v3", "register.alias: v3 means a version to MLflow"),
        ("trainable: all", "trainable: head", "train: trainable: head on weights: null would"),
        ("report:\n", "repot:\n", "repot: unknown key, did you mean report?"),
    ],
)
def test_each_mistake_names_key_value_and_need(tmp_path, old, new, expected):
    assert expected in mistakes(tmp_path, (old, new))


def test_a_number_with_an_exponent_is_a_number(tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT.replace("lr: 0.002", "lr: 2e-3"))
    assert load_params(tmp_path / "p.yaml").train.optimizer.lr == 0.002


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
