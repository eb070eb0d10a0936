import pytest

from pipeline.errors import PipelineError
from pipeline.params import load_params
from tests.contract.imports import ROOT

SHIPPED = "checkpoints: best "


def load(tmp_path, value):
    text = (ROOT / "params.yaml").read_text()
    assert SHIPPED in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(SHIPPED, f"checkpoints: {value} "))
    return load_params(path).tracking.checkpoints


@pytest.mark.parametrize("value", ["best", "improved", "off", '"off"', "false"])
def test_which_checkpoints_are_kept(tmp_path, value):
    """YAML reads an unquoted off as false."""
    assert load(tmp_path, value) == ("off" if value == "false" else value.strip('"'))


@pytest.mark.parametrize("value", ["all", "true", "3"])
def test_another_choice_is_refused(tmp_path, value):
    with pytest.raises(PipelineError, match=r"tracking\.checkpoints: .*best"):
        load(tmp_path, value)
